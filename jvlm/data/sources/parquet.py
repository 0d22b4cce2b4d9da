# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Parquet files: tables with pictures in them (Hugging Face's data sets), or with their paths."""

import collections
import functools
import hashlib
import json
import os
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jvlm.data.images import BadRecord
from jvlm.data.parallel import parallel_map
from jvlm.data.sources.files import (
    Paths,
    find_files,
    fingerprint,
    need_entries,
    with_pictures,
    without_nulls,
)
from jvlm.errors import UserError


class ParquetSource:
    """A table in one or several files; an example is a row, its entries plain Python values.

    Entries that are null count as not there.

    A row can be had only with its row group, which is read and unpacked whole. In order that costs
    little; in the shuffled order of training nearly every row reads a group anew unless `memory`
    holds them all: with `cache` the groups are unpacked once, to files that are read a row at a
    time.

    Args:
      path: see `find_files`; a folder is all parts below it, of all splits: 'data/train-*.parquet'.
      columns: those that are read; default all.
      image_key: column with pictures: bytes, {'bytes', 'path'} or paths, see `with_pictures`.
      image_root: folder of relative paths; default the file's own.
      need: entries without which a row is unusable.
      memory: megabytes of unpacked row groups that a process keeps; one it always keeps.
      cache: folder for unpacked copies, which take the disk space of the data unpacked.
    """

    def __init__(
        self,
        path: Paths,
        columns: Sequence[str] | None = None,
        image_key: str | None = "image",
        image_root: str | None = None,
        need: Sequence[str] = (),
        memory: int = 256,
        cache: str | None = None,
    ):
        self.files = find_files(path, (".parquet",))
        self._columns = None if columns is None else list(columns)
        self._image_key, self._image_root, self._need = image_key, image_root, tuple(need)
        self._memory = memory << 20
        self._prepare()
        groups = list(parallel_map(_group_sizes, self.files, ahead=64, threads=16))
        self._first = np.cumsum([0, *(size for sizes in groups for size in sizes)])
        self._groups = [(f, g) for f, sizes in zip(self.files, groups) for g in range(len(sizes))]
        if not len(self):
            raise UserError(f"{self.files[0]}: no rows in it, nor in other files")
        self.fingerprint = fingerprint("parquet", path, self.files, list(map(sum, groups)))
        schema = self._file(self.files[0]).schema_arrow
        unknown = sorted({*(self._columns or ())} - {*schema.names})
        if unknown:
            raise UserError(f"{self.files[0]}: no column {unknown[0]!r} in {schema.names}")
        self.class_names = _class_names(schema)
        self._copies = self._unpack(Path(cache).expanduser()) if cache else {}

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = int(np.searchsorted(self._first, index, "right")) - 1
        path, group = self._groups[number]
        table = self._group(path, group)
        try:
            (example,) = table.slice(index - int(self._first[number]), 1).to_pylist()
        except UnicodeDecodeError as error:
            raise BadRecord(f"{path}: row {index} of all: {error}") from None
        example = without_nulls(example)
        example = with_pictures(example, self._image_key, self._image_root, path)
        need_entries(example, self._need, f"{path}: row {index} of all")
        return example

    def _group(self, path: str, group: int) -> Any:
        import pyarrow as pa

        with self._lock:
            if path in self._copies:
                return self._copy(self._copies[path]).get_batch(group)
            if (path, group) not in self._kept:
                try:
                    table = self._file(path).read_row_group(group, columns=self._columns)
                except (OSError, pa.ArrowException) as error:
                    raise BadRecord(f"{path}: row group {group}: {_line(error)}") from None
                self._kept[path, group] = table
                size = lambda: sum(table.nbytes for table in self._kept.values())
                while len(self._kept) > 1 and size() > self._memory:
                    self._kept.popitem(last=False)
            self._kept.move_to_end((path, group))
            return self._kept[path, group]

    def _unpack(self, folder: Path) -> dict[str, str]:
        """Writes what is not there yet; file -> copy."""
        from jvlm import progress

        copies = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in progress.bar(self.files, unit="file"):
                stat = os.stat(path)
                state = (os.path.abspath(path), stat.st_size, stat.st_mtime_ns, self._columns)
                name = hashlib.blake2b(repr(state).encode(), digest_size=16).hexdigest()
                copies[path] = str(folder / f"{name}.arrow")
                if not os.path.exists(copies[path]):
                    _write_copy(path, self._columns, copies[path])
        except OSError as error:
            raise UserError(f"data.source cache {folder}: {error}") from None
        return copies

    def __getstate__(self):
        return {key: value for key, value in self.__dict__.items() if key not in _OF_A_PROCESS}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._prepare()

    def _prepare(self) -> None:
        """Makes what every process has of its own."""
        self._lock = threading.Lock()
        self._kept: collections.OrderedDict[tuple[str, int], Any] = collections.OrderedDict()
        # Few files, since a mixture may have many sources.
        self._file = functools.lru_cache(16)(_open)
        self._copy = functools.lru_cache(64)(_open_copy)


_OF_A_PROCESS = ("_lock", "_kept", "_file", "_copy")


def _open(path: str) -> Any:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as Parquet: {_line(error)}") from None


def _line(error: Exception) -> str:
    """Arrow's messages run over several lines."""
    return " ".join(str(error).split())


def _open_copy(path: str) -> Any:
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(path))


def _group_sizes(path: str) -> list[int]:
    metadata = _open(path).metadata
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]


def _class_names(schema: Any) -> list[str] | None:
    """Names of the column `label`, as Hugging Face's data sets note them."""
    try:
        noted = json.loads((schema.metadata or {})[b"huggingface"])
        return list(noted["info"]["features"]["label"]["names"])
    except (KeyError, ValueError, TypeError):
        return None


def _write_copy(path: str, columns: list[str] | None, out: str) -> None:
    """A Parquet file as an Arrow file, one record batch for each row group."""
    import pyarrow as pa

    file, part = _open(path), f"{out}.{uuid.uuid4().hex}.part"
    schema = file.schema_arrow
    if columns is not None:
        schema = pa.schema([schema.field(name) for name in columns])
    try:
        with pa.ipc.new_file(part, schema) as writer:
            for group in range(file.num_row_groups):
                try:
                    table = file.read_row_group(group, columns=columns).select(schema.names)
                except (OSError, pa.ArrowException) as error:
                    raise UserError(
                        f"{path}: row group {group}: {_line(error)}: leave out cache to go on "
                        "without its rows, or leave out the file"
                    ) from None
                batches = table.combine_chunks().to_batches()
                if len(batches) > 1:
                    raise UserError(f"{path}: row groups above 2 GB: leave out cache")
                writer.write_batch(*batches or [pa.RecordBatch.from_pylist([], schema)])
        os.replace(part, out)
    finally:
        if os.path.exists(part):
            os.remove(part)
