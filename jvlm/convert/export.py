# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""A model as the files of a published format."""

import dataclasses
import json
import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from jvlm import adapters, paths
from jvlm.config import from_dataclass
from jvlm.convert import engine, openai, peft, pickled
from jvlm.convert.families import HF_MODELS, PICKLED, HFFamily
from jvlm.convert.files import write_safetensors
from jvlm.convert.hf import preprocess_to_hf
from jvlm.errors import UserError, did_you_mean
from jvlm.models.clip import CLIPConfig

FORMATS = ("hf", "open_clip", *sorted({family.name for family in PICKLED.values()}), "peft")
# Fields without which a model with its weights computes the same.
UNSPOKEN = ("logit_scale_init", "temperature_init", "drop_path", "image_mean", "image_std")
DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def export(
    folder: Path,
    format: str,
    model: str,
    cfg: Any,
    params: Mapping,
    *,
    dtype: str = "float32",
    steps: Sequence | None = None,
    cleaning: Sequence = (),
    max_len: int | None = None,
    generation: Mapping[str, Any] | None = None,
    momentum: Callable[[], tuple[Mapping | None, Mapping]] = lambda: (None, {}),
) -> None:
    """Writes config, preprocessing and weights, one tensor at a time; 'peft' writes adapters only.

    Args:
      folder: to write into.
      format: one of `FORMATS`.
      model: key of `models.MODELS`.
      cfg: the model's config.
      params: nested dict.
      dtype: a key of `DTYPES`.
      steps: image transforms, or None.
      cleaning: text transforms, which only 'albef' and 'blip' keep.
      max_len: tokens of a text, where the model has a tokenizer.
      generation: content of generation_config.json; none is written where it is empty.
      momentum: () -> (the parameters' moving average or None, queues), see `pickled.export`.

    Raises:
      UserError: the format cannot express the model.
    """
    for value, options, what in ((format, FORMATS, "format"), (dtype, DTYPES, "dtype")):
        if value not in options:
            raise UserError(f"export: {what} {value!r} is unknown.{did_you_mean(value, options)}")
    own = PICKLED.get(model)
    formats = ("hf", "open_clip", "peft") if model in HF_MODELS else ()
    formats = (*([own.name] if own else []), *formats)
    if not formats:
        raise UserError(f"export: no format has {model} by itself")
    if format not in formats:
        raise UserError(f"format {format!r} has no {model}: export with format={formats[0]!r}")
    if format == "peft":
        return peft.export(folder, HF_MODELS[model].rules(cfg), params)
    changed = [what for what, where in adapters.forms(params).items() if where]
    if changed:
        what = {"lora": "adapters: merge_adapters(), or export format='peft'"}.get(
            changed[-1], "quantised weights, which no published format has: load without quantise="
        )
        raise UserError(f"export: the model has {what}")
    if own and format == own.name:
        length = max_len or own.read_as(cfg, None).max_len
        about = dict(preprocess=steps, cleaning=cleaning, max_len=length)
        return pickled.export(folder, own, cfg, params, DTYPES[dtype], *momentum(), **about)
    if format == "hf":
        family = HF_MODELS[model]
        what, rules, name = f"transformers' {model}", family.rules(cfg), "model.safetensors"
        cfg, params = _stated(family, cfg, params)
        content = _expressed(cfg, family.towers, family.to_hf, family.from_hf, what)
        files: dict[str, Any] = {"config.json": {**content, "dtype": dtype}}
        if generation:
            files["generation_config.json"] = dict(generation)
        if family.processor is not None and steps is not None and cfg.image_mean is not None:
            files["preprocessor_config.json"] = preprocess_to_hf(
                steps, cfg.image_mean, cfg.image_std, f"{family.processor}ImageProcessor"
            )
    elif not isinstance(cfg, CLIPConfig):
        raise UserError(f"open_clip has no {model}: export with format='hf'")
    else:
        what, rules, name = "open_clip", openai.openai_rules(cfg), "open_clip_model.safetensors"
        towers = (cfg.vision.kind, "transformer")
        section = _expressed(
            cfg, towers, openai.config_to_open_clip, openai.config_from_open_clip, what
        )
        pre = {} if cfg.image_mean is None else {"mean": cfg.image_mean, "std": cfg.image_std}
        pre.update(_resize_mode(steps))
        files = {"open_clip_config.json": {"model_cfg": section, "preprocess_cfg": pre}}
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content, indent=2) + "\n")
    write_safetensors(folder / name, engine.store(rules, params, DTYPES[dtype]), DTYPES[dtype])


