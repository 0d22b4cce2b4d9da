# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What an annotation format is turned into: records, before any picture is opened."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Blob:
    """Bytes of a file: the whole, or a part of an archive or a table.

    Attributes:
      path: of the file; or of a folder of pictures, the frames of a video.
      offset, size: the part; size None is up to the end.
      base64: the part is base64 text.
    """

    path: str
    offset: int = 0
    size: int | None = None
    base64: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One example.

    Attributes:
      split: 'train', 'validation', 'test' or the data set's own name of another one.
      id: what names it in reports: a question's id, a file and line.
      values: feature -> value, by the kind's schema; absent ones get the feature's empty value.
      images: where the pictures are: as many as the schema's image feature takes.
    """

    split: str
    id: str
    values: Mapping[str, Any]
    images: tuple[Blob, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Dropped:
    """An annotation that makes no record: `id` names it, `reason` says why in a few words."""

    id: str
    reason: str


class Unusable(ValueError):
    """What makes a record useless: `args` are the reason in a few words, and the detail."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """An annotation format.

    Attributes:
      read: `files.Files` -> records, in the order of the files.
      schema: key of `schemas.SCHEMAS`.
      help: one line that says which files SRC holds.
      labels: names of the feature `label`, where the schema has one with names; or what gives them
        for the files. A record's label is an index or a name.
    """

    read: Callable[..., Iterable[Record | Dropped]]
    schema: str
    help: str
    labels: Sequence[str] | Callable[..., Sequence[str]] = ()
