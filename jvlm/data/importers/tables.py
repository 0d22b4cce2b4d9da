# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Annotations in tables: CSV, and tab-separated values with pictures in them."""

import csv
import mmap
import re
from collections.abc import Iterator
from pathlib import Path

from jvlm.data.importers.annotations import Named
from jvlm.data.importers.records import Blob, Dropped
from jvlm.errors import UserError

# A quoted field (quotes in it are doubled, it may hold line ends), or a plain one; and its end.
_FIELD = re.compile(rb'"([^"]*(?:""[^"]*)*)"(\t|\r?\n|\Z)|([^\t\n]*)(\t|\n|\Z)')
_LONGEST_TEXT = 64


def read_csv(path: Path) -> Iterator[Named]:
    """The rows of a CSV with a header, as 'file:line' and {column: text or None}.

    Raises:
      UserError: not CSV.
    """
    with open(path, encoding="utf-8-sig", newline="", errors="replace") as file:
        reader = csv.DictReader(file)
        try:
            for row in reader:
                name = f"{path.name}:{reader.line_num}"
                yield name, {key: row[key] or None for key in row if key}
        except csv.Error as error:
            raise UserError(f"{path}:{reader.line_num}: not CSV: {error}") from None


def read_tsv(path: Path, pictures: str) -> Iterator[Named | Dropped]:
    """The rows of tab-separated values with a header, as pandas writes them.

    Args:
      pictures: the column of pictures in base64: of more than 64 characters, a Blob, not a text.

    Yields:
      'file:row' and {column: text or Blob}; a row of another length than the header as Dropped.

    Raises:
      UserError: the file is empty.
    """
    with open(path, "rb") as file:
        if not path.stat().st_size:
            raise UserError(f"{path}: empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            header: list[str] = []
            for number, row in enumerate(_split_rows(content)):
                if not header:
                    header = [_decode(content, *field) for field in row]
                    continue
                name = f"{path.name}:{number}"
                if len(row) != len(header):
                    yield Dropped(name, "another number of columns")
                    continue
                yield (
                    name,
                    {
                        column: Blob(str(path), start, end - start, base64=True)
                        if column == pictures and end - start > _LONGEST_TEXT
                        else _decode(content, start, end) or None
                        for column, (start, end) in zip(header, row)
                    },
                )


def _split_rows(content: mmap.mmap) -> Iterator[list[tuple[int, int]]]:
    """Rows of (start, end) of their fields, without quotes."""
    row: list[tuple[int, int]] = []
    for match in _FIELD.finditer(content):
        quoted = match.start(1) >= 0
        row.append(match.span(1) if quoted else match.span(3))
        if match.group(2 if quoted else 4) != b"\t":
            if len(row) > 1 or row[0][0] < row[0][1]:  # Not an empty line, as after the last.
                yield row
            row = []


def _decode(content: mmap.mmap, start: int, end: int) -> str:
    text = content[start:end].decode("utf-8-sig", errors="replace")
    return text.rstrip("\r").replace('""', '"')