def _stated(family: HFFamily, cfg: Any, params: Mapping) -> tuple[Any, Mapping]:
    """Moves what a format keeps in its config from the parameters to ours."""
    flat = paths.flatten(params)
    moved = {field: flat.pop(path) for path, field in family.in_config.items() if path in flat}
    stated = {field: float(np.asarray(value)) for field, value in moved.items()}
    return dataclasses.replace(cfg, **stated), paths.unflatten(flat)


def _expressed(
    cfg: Any,
    towers: tuple[str, ...],
    write: Callable[[Any], dict],
    read: Callable[[Mapping], Any],
    what: str,
) -> dict[str, Any]:
    """A config in a format's words, which must mean the same model when read again.

    Whatever the format cannot say would otherwise be lost without a word.
    """
    kinds = (cfg.vision.kind, cfg.text.kind) if towers else ()
    if kinds != towers:
        raise UserError(
            f"{what} has the towers {' and '.join(towers)}, the model {' and '.join(kinds)}: "
            "jvlm's own form (save, jvlm import) keeps every model"
        )
    content = write(cfg)
    ours, theirs = (_meaning(config) for config in (cfg, read(content)))
    lost = [
        f"{key}={ours[key]!r} (only {theirs[key]!r})" for key in ours if ours[key] != theirs[key]
    ]
    if lost:
        raise UserError(f"{what} cannot express {', '.join(lost)}")
    return content


def _meaning(cfg: Any) -> dict[str, Any]:
    """What decides the function that a model computes, once its weights are there."""
    flat = {}
    for key, value in paths.flatten(from_dataclass(cfg)).items():
        name = key.rpartition("/")[2]
        if name in UNSPOKEN or name.endswith("dropout"):
            continue
        flat[key] = value is not None if name == "logit_bias_init" else value
    if not isinstance(cfg, CLIPConfig):
        for name, default in (("decoder_depth", "depth"), ("num_kv_heads", "num_heads")):
            if name in flat:
                flat[name] = flat[name] or flat[default]
        for key in [key for key in flat if key.endswith("head_dim")]:
            sizes = (flat[key.removesuffix("head_dim") + name] for name in ("width", "num_heads"))
            flat[key] = flat[key] or operator.floordiv(*sizes)
        return flat
    if cfg.text.kind == "transformer" and cfg.text.pool != "eos":
        del flat["text/eos_id"]
    if cfg.vision.kind == "resnet":
        flat["vision/num_heads"] = cfg.vision.heads
    else:
        flat["vision/head_dim"] = cfg.vision.head_dim or cfg.vision.width // cfg.vision.num_heads
    return flat


def _resize_mode(steps: Sequence | None) -> dict[str, str]:
    """open_clip's word for the image transforms."""
    names = [name for name, _ in steps or ()]
    modes = {
        ("resize_center_crop",): "shortest",
        ("resize_shortest", "center_crop"): "shortest",
        ("resize_cover", "center_crop"): "shortest",
        ("resize_square",): "squash",
        ("resize",): "squash",
    }
    if steps is None:
        return {}
    if tuple(names) not in modes:
        raise UserError(f"open_clip has no word for the image steps {', '.join(names)}")
    resample = steps[0][1].get("resample", "bicubic")
    return {"resize_mode": modes[tuple(names)], "interpolation": resample}
