# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tars of pictures with captions as img2dataset writes them, and folders of classes."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jvlm.data import images
from jvlm.data.importers.captions import CAPTIONS
from jvlm.data.importers.files import Files
from jvlm.data.importers.records import Blob, Dropped, Kind, Record
from jvlm.data.sources.tar_index import members, split_name, windowed
from jvlm.errors import UserError

_SPLITS = {"train": "train", "test": "test"}
_SPLITS |= dict.fromkeys(("val", "valid", "validation", "dev"), "validation")


def tars(files: Files) -> Iterator[Record | Dropped]:
    """WebDataset tars: files of equal name up to the first dot are a sample, and are neighbours."""
    for path in files.need("*.tar"):
        shard, split = files.relative(path), files.split(path)
        sample: dict[str, Any] = {}
        key, whole = None, False
        with open(path, "rb") as file:
            read = windowed(file.fileno())
            try:
                for _, name, start, size in members(read, os.path.getsize(path)):
                    whole = whole or not name
                    stem, ending = split_name(name)
                    if stem is None:
                        continue
                    if stem != key:
                        yield from _sample(shard, split, key, sample)
                        key, sample = stem, {}
                    if f".{ending}" in images.SUFFIXES:
                        sample.setdefault("image", Blob(str(path), start, size))
                    elif ending in ("txt", "caption"):
                        sample["text"] = read(start, size).decode(errors="replace").strip()
                    elif ending == "json":
                        sample["facts"] = _parse(read(start, size))
            except ValueError as error:
                yield Dropped(f"{shard} {error}", "damaged tar")
                whole = True
        yield from _sample(shard, split, key, sample)
        if not whole:
            yield Dropped(shard, "tar that ends too early")


def _parse(content: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(content)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _sample(
    shard: str, split: str, key: str | None, sample: dict[str, Any]
) -> Iterator[Record | Dropped]:
    if key is None:
        return
    name, facts = f"{shard}:{key}", sample.get("facts", {})
    written = (facts[name] for name in CAPTIONS if facts.get(name))
    captions = sample.get("text") or next(written, None)
    if "image" not in sample:
        yield Dropped(name, "no picture")
    elif not captions:
        yield Dropped(name, "no caption")
    else:
        values = {
            "captions": captions if isinstance(captions, list) else [captions],
            "image_id": facts.get("key") or os.path.basename(key),
            "url": facts.get("url"),
        }
        yield Record(split, name, values, (sample["image"],))


def folder(files: Files) -> Iterator[Record | Dropped]:
    """SRC/CLASS/PICTURE or SRC/SPLIT/CLASS/PICTURE."""
    for split, name, path in _pictures(files):
        relative = files.relative(path)
        if name:
            yield Record(split, relative, {"label": name}, (Blob(str(path)),))
        else:
            yield Dropped(relative, "in no folder of a class")


def class_names(files: Files) -> list[str]:
    """The classes of all splits, in sorted order."""
    return sorted({name for _, name, _ in _pictures(files) if name})


def _pictures(files: Files) -> Iterator[tuple[str, str, Path]]:
    """The (split, class, path) of each; class '' of one beside the folders."""
    if not files.root.is_dir():
        raise UserError(f"{files.root}: not a folder of classes")
    found = [path for path in files.find("*") if path.suffix.lower() in images.SUFFIXES]
    parts = [path.relative_to(files.root).parts for path in found]
    # One that lies beside the folders, such as a preview, tells nothing about them.
    inner = [part for part in parts if len(part) > 1]
    split_first = any(len(part) > 2 for part in inner) and all(p[0] in _SPLITS for p in inner)
    for path, part in zip(found, parts):
        folders = part[1:-1] if split_first else part[:-1]
        yield _SPLITS.get(part[0], "train") if split_first else "train", (*folders, "")[0], path


WEB = {
    "tars": Kind(tars, "captions", "*.tar of LAION, CC or img2dataset: jpg, txt, json of one name"),
    "folder": Kind(folder, "labelled", "CLASS/* or train/CLASS/*, val/CLASS/*", class_names),
}
