# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Data sets by random access: `len(source)`, `source[i] -> raw example`, `source.fingerprint`."""

from collections.abc import Mapping
from typing import Any, Protocol

from jvlm.config import construct
from jvlm.data.sources.folder import FolderSource
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
    "parquet": ParquetSource,
    "tar": TarSource,
    "tfds": TFDSSource,
}


def build_source(section: Mapping, *, where: str = "data.source") -> Source:
    """Opens the data set of a config's `source` section: `kind` and that kind's arguments."""
    options = dict(section)
    kind = options.pop("kind", "")
    if kind not in SOURCES:
        raise UserError(f"{where}.kind {kind!r} is unknown.{did_you_mean(kind, SOURCES)}")
    return construct(SOURCES[kind], options, where=where)
