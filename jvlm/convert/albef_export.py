# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""ALBEF's file as its own code writes it: whole, so that it loads with `strict=True`.

Its models hold more than their weights: a moving average (`_m`), queues, the numbers of positions,
and what two layers share under both names. The average is that of the run; without one it is the
weights, as at the beginning of the official training. Queues are the run's, or random as at the
beginning. What jvlm does not have because nothing reads it is zero: `text_proj` and `temp` of text
assignment, and the token types of LAVIS's models.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jvlm import paths
from jvlm.config import from_dataclass
from jvlm.convert import albef, engine, torch_file
from jvlm.convert.bert import FIELDS
from jvlm.convert.files import Shapes
from jvlm.convert.hf import fields_to_hf
from jvlm.errors import UserError

NAME = "albef.pth"
QUEUE = 65536  # configs/Pretrain.yaml `queue_size`.
NOBODY = -100  # models/model_retrieval.py `idx_queue`; any negative number of ours.
AVERAGED = (
    *("visual_encoder", "text_encoder", "text_decoder"),
    *("vision_proj", "text_proj", "cls_head"),
)
# Fields that are no shapes, and that the official code is told or does not need.
FREE = re.compile(
    r".*(num_heads|head_dim|dropout|_id|num_types|temperature_init|image_mean|image_std)"
    r"|(text|decoder)/(norm_eps|activation)"
)


class Entry(NamedTuple):
    """A tensor that is written."""

    shape: Sequence[int]
    dtype: Any
    make: Callable[[], np.ndarray]


def export(
    folder: Path,
    cfg: Any,
    params: Mapping,
    dtype: Any,
    average: Mapping | None,
    queues: Mapping,
    **about: Any,
) -> None:
    """Writes albef.pth; config_bert.json for the official code, config.json for jvlm.

    Args:
      folder: to write into.
      cfg: a config of `models.albef`.
      params: nested dict.
      dtype: of the tensors.
      average: moving averages of some or all of the parameters, or None.
      queues: as `objectives.albef` keeps them; empty for none.
      about: what config.json says besides.

    Raises:
      UserError: the official code has no such model.
    """
    weights, same = lay_out(cfg, params, dtype, average, queues)
    torch_file.write(folder / NAME, ((key, *entry) for key, entry in weights.items()), same)
    bert = fields_to_hf(cfg.text, FIELDS) | {
        "model_type": "bert",
        "type_vocab_size": 2,
        "num_hidden_layers": cfg.text.depth + cfg.fusion_depth,
        "fusion_layer": cfg.text.depth,
        "encoder_width": cfg.vision.width,
    }
    files = {"config_bert.json": bert, "config.json": {"model_type": cfg.kind, **about}}
    files["config.json"]["model"] = from_dataclass(cfg)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def lay_out(
    cfg: Any, params: Mapping, dtype: Any, average: Mapping | None, queues: Mapping
) -> tuple[dict[str, Entry], dict[str, str]]:
    """(key -> what is written, further key -> the one whose values it has); see `export`."""
    weights = _tensors(cfg, params, dtype)
    _check(cfg, weights)
    same = _copies(cfg, weights)
    if cfg.kind != "albef_classifier" or cfg.head == "mlp":
        twins = {key: _twin(key) for key in (*weights, *same) if key.split(".")[0] in AVERAGED}
        if average is None:
            same |= {twin: same.get(key, key) for key, twin in twins.items()}
        else:
            whole = paths.unflatten(paths.flatten(params) | paths.flatten(average))
            averages = _tensors(cfg, whole, dtype)
            same |= {twins[key]: twins[original] for key, original in same.items()}
            weights |= {twin: averages[key] for key, twin in twins.items() if key in averages}
    if cfg.kind == "albef":
        weights |= _queues(cfg, queues, dtype)
    return weights, same


