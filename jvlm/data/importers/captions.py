# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Pictures with captions: the JSON lists of ALBEF and BLIP, and tables of one's own."""

import collections
import csv
import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from jvlm.data.importers.files import Files, read_lines
from jvlm.data.importers.json_entries import read_entries
from jvlm.data.importers.records import Blob, Dropped, Kind, Record
from jvlm.errors import UserError

# Names that columns have in the wild, the commonest first.
IMAGES = ("image", "file_name", "filename", "filepath", "file_path", "image_path", "image_name")
IMAGES += ("path", "img", "file", "images", "url", "image_url")
CAPTIONS = ("caption", "captions", "text", "texts", "title", "comment", "sentence", "sentences")
_Row = tuple[str, Any] | Dropped
_LONGEST_ROW = 100  # Lines: captions may hold some line ends.


def albef(files: Files) -> Iterator[Record | Dropped]:
    """ALBEF's and BLIP's lists of {image, caption: text or list, image_id}; CapFilt's have url."""
    for path in files.need("*.json"):
        yield from _records(files, path, _read_list(path))


def _read_list(path: Path) -> Iterator[_Row]:
    for place, row in read_entries(path):
        if not isinstance(place, int):
            raise UserError(f"{path}: not a list of pictures with captions")
        yield f"{path.name}:{place}", row


def json_lines(files: Files) -> Iterator[Record | Dropped]:
    """One object a line; the keys of picture and caption have one of the usual names."""
    for path in files.need("*.jsonl", "*.ndjson", "*.json"):
        yield from _records(files, path, read_lines(path))


def table(files: Files) -> Iterator[Record | Dropped]:
    """A header, then one row each; commas, tabs, semicolons or '|' between columns."""
    for path in files.need("*.csv", "*.tsv", "*.txt"):
        yield from _records(files, path, _read_table(path))


def _read_table(path: Path) -> Iterator[_Row]:
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        header = file.readline().rstrip("\r\n")
        separator = max("\t,;|", key=header.count)
        columns = [name.strip() for name in next(csv.reader([header], delimiter=separator), ())]
        if not set(columns) & set(IMAGES):
            raise UserError(f"{path}: the first line names no column {', '.join(IMAGES)}")
        # Flickr30k's results.csv: a quotation mark between bars is one of the caption.
        quoting = csv.QUOTE_NONE if separator == "|" else csv.QUOTE_MINIMAL
        lines = _Lines(file)
        reader = csv.reader(lines, delimiter=separator, quoting=quoting, skipinitialspace=True)
        while True:
            name = f"{path.name}:{lines.begin_row()}"
            try:
                row = next(reader)
                is_open = lines.are_open()
            except StopIteration:
                return
            except csv.Error:  # A field that is too long.
                is_open = True
            if is_open:  # The rows behind its quotation mark are not lost with it.
                lines.give_back()
                yield Dropped(name, "quotation mark without end")
            elif len(row) == len(columns):
                yield name, dict(zip(columns, row))
            elif row:
                yield Dropped(name, "another number of columns")


class _Lines:
    """The lines of a table after its header; a row's further lines may be given back."""

    def __init__(self, file: TextIO):
        self._file, self._number = file, 2
        self._row: list[str] = []
        self._again: collections.deque[str] = collections.deque()

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if len(self._row) == _LONGEST_ROW:
            raise StopIteration
        line = self._again.popleft() if self._again else self._file.readline()
        if not line:
            raise StopIteration
        self._row.append(line)
        return line

    def begin_row(self) -> int:
        """The number of its first line."""
        self._number += len(self._row)
        self._row = []
        return self._number

    def are_open(self) -> bool:
        """Whether the row's lines were taken for one by an odd quotation mark."""
        several, odd = len(self._row) > 1, sum(line.count('"') for line in self._row) % 2
        return several and (bool(odd) or len(self._row) == _LONGEST_ROW)

    def give_back(self) -> None:
        self._again.extendleft(self._row[:0:-1])
        self._row = self._row[:1]


def _records(files: Files, path: Path, rows: Iterable[_Row]) -> Iterator[Record | Dropped]:
    """Rows of one picture that follow each other are one record: it is stored once."""
    split, folder = files.split(path), os.path.dirname(files.relative(path))
    for image, group in itertools.groupby(rows, _image):
        entries = list(group)
        if image is None:
            for entry in entries:
                is_row = not isinstance(entry, Dropped)
                entry = Dropped(entry[0], "no picture") if is_row else entry
                yield dataclasses.replace(entry, id=os.path.join(folder, entry.id))
            continue
        name, first = os.path.join(folder, entries[0][0]), entries[0][1]
        captions = [text for _, row in entries for text in _captions(row)]
        if not captions and not {*first} & {"image_id", "img_id"}:  # NoCaps has hidden captions.
            yield Dropped(name, "no caption")
            continue
        yield Record(
            _split(first, split),
            name,
            {
                "captions": captions,
                "image_id": first.get("image_id", first.get("img_id")),
                "url": first.get("url") or first.get("image_url"),
            },
            (_find(files, folder, image),),
        )


def _find(files: Files, folder: str, image: str) -> Blob:
    if "://" in image:
        return files.image(os.path.basename(image))
    beside = os.path.join(folder, image)  # As Hugging Face's train/metadata.jsonl has it.
    is_there = folder and os.path.isfile(files.images / beside)
    return files.image(beside if is_there else image)


def _image(row: _Row) -> str | None:
    if isinstance(row, Dropped) or not isinstance(row[1], Mapping):
        return None
    name = _first(row[1], IMAGES)
    return name if isinstance(name, str) and name else None


def _captions(row: Mapping[str, Any]) -> list[Any]:
    value = _first(row, CAPTIONS)
    return value if isinstance(value, list) else [] if value in (None, "") else [value]


def _first(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((row[name] for name in names if name in row), None)


def _split(row: Mapping[str, Any], default: str) -> str:
    """Of a column `split`: Karpathy's restval is for training."""
    split = row.get("split")
    if not isinstance(split, str) or not split:
        return default
    published = {"restval": "train", **dict.fromkeys(("val", "valid", "dev"), "validation")}
    return published.get(split, split)


CAPTIONED = {
    "albef": Kind(albef, "captions", "*.json: lists of {image or url, caption}, as ALBEF and BLIP"),
    "jsonl": Kind(json_lines, "captions", "*.jsonl: objects with image and caption (text, list)"),
    "csv": Kind(table, "captions", "*.csv, *.tsv: columns image and caption, named in line 1"),
}
