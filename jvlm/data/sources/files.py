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
            files = sorted(
                os.path.join(place, file)
                for place, _, files in os.walk(name, followlinks=True)
                for file in files
                if file.lower().endswith(tuple(suffixes)) and not file.startswith(".")
            )
        elif glob.has_magic(name) and not os.path.exists(name):
            files = sorted(glob.glob(name, recursive=True))
        else:
            files = [name]  # Whether it is there, its opening tells: a question less to a server.
        if not files:
            raise UserError(f"{name}: no {' or '.join(suffixes)} file")
        found += files
    if not found:
        raise UserError("no files: the list of paths is empty")
    return found


def expand_braces(pattern: str) -> list[str]:
    """'a{00..02}{x,y}' -> a00x, a00y, a01x, ...: ranges keep their zeros, as in a shell."""
    match = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", pattern)
    if not match:
        return [pattern]
    first, last, options = match.groups()
    if options is None:
        padded = max(map(len, (first, last))) if "0" in (first[0], last[0]) else 0
        options = [f"{n:0{padded}d}" for n in range(int(first), int(last) + 1)]
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

    def __init__(self, keep_open: int = 256):
        self._keep_open, self._open = keep_open, collections.OrderedDict()
        self._lock = threading.Lock()

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Bytes of a file.

        Raises:
          BadRecord: they are not there; names the file.
        """
        try:
            data = os.pread(self._file(path).descriptor, size, offset)
        except OSError as error:
            raise BadRecord(f"{path}: {error.strerror}") from None
        if len(data) < size:
            raise BadRecord(f"{path}: ends before byte {offset + size}: was it changed?")
        return data

    def _file(self, path: str) -> "_File":
        with self._lock:
            if path in self._open:
                self._open.move_to_end(path)
                return self._open[path]
        file = _File(path)  # Which may take long, and others read meanwhile.
        with self._lock:
            self._open[path] = file
            if len(self._open) > self._keep_open:
                self._open.popitem(last=False)  # Closed when the last thread has read from it.
        return file

    def __getstate__(self):
        return {"keep_open": self._keep_open}

    def __setstate__(self, state):
        self.__init__(**state)


class _File:
    def __init__(self, path: str):
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self, close=os.close):  # When Python ends, `os` may be gone before.
        if hasattr(self, "descriptor"):
            close(self.descriptor)


def with_pictures(example: dict[str, Any], key: str | None, root: str) -> dict[str, Any]:
    """Reads the pictures that a row points at.

    Args:
      example: a row. Its entry `key` is a path, encoded bytes, {'bytes', 'path'} as in the data
        sets of Hugging Face, or a list of these; a row without it stays as it is.
      key: of the pictures; None reads none.
      root: folder of relative paths.

    Returns:
      the row with `image` (bytes) and, of a file, `path`; of a list, with `images`.

    Raises:
      BadRecord: a file that is not there; names it.
    """
    value = example.get(key) if key else None
    if value is None:
        return example
    rest = {name: entry for name, entry in example.items() if name != key}
    if isinstance(value, list):
        return {**rest, "images": [_picture(entry, root)[0] for entry in value]}
    data, path = _picture(value, root)
    found = {"image": data} if path is None else {"path": path, "image": data}
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


def need_entries(example: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    """Raises BadRecord where an example lacks an entry, or it is null or empty."""
    for name in names:
        if example.get(name) in (None, "", b"", []):
            has = ", ".join(sorted(example)) or "nothing"
            raise BadRecord(f"{where}: no {name!r}, only {has}")
