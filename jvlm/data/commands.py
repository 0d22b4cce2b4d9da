# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm data`: prepare, info, preview."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jvlm.config import load, to_dict
from jvlm.data import images
from jvlm.data.images import BadRecord
from jvlm.data.preview import contact_sheet
from jvlm.data.sources.tfds import TFDSSource, find_builder
from jvlm.errors import UserError, did_you_mean

EMBEDDED = ("digit_scenes/small", "digit_scenes/full", "digit_scenes/tiny")


def prepare(name: str, data_dir: str | None = None, overrides: Sequence[str] = ()) -> list[str]:
    """Makes embedded data sets, unless they are there.

    Args:
      name: a data set, or a config ('configs/clip/digits.py:test'): those that it reads.
      data_dir: default TFDS's, or what the config says.
      overrides: of the config.

    Returns:
      their folders.
    """
    from jvlm.data.builders import digit_scenes

    if name in EMBEDDED:
        wanted = [(name, data_dir)]
    elif name.startswith("digit_scenes"):
        raise UserError(f"data set {name!r} is unknown.{did_you_mean(name, EMBEDDED)}")
    else:
        sources = _tfds_sources(to_dict(load(name, overrides)))
        wanted = list(dict.fromkeys((s["name"], data_dir or s.get("data_dir")) for s in sources))
    made = [(n.split("/")[1], place) for n, place in wanted if n in EMBEDDED]
    try:
        return [str(digit_scenes.prepare(config, place).data_path) for config, place in made]
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
    if count < 1:
        raise UserError(f"--count {count}: show at least 1 image")
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


def _tfds_sources(section: Any) -> list[dict]:
    """Every `source` of kind 'tfds' in a config."""
    if isinstance(section, list):
        return [source for entry in section for source in _tfds_sources(entry)]
    if not isinstance(section, dict):
        return []
    if section.get("kind") == "tfds":
        return [section]
    return [source for entry in section.values() for source in _tfds_sources(entry)]


def _describe(example: dict[str, Any]) -> str:
    for key in ("captions", "caption", "text", "label"):
        if key in example:
            value = example[key]
            return str(value[0] if isinstance(value, list) else value)
    return ""
