# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tar shards in the layout of WebDataset, by random access."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jvlm.data.images import SUFFIXES, BadRecord
from jvlm.data.sources.files import (
    Paths,
    Reader,
    find_files,
    fingerprint,
    need_entries,
    without_nulls,
)
from jvlm.data.sources.tar_index import BLOCK, load_indices, members, split_name
from jvlm.errors import UserError


class TarSource:
    """WebDataset's shards: neighbouring files whose names agree up to the first dot are a sample.

    An example has `__key__`, that name; `image` (bytes) of .jpg, .png, .webp ..., the first one
    where there are several; `caption` of .txt, which is there as `txt` too; the fields of .json;
    `label`, the int in .cls; and the bytes of anything else under its extension. Of two-part
    extensions the last part says how they are read and the whole is the entry's name: `mask.png` is
    bytes, `en.txt` text.

    Where the samples begin is looked up once and kept in `<shard>.index.npz`, beside the shard or,
    where that cannot be written, below $XDG_CACHE_HOME/jvlm (~/.cache/jvlm), for as long as size
    and time of the shard stay. That takes a read of 4 KB per file in the shard; from a mounted
    bucket, where each may be a request, sixteen shards are read at a time. In memory a sample takes
    4 bytes, and getting it one read of its part of the shard.

    A shard without end mark was cut short, by an interrupted download: its last sample may lack
    something and is left out, which is said on standard error. `cut_short` lists such shards.

    Args:
      path: see `find_files`: a shard, '/data/{000..099}.tar', '/data/*.tar', a folder, or a list.
      names: extension -> entry, where it is not as above: (('seg.png', 'mask'), ('txt', 'title')).
      need: entries without which a sample is unusable.
    """

    def __init__(
        self,
        path: Paths,
        names: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        need: Sequence[str] = ("image",),
    ):
        self.files = find_files(path, (".tar",))
        self._names, self._need, self._reader = dict(names), tuple(need), Reader()
        indices = load_indices(self.files)
        # Of each shard one more than samples: where the last one ends.
        self._starts = np.concatenate([starts for starts, _ in indices])
        counts = [len(starts) - 1 for starts, _ in indices]
        self._first = np.cumsum([0, *counts])
        self.cut_short = [file for file, (_, whole) in zip(self.files, indices) if not whole]
        if self.cut_short:
            print(
                f"jvlm: {len(self.cut_short)} of {len(self.files)} shards end too early, such as "
                f"{self.cut_short[0]}; the last sample of each is left out",
                file=sys.stderr,
            )
        if not len(self):
            raise UserError(f"{self.files[0]}: no samples in it, nor in other shards")
        self.fingerprint = fingerprint("tar", path, self.files, counts)

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        shard = int(np.searchsorted(self._first, index, "right")) - 1
        begin, end = (int(start) * BLOCK for start in self._starts[index + shard :][:2])
        path = self.files[shard]
        data = self._reader.read(path, begin, end - begin)
        key, fields, entries = "", {}, {}
        try:
            read = lambda at, size: data[at : at + size]
            for _, name, start, size in members(read, len(data), check=False):
                sample, extension = split_name(name)
                if sample is None:
                    continue
                key, kind = sample, extension.rpartition(".")[2]
                content = data[start : start + size]
                if kind == "json":
                    content = json.loads(content)
                elif kind == "cls":
                    content = int(content)
                elif kind == "txt":
                    content = content.decode()
                if extension == "json" and "json" not in self._names:
                    if not isinstance(content, dict):
                        raise ValueError(f"its .json is no object, but {type(content).__name__}")
                    fields = without_nulls(content)
                else:
                    entries[extension] = content
            named = {}
            for extension, value in entries.items():
                named.setdefault(self._name(extension), value)
            texts = {"txt": entries["txt"]} if "txt" in entries else {}
            example = {"__key__": key, **fields, **texts, **named}
        except ValueError as error:
            raise BadRecord(f"{path}: sample {key!r}: {error}") from None
        need_entries(example, self._need, f"{path}: sample {key!r}")
        return example

    def _name(self, extension: str) -> str:
        """The entry of a file."""
        if extension in self._names:
            return self._names[extension]
        if f".{extension}" in SUFFIXES:
            return "image"
        return {"txt": "caption", "cls": "label"}.get(extension, extension)