def _check(cfg: Any, weights: Mapping[str, Entry]) -> None:
    """Raises UserError where the official code would make another model of the weights."""
    shapes = {key: tuple(entry.shape) for key, entry in weights.items()}
    theirs = albef.config_from_tensors(Shapes("the model", shapes))
    ours, theirs = (paths.flatten(from_dataclass(config)) for config in (cfg, theirs))
    lost = [
        f"{key}={ours[key]!r} (only {theirs.get(key)!r})"
        for key in ours
        if ours[key] != theirs.get(key) and not FREE.fullmatch(key)
    ]
    if lost:
        raise UserError(f"ALBEF's own code cannot express {', '.join(lost)}")


def _tensors(cfg: Any, params: Mapping, dtype: Any) -> dict[str, Entry]:
    """The weights, and what the official models hold besides."""
    table = engine.store(albef.rules(cfg), params, dtype)
    entries = {key: Entry(shape, dtype, make) for key, shape, make in table}
    zeros = lambda *shape: Entry(shape, dtype, lambda: np.zeros(shape))
    width = cfg.text.width
    for key in list(entries):
        stem, found, _ = key.partition(".word_embeddings.")
        if found:
            count = entries[f"{stem}.position_embeddings.weight"].shape[0]
            numbers = Entry((1, count), np.int64, lambda count=count: np.arange(count))
            entries[f"{stem}.position_ids"] = numbers
            entries.setdefault(f"{stem}.token_type_embeddings.weight", zeros(2, width))
    if cfg.kind == "albef_classifier" and cfg.head == "linear":
        unused = {"text_proj.weight": (cfg.embed_dim, width), "text_proj.bias": (cfg.embed_dim,)}
        entries |= {key: zeros(*shape) for key, shape in unused.items()} | {"temp": zeros()}
    return entries


def _copies(cfg: Any, keys: Iterable[str]) -> dict[str, str]:
    """Key -> the one whose values it has."""
    same = {}
    for key in keys:
        stem, found, _ = key.partition(".predictions.bias")
        if found:
            model = stem.removesuffix(".cls")
            same[f"{stem}.predictions.decoder.bias"] = key
            table = f"{model}.bert.embeddings.word_embeddings.weight"
            same[f"{stem}.predictions.decoder.weight"] = table
        if cfg.kind == "albef_classifier" and cfg.num_images == 2:
            match = re.fullmatch(
                r"(.*layer\.)(\d+)(\.crossattention\.self\.(?:key|value)\..*)", key
            )
            if match:
                same[f"{match[1]}{int(match[2]) - 1}{match[3]}"] = key
    return same


def _twin(key: str) -> str:
    """What a tensor's average is called."""
    first, _, rest = key.partition(".")
    return f"{first}_m.{rest}"


def _queues(cfg: Any, queues: Mapping, dtype: Any) -> dict[str, Entry]:
    """Features of earlier batches; retrieval keeps whose they are too."""
    size = len(queues["image"]) if queues else QUEUE

    def features(seed: int) -> np.ndarray:
        drawn = np.random.default_rng(seed).standard_normal((size, cfg.embed_dim), np.float32)
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

    def ids() -> np.ndarray:
        ids = np.asarray(queues.get("image_id", np.full((size, 1), NOBODY)))
        return np.where(ids < 0, NOBODY, ids)

    has = lambda name: name in queues
    make = {
        "image": (dtype, lambda: queues["image"] if has("image") else features(0)),
        "text": (dtype, lambda: queues["text"] if has("text") else features(1)),
        "pointer": (np.int64, lambda: queues.get("pointer", 0)),
    }
    shapes = {"image": (cfg.embed_dim, size), "text": (cfg.embed_dim, size), "pointer": (1,)}
    if not cfg.mlm:
        make["image_id"], shapes["image_id"] = (np.int64, ids), (1, size)
    return {
        albef.QUEUES[name]: Entry(shapes[name], kind, lambda make=make: np.asarray(make()).T)
        for name, (kind, make) in make.items()
    }
