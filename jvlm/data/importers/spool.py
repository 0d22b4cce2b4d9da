# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records on disk between reading the annotation and opening the pictures.

So a million of them take no memory, their number is known before the long part begins, and an
import that was killed goes on without the annotation's order having to be found again.
"""

import array
import contextlib
import dataclasses
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jvlm.data.examples import plain
from jvlm.data.importers.pictures import is_video
from jvlm.data.importers.records import Blob, Dropped, Record, Unusable

_BLOCK = 16  # Shards begin at multiples of so many records.
_LARGEST = 16_384  # Records of a shard, so that small ones, as with --link, occupy all cores.
_MANY_SHARDS, _LARGE_SHARD = 512, 1 << 30  # Above so many, shards grow up to so many bytes first.


@dataclasses.dataclass(frozen=True)
class Shard:
    """The records of one file.

    Attributes:
      split, index, count: 'train', 0 of 8.
      offset: of the first record in the split's spool, in bytes.
      records: how many.
    """

    split: str
    index: int
    count: int
    offset: int
    records: int

    @property
    def key(self) -> str:
        return f"{self.split}-{self.index:05}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be imported.

    Attributes:
      shards: of all splits, in order.
      dropped: annotations that made no record.
      videos, archives: there are some that pictures come from.
      repeats: share of the records that store the pictures of the one before once more.
    """

    shards: list[Shard]
    dropped: int
    videos: bool
    archives: bool
    repeats: float

    @property
    def records(self) -> int:
        return sum(shard.records for shard in self.shards)

    @classmethod
    def load(cls, saved: dict[str, Any]) -> "Plan":
        """The inverse of `dataclasses.asdict`."""
        return cls(**{**saved, "shards": [Shard(**shard) for shard in saved["shards"]]})


def write_spool(
    records: Iterable[Record | Dropped], folder: Path, shard_bytes: int, *, stored: bool
) -> Plan:
    """Writes records to SPLIT.jsonl, and what makes none to dropped.jsonl.

    Args:
      records: what an annotation format is read as.
      folder: where to.
      shard_bytes: about the size of a shard, unless they get too many.
      stored: the pictures go into the shards.
    """
    dropped = repeats = 0
    videos = archives = False
    last: tuple[Blob, ...] = ()
    splits: dict[str, _Split] = {}
    with contextlib.ExitStack() as stack:
        bad = stack.enter_context(open(folder / "dropped.jsonl", "w"))
        for record in records:
            try:
                if isinstance(record, Dropped):
                    raise Unusable(record.reason, "")
                line = _to_line(record)
            except Unusable as error:
                bad.write(report_line(record.id, *error.args))
                dropped += 1
                continue
            name = re.sub(r"\W", "_", record.split)
            name = "all_" if name == "all" else name  # To TFDS, 'all' is all splits.
            if name not in splits:
                file = stack.enter_context(open(folder / f"{name}.jsonl", "wb"))
                splits[name] = _Split(file)
            blobs = record.images
            splits[name].add(line, blobs if stored else ())
            videos = videos or any(map(is_video, blobs))
            archives = archives or any(b.size is not None or b.offset or b.base64 for b in blobs)
            repeats += stored and bool(last) and last == blobs
            last = blobs
    shards = [s for name, split in splits.items() for s in split.shards(name, shard_bytes)]
    total = sum(shard.records for shard in shards)
    return Plan(shards, dropped, videos, archives, repeats / max(1, total))


def read_spool(folder: Path, shard: Shard) -> Iterator[tuple[str, dict[str, Any], list[Blob]]]:
    """The (id, values, pictures) of a shard's records."""
    with open(folder / f"{shard.split}.jsonl", "rb") as file:
        file.seek(shard.offset)
        for line in itertools.islice(file, shard.records):
            name, values, blobs = json.loads(line)
            yield name, values, [Blob(*blob) for blob in blobs]


def report_line(name: str, reason: str, detail: str = "", entry: int | None = None) -> str:
    """A line of dropped.jsonl; `entry` is the index of one that was left out of a kept record."""
    line = {"id": name, "reason": reason, "detail": detail}
    return json.dumps(line if entry is None else {**line, "entry": entry}) + "\n"


def write_json(path: Path, value: Any) -> None:
    """All or nothing."""
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(value))
    partial.rename(path)


class _Split:
    """The spool of one split, as it grows."""

    def __init__(self, file):
        self._file, self._size, self._records = file, 0, 0
        self._starts = array.array("Q")  # Of each block.
        self._sampled = 0  # Bytes of the first record of each block, as it will be stored.

    def add(self, line: bytes, blobs: Iterable[Blob]) -> None:
        if self._records % _BLOCK == 0:
            self._starts.append(self._size)
            self._sampled += len(line) + sum(map(_size, blobs))
        self._file.write(line)
        self._size += len(line)
        self._records += 1

    def shards(self, name: str, shard_bytes: int) -> list[Shard]:
        size = self._sampled * _BLOCK
        wanted = max(size // shard_bytes, self._records // _LARGEST, 1)
        wanted = max(min(wanted, _MANY_SHARDS), size // _LARGE_SHARD)
        blocks = -(-len(self._starts) // wanted)  # Of each shard.
        starts = self._starts[::blocks]
        records = blocks * _BLOCK
        return [
            Shard(name, i, len(starts), start, min(records, self._records - i * records))
            for i, start in enumerate(starts)
        ]


def _size(blob: Blob) -> int:
    if blob.size is not None:
        return blob.size
    try:
        return os.path.getsize(blob.path) - blob.offset
    except (OSError, ValueError):  # The latter of a name with a null character.
        return 0


def _to_line(record: Record) -> bytes:
    blobs = [(blob.path, blob.offset, blob.size, blob.base64) for blob in record.images]
    try:
        line = json.dumps([record.id, dict(record.values), blobs], default=plain)
    except (TypeError, ValueError) as error:
        raise Unusable("wrong value", str(error)) from None
    return line.encode() + b"\n"
