# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tars of pictures with captions as img2dataset writes them, and folders of classes."""

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jvlm.data import images
from jvlm.data.importers.captions import CAPTIONS
from jvlm.data.importers.files import Files, split_of
from jvlm.data.importers.records import Blob, Dropped, Kind, Record
from jvlm.errors import UserError

_SPLITS = {"train": "train", "test": "test"}
_SPLITS |= dict.fromkeys(("val", "valid", "validation", "dev"), "validation")


def tars(files: Files) -> Iterator[Record | Dropped]:
    """WebDataset tars: files of equal name up to the first dot are a sample, and are neighbours."""
    for path in files.need("*.tar"):
        with open(path, "rb") as file:
            if file.read(2) == b"\x1f\x8b":
                raise UserError(f"{path}: is packed, and gives no place of a picture: gunzip it")
        sample: dict[str, Any] = {}
        key = None
        try:
            with tarfile.open(path, "r:") as tar:
                while (member := tar.next()) is not None:
                    tar.members = []  # It would keep all.
                    if not member.isfile() or os.path.basename(member.name).startswith("."):
                        continue
                    folder, _, name = member.name.rpartition("/")
                    stem, _, suffix = name.partition(".")
                    if key != (folder, stem):
                        yield from _sample(path, key, sample)
                        key, sample = (folder, stem), {}
                    _collect(sample, f".{suffix.lower()}", path, tar, member)
                yield from _sample(path, key, sample)
        except (tarfile.TarError, OSError) as error:
            yield from _sample(path, key, sample)
            yield Dropped(path.name, f"damaged tar ({error})")


def _collect(sample: dict, suffix: str, path: Path, tar: tarfile.TarFile, member) -> None:
    if suffix in images.SUFFIXES:
        sample.setdefault("image", Blob(str(path), member.offset_data, member.size))
    elif suffix in (".txt", ".caption", ".json"):
        text = tar.extractfile(member).read().decode(errors="replace")
        if suffix != ".json":
            sample["txt"] = text.strip()
            return
        try:
            sample["json"] = json.loads(text)
        except ValueError:
            sample["json"] = None


def _sample(path: Path, key: tuple[str, str] | None, sample: dict) -> Iterator[Record | Dropped]:
    if key is None or not sample:
        return
    name = f"{path.name}:{key[0]}/{key[1]}" if key[0] else f"{path.name}:{key[1]}"
    facts = sample.get("json") or {}
    facts = facts if isinstance(facts, dict) else {}
    written = (facts[name] for name in CAPTIONS if facts.get(name))
    captions = sample.get("txt") or next(written, None)
    if "image" not in sample:
        yield Dropped(name, "no picture")
    elif not captions:
        yield Dropped(name, "no caption")
    else:
        values = {
            "captions": captions if isinstance(captions, list) else [captions],
            "image_id": facts.get("key") or key[1],
            "url": facts.get("url"),
        }
        yield Record(split_of(path.stem), name, values, (sample["image"],))


def folder(files: Files) -> Iterator[Record | Dropped]:
    """SRC/CLASS/PICTURE or SRC/SPLIT/CLASS/PICTURE."""
    for split, name, path in _pictures(files):
        relative = str(path.relative_to(files.root))
        yield Record(split, relative, {"label": name}, (Blob(str(path)),))


def class_names(files: Files) -> list[str]:
    """The classes of all splits, in sorted order."""
    return sorted({name for _, name, _ in _pictures(files)})


def _pictures(files: Files) -> Iterator[tuple[str, str, Path]]:
    """The (split, class, path) of each."""
    if not files.root.is_dir():
        raise UserError(f"{files.root}: not a folder of classes")
    found = [path for path in files.find("*") if path.suffix.lower() in images.SUFFIXES]
    parts = [path.relative_to(files.root).parts for path in found]
    split_first = all(part[0] in _SPLITS and len(part) > 2 for part in parts)
    for path, part in zip(found, parts):
        if split_first:
            yield _SPLITS[part[0]], part[1], path
        elif len(part) > 1:
            yield "train", part[0], path


WEB = {
    "tars": Kind(tars, "captions", "*.tar of LAION, CC or img2dataset: jpg, txt, json of one name"),
    "folder": Kind(folder, "labelled", "CLASS/* or train/CLASS/*, val/CLASS/*", class_names),
}
