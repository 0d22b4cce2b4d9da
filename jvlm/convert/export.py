# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""A model as the files of a published format."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from jvlm.convert import clip, engine
from jvlm.convert.files import write_safetensors
from jvlm.convert.hf import preprocess_to_hf
from jvlm.convert.published import HF_FAMILIES
from jvlm.errors import UserError, did_you_mean
from jvlm.models.clip import CLIPConfig

FORMATS = ("hf", "open_clip")
DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def export(
    folder: Path,
    format: str,
    model: str,
    cfg: CLIPConfig,
    params: Mapping,
    steps: Sequence | None,
    dtype: str,
) -> None:
    """Writes config, preprocessing and weights; the weights one tensor at a time.

    Args:
      folder: to write into.
      format: one of `FORMATS`.
      model: key of `models.MODELS`, which is transformers' model type.
      cfg: the model's config.
      params: nested dict.
      steps: image transforms, or None.
      dtype: a key of `DTYPES`.

    Raises:
      UserError: the format cannot express the model.
    """
    for value, options, what in ((format, FORMATS, "format"), (dtype, DTYPES, "dtype")):
        if value not in options:
            raise UserError(f"export: {what} {value!r} is unknown.{did_you_mean(value, options)}")
    if format == "hf":
        family = HF_FAMILIES[model]
        files: dict[str, Any] = {"config.json": {**family.to_hf(cfg), "dtype": dtype}}
        if steps is not None and cfg.image_mean is not None:
            files["preprocessor_config.json"] = preprocess_to_hf(
                steps, cfg.image_mean, cfg.image_std, family.processor
            )
        rules, name = family.rules, "model.safetensors"
    else:
        section = clip.config_to_open_clip(cfg)
        pre = {} if cfg.image_mean is None else {"mean": cfg.image_mean, "std": cfg.image_std}
        pre.update(_resize_mode(steps))
        files = {"open_clip_config.json": {"model_cfg": section, "preprocess_cfg": pre}}
        # open_clip builds towers with a bias as custom texts, whose keys have a prefix.
        rules, name = clip.openai_rules(cfg), "open_clip_model.safetensors"
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content, indent=2) + "\n")
    write_safetensors(folder / name, engine.store(rules, params, DTYPES[dtype]), DTYPES[dtype])


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
