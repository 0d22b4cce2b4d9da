# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm data`: prepare, info, preview."""

from collections.abc import Sequence
from typing import Any

from jvlm.config import load, to_dict
from jvlm.data.describe import survey
from jvlm.data.images import BadRecord
from jvlm.data.named import open_named
from jvlm.data.preview import cell_of, draw, font_for, save
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


def info(name: str, *, sample: int | None = 1000, **options: Any) -> dict[str, Any]:
    """What is known of a data set, and what a look at examples tells.

    Args:
      name: see `open_named`.
      sample: examples that are read, evenly spaced; None is all.
      **options: of `open_named`.

    Returns:
      `Named.facts` with `sample`, what `survey` gives.
    """
    if sample is not None and sample < 1:
        raise UserError(f"--sample {sample}: read at least 1 example")
    named = open_named(name, **options)
    return {"kind": named.kind, **named.facts, "sample": survey(named.parts, sample)}


def preview(
    name: str, *, count: int, out: str, font: str | None = None, **options: Any
) -> list[str]:
    """Writes a contact sheet of a data set's first examples.

    Args:
      name: see `open_named`.
      count: examples of each split or member.
      out: image file.
      font: font file; default one of this machine that has the letters.
      **options: of `open_named`.

    Returns:
      lines that say what could not be shown.
    """
    if count < 1:
        raise UserError(f"--count {count}: show at least 1 example")
    cells, notes = [], []
    for part, source in open_named(name, **options).parts.items():
        names = getattr(source, "class_names", None)
        for index in range(min(count, len(source))):
            try:
                cells.append(cell_of(source[index], names))
            except BadRecord as error:
                notes.append(f"{part} {index}: {error}")
    if not cells:
        raise UserError(f"data set {name}: nothing to show: {notes[0]}")
    texts = [text for cell in cells for text, _ in cell.lines]
    texts += [text for cell in cells for picture in cell.pictures for _, text in picture.boxes]
    chosen, missing = font_for(texts, font)
    if missing:
        notes.append(f"no font of this machine has {missing}: give one, --font FILE")
    save(draw(cells, columns=4, side=280, font=chosen), out)
    return notes


def _tfds_sources(section: Any) -> list[dict]:
    """Every `source` of kind 'tfds' in a config."""
    if isinstance(section, list):
        return [source for entry in section for source in _tfds_sources(entry)]
    if not isinstance(section, dict):
        return []
    if section.get("kind") == "tfds":
        return [section]
    return [source for entry in section.values() for source in _tfds_sources(entry)]
