# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the sources of several kinds share: finding files, reading parts of them, pictures."""

import collections
import glob
import hashlib
import itertools
import os
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from jvlm.data.images import BadRecord
from jvlm.errors import UserError

Paths = str | os.PathLike | Sequence[str]
INDEX_SUFFIX = ".index.npz"  # Of what `tar_index` keeps beside shards.


def find_files(path: Paths, suffixes: Sequence[str]) -> list[str]:
    """The files that are meant by a path.

    Args:
      path: a file, a pattern ('/data/{000..099}.tar', '/data/*/part-*.tar'), a folder, which stands
        for all such files below it, or a list of these. Patterns and folders give sorted names.
      suffixes: of the files that are taken from a folder.

    Raises:
      UserError: a pattern or folder without files; names it.
    """
    given = [path] if isinstance(path, str | os.PathLike) else path
    found: list[str] = []
    for name in itertools.chain.from_iterable(map(expand_braces, map(os.fspath, given))):
        name = os.path.expanduser(name)
        if os.path.isdir(name):
            files = files_below(name, suffixes)
        elif glob.has_magic(name) and not os.path.exists(name):
            # '/data/*' finds the indices too that lie beside tar shards.
            found_here = glob.glob(name, recursive=True)
            files = sorted(file for file in found_here if not file.endswith(INDEX_SUFFIX))
        else:
            files = [name]  # Whether it is there, its opening tells: a question less to a server.
        if not files:
            raise UserError(f"{name}: no {' or '.join(suffixes)} file")
        found += files
    if not found:
        raise UserError("no files: the list of paths is empty")
    return found


def files_below(folder: str | os.PathLike, suffixes: Sequence[str]) -> list[str]:
    """Sorted paths of the files below a folder, but not of hidden ones nor in hidden folders."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            os.path.join(place, name)
            for name in names
            if name.lower().endswith(tuple(suffixes)) and not name.startswith(".")
        ]
    return sorted(found)


def expand_braces(pattern: str) -> list[str]:
    """'a{00..02}{x,y}' -> a00x, a00y, a01x, ...: as in a shell, but not one within another."""
    match = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", pattern)
    if not match:
        return [pattern]
    first, last, options = match.groups()
    if options is None:
        is_padded = any(len(end) > 1 and end[0] == "0" for end in (first, last))
        width = max(len(first), len(last)) if is_padded else 0
        begin, end = int(first), int(last)
        numbers = range(begin, end + 1) if begin <= end else range(begin, end - 1, -1)
        options = [f"{n:0{width}d}" for n in numbers]
    else:
        options = options.split(",")
    tails = expand_braces(pattern[match.end() :])
    return [f"{pattern[: match.start()]}{option}{tail}" for option in options for tail in tails]


def fingerprint(kind: str, path: Paths, files: Sequence[str], counts: Sequence[int]) -> dict:
    """What a resumed run must find: the same number of examples in files of the same names."""
    names = [(os.path.basename(file), int(count)) for file, count in zip(files, counts)]
    return {
        "kind": kind,
        "path": str(path) if isinstance(path, str | os.PathLike) else list(path),
        "size": int(sum(counts)),
        "files": hashlib.blake2b(repr(names).encode(), digest_size=8).hexdigest(),
    }


class Reader:
    """Parts of many files; the last used ones stay open. Threads may share it, and it pickles."""

    # Of a process, which may read many data sets and must not run out of files.
    _most = max(8, min(256, os.sysconf("SC_OPEN_MAX") // 4))
    _open: "collections.OrderedDict[tuple[int, str], _File]" = collections.OrderedDict()
    _lock = threading.Lock()
    _numbers = itertools.count()

    def __init__(self):
        self._number = next(self._numbers)  # A file may be another one when it is read anew.

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Bytes of a file.

        Raises:
          BadRecord: they are not there; names the file.
        """
        try:
            file = self._file(path)  # Held, that it stays open while it is read.
            data = read_at(file.descriptor, offset, size)
        except OSError as error:
            raise BadRecord(f"{path}: {error.strerror}") from None
        if len(data) < size:
            raise BadRecord(f"{path}: ends before byte {offset + size}: was it changed?")
        return data

    def _file(self, path: str) -> "_File":
        key = self._number, path
        with self._lock:
            if key in self._open:
                self._open.move_to_end(key)
                return self._open[key]
        file = _File(path)  # Which may take long, and others read meanwhile.
        with self._lock:
            self._open[key] = file
            if len(self._open) > self._most:
                self._open.popitem(last=False)  # Closed when the last thread has read from it.
        return file

    def __reduce__(self):
        return Reader, ()


class _File:
    def __init__(self, path: str):
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self, close=os.close):  # When Python ends, `os` may be gone before.
        if hasattr(self, "descriptor"):
            close(self.descriptor)


def read_at(descriptor: int, offset: int, size: int) -> bytes:
    """Bytes of a file, fewer only where it ends: of a mounted one, a read may give a part."""
    data = os.pread(descriptor, size, offset)
    while 0 < len(data) < size:
        more = os.pread(descriptor, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def with_pictures(
    example: dict[str, Any], key: str | None, root: str | None, path: str
) -> dict[str, Any]:
    """Reads the pictures that a row points at.

    Args:
      example: a row. Its entry `key` is a path, encoded bytes, {'bytes', 'path'} as in the data
        sets of Hugging Face, or a list of these; a row without it stays as it is.
      key: of the pictures; None reads none.
      root: folder of relative paths; None is that of `path`.
      path: of the file with the row.

    Returns:
      the row with `image` (bytes) and, of a file, `path`; of a list, with `images`.

    Raises:
      BadRecord: a file that is not there; names it.
    """
    value = example.get(key) if key else None
    if value is None:
        return example
    root = os.path.dirname(path) if root is None else os.path.expanduser(root)
    rest = {name: entry for name, entry in example.items() if name != key}
    if isinstance(value, list):
        return {**rest, "images": [_picture(entry, root)[0] for entry in value]}
    data, file = _picture(value, root)
    found = {"image": data} if file is None else {"path": file, "image": data}
    return {**example, **found} if isinstance(value, str) else {**rest, **found}


def _picture(value: Any, root: str) -> tuple[bytes, str | None]:
    """(encoded bytes, path of the file that was read)."""
    if isinstance(value, Mapping) and value.get("bytes") is not None:
        value = value["bytes"]
    elif isinstance(value, Mapping):
        value = value.get("path")
    if isinstance(value, bytes):
        return value, None
    if not isinstance(value, str):
        raise BadRecord(f"no picture, nor the path of one, but {type(value).__name__}")
    path = os.path.join(root, value)
    try:
        with open(path, "rb") as file:
            return file.read(), path
    except (OSError, ValueError) as error:
        raise BadRecord(f"{path}: {getattr(error, 'strerror', error)}") from None


def without_nulls(example: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that are there: transforms know of no null."""
    return {name: entry for name, entry in example.items() if entry is not None}


def need_entries(example: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    """Raises BadRecord where an example lacks an entry, or it is null or empty."""
    for name in names:
        if example.get(name) in (None, "", b"", []):
            has = ", ".join(sorted(example)) or "nothing"
            raise BadRecord(f"{where}: no {name!r}, only {has}")
