# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Data sets by random access: `len(source)`, `source[i] -> raw example`, `source.fingerprint`."""

import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from jvlm.config import construct, to_dict
from jvlm.data.sources.folder import FolderSource
from jvlm.data.sources.mismatched import MismatchedSource
from jvlm.data.sources.parquet import ParquetSource
from jvlm.data.sources.rows import CSVSource, JSONLinesSource
from jvlm.data.sources.tar import TarSource
from jvlm.data.sources.tfds import TFDSSource
from jvlm.errors import UserError, did_you_mean


class Source(Protocol):
    """What the pipeline needs of a data set. Must survive pickling (worker processes).

    A source whose examples have `label` may have `class_names`: the names in the labels' order.
    """

    fingerprint: dict[str, Any]
    """Name, split and size: a resumed run must find the same data."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


SOURCES = {
    "csv": CSVSource,
    "folder": FolderSource,
    "jsonl": JSONLinesSource,
    "mismatched": MismatchedSource,
    "parquet": ParquetSource,
    "tar": TarSource,
    "tfds": TFDSSource,
}


def build_source(section: Mapping, *, where: str = "data.source") -> Source:
    """Opens the data set of a config's `source` section: `kind` and that kind's arguments.

    Of a data set made of another, that one's section is its `source`.
    """
    if not hasattr(section, "keys"):  # A ConfigDict is no Mapping.
        raise UserError(f"{where} is {section!r}: give kind and that kind's options")
    options = to_dict(section)
    kind = options.pop("kind", "")
    if kind not in SOURCES:
        raise UserError(f"{where}.kind {kind!r} is unknown.{did_you_mean(kind, SOURCES)}")
    given = {}
    if "source" in options:
        given["source"] = build_source(options.pop("source"), where=f"{where}.source")
    parameters = inspect.signature(SOURCES[kind]).parameters
    for key in options.keys() & parameters.keys():
        hint = parameters[key].annotation
        if not _fits(options[key], hint):
            wanted = inspect.formatannotation(hint).replace("collections.abc.", "")
            raise UserError(f"{where}.{key} is {options[key]!r}: give {wanted}")
    return construct(SOURCES[kind], options, where=where, **given)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotation's type; text is no sequence of texts."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, option) for option in inner)
    if origin is tuple:
        return isinstance(value, list | tuple) and len(value) == len(inner)
    if origin is Sequence:
        return isinstance(value, list | tuple) and all(_fits(entry, inner[0]) for entry in value)
    return isinstance(value, origin or hint) and not (hint is int and isinstance(value, bool))
