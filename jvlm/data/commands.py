# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm data`: prepare, info, preview."""

from pathlib import Path
from typing import Any

from jvlm.config import load, to_dict
from jvlm.data import images
from jvlm.data.images import BadRecord
from jvlm.data.preview import contact_sheet
from jvlm.data.sources import TFDSSource, find_builder
from jvlm.errors import UserError, did_you_mean

EMBEDDED = ("digit_scenes/small", "digit_scenes/full", "digit_scenes/tiny")


def prepare(name: str, data_dir: str | None = None) -> list[str]:
    """Makes embedded data sets, unless they are there.

    Args:
      name: a data set, or a config ('configs/clip/digits.py:test'): those that it reads.
      data_dir: default TFDS's.

    Returns:
      their folders.
    """
    from jvlm.data.builders import digit_scenes

    names = [name] if name in EMBEDDED else _named_in_config(name)
    try:
        return [str(digit_scenes.prepare(n.split("/")[1], data_dir).data_path) for n in names]
    except OSError as error:
        raise UserError(f"data set {name}: cannot be written: {error}") from None


def info(name: str, data_dir: str | None = None) -> dict[str, Any]:
    """Version, place, splits and features of a prepared data set."""
    builder = find_builder(name, data_dir)
    return {
        "name": name,
        "version": str(builder.version),
        "path": str(builder.data_path),
        "description": " ".join(builder.info.description.split()),
        "splits": {key: split.num_examples for key, split in builder.info.splits.items()},
        "features": {key: str(feature) for key, feature in builder.info.features.items()},
    }


def preview(name: str, split: str, data_dir: str | None, count: int, out: str) -> None:
    """Writes a contact sheet of a split's first images with their captions or labels."""
    source = TFDSSource(name, split, data_dir)
    examples = [source[index] for index in range(min(count, len(source)))]
    try:
        pictures = [images.decode(example["image"]) for example in examples]
    except (KeyError, BadRecord) as error:
        raise UserError(f"data set {name}: no images to show ({error})") from None
    sheet = contact_sheet(pictures, [_describe(example) for example in examples])
    try:
        sheet.save(Path(out))
    except (OSError, ValueError) as error:
        raise UserError(f"--out {out}: cannot be written: {error}") from None


def _named_in_config(spec: str) -> list[str]:
    """The embedded data sets that a config reads."""
    if ".py" not in spec:
        raise UserError(f"data set {spec!r} cannot be made here.{did_you_mean(spec, EMBEDDED)}")
    text = str(to_dict(load(spec)))
    return [name for name in EMBEDDED if repr(name) in text]


def _describe(example: dict[str, Any]) -> str:
    for key in ("captions", "caption", "text", "label"):
        if key in example:
            value = example[key]
            return str(value[0] if isinstance(value, list) else value)
    return ""
