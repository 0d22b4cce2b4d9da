# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Pictures with captions: the JSON lists of ALBEF and BLIP, and tables of one's own."""

import csv
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jvlm.data.importers.files import Files, read_lines, split_of
from jvlm.data.importers.json_entries import read_entries
from jvlm.data.importers.records import Dropped, Kind, Record
from jvlm.errors import UserError

# Names that columns have in the wild, the commonest first.
IMAGES = ("image", "file_name", "filename", "filepath", "file_path", "image_path", "image_name")
IMAGES += ("path", "img", "file", "images", "url", "image_url")
CAPTIONS = ("caption", "captions", "text", "texts", "title", "comment", "sentence", "sentences")
_Row = tuple[str, Any] | Dropped


def albef(files: Files) -> Iterator[Record | Dropped]:
    """ALBEF's and BLIP's lists of {image, caption: text or list, image_id}; CapFilt's have url."""
    for path in files.need("*.json"):
        yield from _records(files, split_of(path.stem), _read_list(path))


def _read_list(path: Path) -> Iterator[_Row]:
    for place, row in read_entries(path):
        if not isinstance(place, int):
            raise UserError(f"{path}: not a list of pictures with captions")
        yield f"{path.name}:{place}", row


def json_lines(files: Files) -> Iterator[Record | Dropped]:
    """One object a line; the keys of picture and caption have one of the usual names."""
    for path in files.need("*.jsonl", "*.ndjson", "*.json"):
        yield from _records(files, split_of(path.stem), read_lines(path))


def table(files: Files) -> Iterator[Record | Dropped]:
    """A header, then one row each; commas, tabs, semicolons or '|' between columns."""
    for path in files.need("*.csv", "*.tsv", "*.txt"):
        yield from _records(files, split_of(path.stem), _read_table(path))


def _read_table(path: Path) -> Iterator[_Row]:
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        header = file.readline().rstrip("\r\n")
        separator = max("\t,;|", key=header.count)
        columns = [name.strip() for name in next(csv.reader([header], delimiter=separator), ())]
        if not set(columns) & set(IMAGES):
            raise UserError(f"{path}: the first line names no column {', '.join(IMAGES)}")
        # Flickr30k's results.csv: a quotation mark between bars is one of the caption.
        quoting = csv.QUOTE_NONE if separator == "|" else csv.QUOTE_MINIMAL
        reader = csv.reader(file, delimiter=separator, quoting=quoting, skipinitialspace=True)
        while True:
            name = f"{path.name}:{reader.line_num + 2}"
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error:  # A field without end.
                yield Dropped(name, "not CSV")
                continue
            if len(row) == len(columns):
                yield name, dict(zip(columns, row))
            elif row:
                yield Dropped(name, "another number of columns")


def _records(files: Files, split: str, rows: Iterable[_Row]) -> Iterator[Record | Dropped]:
    """Rows of one picture that follow each other are one record: it is stored once."""
    for image, group in itertools.groupby(rows, _image):
        entries = list(group)
        if image is None:
            for entry in entries:
                named = entry if isinstance(entry, Dropped) else Dropped(entry[0], "no picture")
                yield named
            continue
        name, first = entries[0]
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
            (files.image(os.path.basename(image) if "://" in image else image),),
        )


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
    return {"restval": "train", "val": "validation", "valid": "validation"}.get(split, split)


CAPTIONED = {
    "albef": Kind(albef, "captions", "*.json: lists of {image or url, caption}, as ALBEF and BLIP"),
    "jsonl": Kind(json_lines, "captions", "*.jsonl: objects with image and caption (text, list)"),
    "csv": Kind(table, "captions", "*.csv, *.tsv: columns image and caption, named in line 1"),
}
