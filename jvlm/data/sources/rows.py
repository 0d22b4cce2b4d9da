# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Text files of one example per row: JSON lines, JSON lists, CSV and TSV."""

import csv
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from jvlm.data.images import BadRecord
from jvlm.data.sources.files import (
    Paths,
    Reader,
    find_files,
    fingerprint,
    need_entries,
    with_pictures,
    without_nulls,
)
from jvlm.errors import UserError

csv.field_size_limit(1 << 30)  # Its default of 128 KB refuses pictures in base64.


class RowsSource:
    """What is common to them: in memory a row is the two numbers of where it begins and ends.

    Args:
      path: see `find_files`.
      image_root: folder of the pictures; default the file's own.
      image_key: entry with the path of the picture, or a list of paths, see `with_pictures`; None
        reads none.
      need: entries without which a row is unusable.
    """

    kind: str
    suffixes: tuple[str, ...]

    def __init__(
        self,
        path: Paths,
        image_root: str | None = None,
        image_key: str | None = "image",
        need: Sequence[str] = (),
    ):
        self.files = find_files(path, self.suffixes)
        self._image_root, self._image_key, self._need = image_root, image_key, tuple(need)
        self._reader = Reader()
        spans = [
            np.fromiter(itertools.chain.from_iterable(self._open(file)), np.int64).reshape(-1, 2)
            for file in self.files
        ]
        self._spans = np.concatenate(spans)
        self._first = np.cumsum([0, *map(len, spans)])
        if not len(self):
            raise UserError(f"{self.files[0]}: no rows in it, nor in other files")
        self.fingerprint = fingerprint(self.kind, path, self.files, list(map(len, spans)))

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = int(np.searchsorted(self._first, index, "right")) - 1
        path = self.files[number]
        begin, end = self._spans[index].tolist()
        where = f"{path}: row {index - int(self._first[number]) + 1}"
        try:
            example = self._parse(self._reader.read(path, begin, end - begin).decode(), path)
        except ValueError as error:
            raise BadRecord(f"{where}: {error}") from None
        example = without_nulls(example)
        example = with_pictures(example, self._image_key, self._image_root, path)
        need_entries(example, self._need, where)
        return example

    def _open(self, path: str) -> Iterator[tuple[int, int]]:
        try:
            with open(path, "rb") as file:
                start = file.read(3)
                if start[:2] == b"\x1f\x8b":
                    raise UserError(f"{path}: is packed: unpack it with gunzip")
                file.seek(3 if start == b"\xef\xbb\xbf" else 0)  # A byte order mark.
                yield from self._rows(file, path)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None

    def _rows(self, file: BinaryIO, path: str) -> Iterator[tuple[int, int]]:
        """Where the rows of a file begin and end, in bytes."""
        raise NotImplementedError

    def _parse(self, text: str, path: str) -> dict[str, Any]:
        """A row; ValueError where it is none."""
        raise NotImplementedError


class JSONLinesSource(RowsSource):
    """JSON lines, or a file that is one JSON list (LLaVA's); each entry is an object.

    Of an object, entries that are null count as not there.

    A line that is not JSON is unusable when it is its turn, not before. A list is read whole once
    to find its entries.
    """

    kind, suffixes = "jsonl", (".jsonl", ".json")

    def _rows(self, file, path):
        at = file.tell()
        start = file.read(64).lstrip()
        if start[:1] == b"[":
            file.seek(0)
            yield from _entries(file.read(), path)
            return
        if re.match(rb"\{\s*\n", start):
            raise UserError(
                f"{path}: neither JSON lines nor a JSON list, but one object over many lines: "
                "jvlm data import reads the annotation files of common data sets"
            )
        file.seek(at)
        for line in file:
            if not line.isspace():
                yield at, at + len(line)
            at += len(line)

    def _parse(self, text, path):
        value = json.loads(text)
        if not isinstance(value, dict):
            raise ValueError(f"no JSON object, but {type(value).__name__}")
        return value


class CSVSource(RowsSource):
    """CSV or TSV with a line of names on top; all values are text.

    open_clip's files: `image_key='filepath'`, and `title` is the caption.

    Args:
      path, image_root, image_key, need: see `RowsSource`.
      delimiter: default a tab where the line of names has one, else a comma.
      quotes: a field in double quotes may hold delimiters and line breaks; False takes quotes as
        any other letter, for captions that were written as they are.
    """

    kind, suffixes = "csv", (".csv", ".tsv")

    def __init__(
        self,
        path: Paths,
        image_root: str | None = None,
        image_key: str | None = "image",
        need: Sequence[str] = (),
        delimiter: str | None = None,
        quotes: bool = True,
    ):
        self._delimiter = delimiter
        self._quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
        self._formats: dict[str, tuple[str, list[str]]] = {}
        super().__init__(path, image_root, image_key, need)

    def _rows(self, file, path):
        start = file.tell()
        delimiter = self._delimiter or ("\t" if b"\t" in file.readline() else ",")
        file.seek(start)
        try:
            # A reader takes as many lines as a row has, and no more.
            names = next(self._reader_of((line.decode() for line in file), delimiter), [])
            self._formats[path] = delimiter, names
            at = end = file.tell()
            ended = False

            def lines():
                nonlocal end, ended
                for line in file:
                    end += len(line)
                    yield line.decode("latin-1")  # Where rows end, no encoding changes.
                ended = True
                yield "\n"  # No row, unless a quote is open.

            count = 0
            for row in self._reader_of(lines(), delimiter):
                count += bool(row)
                if row and ended:
                    raise ValueError(f"the quote in row {count} does not end; or set quotes=False")
                if row:
                    yield at, end
                at = end
        except (ValueError, TypeError, csv.Error) as error:
            raise UserError(f"{path}: cannot be read as CSV: {error}") from None

    def _parse(self, text, path):
        delimiter, names = self._formats[path]
        try:
            (values,) = self._reader_of(io.StringIO(text, newline=""), delimiter)
        except csv.Error as error:
            raise ValueError(error) from None
        if len(values) != len(names):
            raise ValueError(f"{len(values)} values, but {len(names)} names on top")
        return dict(zip(names, values))

    def _reader_of(self, lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=delimiter, quoting=self._quoting)


def _entries(data: bytes, path: str) -> Iterator[tuple[int, int]]:
    """Where the entries of a JSON list begin and end."""
    # One character a byte; the marks of JSON are the same ones in UTF-8.
    text, decode = data.decode("latin-1"), json.JSONDecoder(strict=False).raw_decode
    space, at = re.compile(r"[ \t\r\n,]*"), text.index("[") + 1
    while True:
        at = space.match(text, at).end()
        if text[at : at + 1] == "]":
            return
        try:
            _, end = decode(text, at)
        except ValueError as error:
            raise UserError(f"{path}: cannot be read as a JSON list: {error}") from None
        yield at, end
        at = end
