# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What `jvlm data info` and `preview` are pointed at: a prepared data set, files, or a config."""

import ast
import collections
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jvlm import config as config_lib
from jvlm.data.images import SUFFIXES
from jvlm.data.parallel import parallel_map
from jvlm.data.sources import SOURCES, Source, build_source
from jvlm.data.sources.files import expand_braces
from jvlm.data.sources.tfds import find_builder
from jvlm.errors import UserError, did_you_mean

# Kind -> endings of the files it reads, or says how to unpack; of a folder, the first kind that
# finds one is taken.
_ENDINGS = {
    "tar": (".tar", ".tar.gz", ".tgz"),
    "parquet": (".parquet",),
    "folder": SUFFIXES,
    "jsonl": (".jsonl", ".json", ".jsonl.gz", ".json.gz"),
    "csv": (".csv", ".tsv", ".csv.gz", ".tsv.gz"),
}


@dataclasses.dataclass(frozen=True)
class Named:
    """A data set.

    Attributes:
      kind: key of SOURCES, or 'config'.
      parts: split, or member of a mixture -> source; of files 'all'.
      facts: what is known without reading examples, JSON-ready.
    """

    kind: str
    parts: dict[str, Source]
    facts: dict[str, Any]


def open_named(
    name: str,
    *,
    kind: str | None = None,
    split: str | None = None,
    data_dir: str | None = None,
    options: Sequence[str] = (),
) -> Named:
    """Opens a data set.

    Args:
      name: of a prepared one, or its folder; files, a pattern or a folder; or a config.
      kind: key of SOURCES, where the name does not tell.
      split: of a prepared one, or member of a config's mixture; default all.
      data_dir: of prepared ones.
      options: 'key=value', of the source's kind.

    Raises:
      UserError: nothing of that name, or an option that its kind does not have.
    """
    kind = kind or guess_kind(name, data_dir)
    if kind not in (*SOURCES, "config"):
        raise UserError(f"--kind {kind!r} is unknown.{did_you_mean(kind, SOURCES)}")
    if split and kind not in ("tfds", "config"):
        raise UserError("--split: only prepared data sets and mixtures have splits")
    if options and kind == "config":
        raise UserError("--option: a config has its own")
    if kind == "config":
        return _of_config(name, split)
    given = dict(map(_option, options))
    if kind == "tfds":
        return _prepared(name, split, data_dir, given)
    source = build_source({"kind": kind, "path": name, **given}, where="--option")
    sizes = parallel_map(_size, source.files, ahead=64, threads=16)
    facts = {"name": name, "splits": {"all": len(source)}}
    facts |= {"bytes": sum(sizes), "files": len(source.files)}
    if getattr(source, "cut_short", ()):
        facts["cut_short"] = source.cut_short
    return Named(kind, {"all": source}, facts)


def guess_kind(name: str, data_dir: str | None = None) -> str:
    """The kind of source that reads what a name stands for."""
    if name.partition(":")[0].endswith(".py"):
        return "config"
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        try:
            find_builder(path)
            return "tfds"
        except UserError:
            pass
        names = [file.lower() for _, _, files in os.walk(path) for file in files]
        for kind, endings in _ENDINGS.items():
            if any(file.endswith(endings) for file in names):
                return kind
        raise UserError(f"{name}: no data set in this folder: say --kind")
    for kind, endings in _ENDINGS.items():
        if kind != "folder" and expand_braces(path)[0].lower().endswith(endings):
            return kind
    if os.path.exists(path):
        raise UserError(f"{name}: its name does not tell the kind of file: say --kind")
    try:
        find_builder(name, data_dir)
    except UserError:
        try:
            config_lib.load(name)
            return "config"
        except UserError:
            pass
    return "tfds"


def _size(path: str) -> int:
    """Bytes of a file; a picture that is a link to nowhere has none, and counts as broken."""
    return os.path.getsize(path) if os.path.exists(path) else 0


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--option {text}: give KEY=VALUE")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def _prepared(name: str, split: str | None, data_dir: str | None, options: Mapping) -> Named:
    builder = find_builder(name, data_dir)
    info, folder = builder.info, Path(builder.data_path)
    facts = {
        "name": name,
        "version": str(builder.version),
        "path": str(folder),
        "description": " ".join(info.description.split()),
        "splits": {key: part.num_examples for key, part in info.splits.items()},
        "features": {key: str(feature) for key, feature in info.features.items()},
        "bytes": sum(file.stat().st_size for file in folder.iterdir() if file.is_file()),
    }
    if (folder / "dropped.jsonl").exists():
        facts["dropped"] = _dropped(folder / "dropped.jsonl")
    splits = [split] if split else [key for key, size in facts["splits"].items() if size]
    section = {"kind": "tfds", "name": name, "data_dir": data_dir, **options}
    parts = {key: build_source({**section, "split": key}, where="--option") for key in splits}
    return Named("tfds", parts, facts)


def _dropped(path: Path) -> dict[str, Any]:
    """What an import left out: records, entries of records that were kept, reasons of both."""
    reasons: collections.Counter = collections.Counter()
    entries = 0
    with open(path, encoding="utf-8") as file:
        for line in map(json.loads, file):
            reasons[line["reason"]] += 1
            entries += "entry" in line
    total = reasons.total()
    return {"records": total - entries, "entries": entries, "reasons": dict(reasons.most_common())}


def _of_config(name: str, split: str | None) -> Named:
    """The training data of a config."""
    data = config_lib.to_dict(config_lib.load(name))["data"]
    sections = {"data.source": data.get("source")}
    for member, section in (data.get("mixture") or {}).get("members", {}).items():
        sections[member] = section.get("source")
    sections = {key: section for key, section in sections.items() if section}
    if not sections:
        raise UserError(f"config {name}: has neither data.source nor data.mixture")
    if split and split not in sections:
        hint = did_you_mean(split, sections)
        raise UserError(f"--split {split}: config {name} has {', '.join(sections)}.{hint}")
    parts = {
        key: build_source(section) for key, section in sections.items() if split in (None, key)
    }
    facts = {"name": name, "splits": {key: len(part) for key, part in parts.items()}}
    return Named("config", parts, facts)
