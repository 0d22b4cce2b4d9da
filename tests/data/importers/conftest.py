# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`read`: a reader's records of files that a test writes out."""

import json
import os

import pytest

from jvlm.data.importers import KINDS
from jvlm.data.importers.files import Files
from jvlm.data.importers.records import Dropped
from jvlm.data.importers.schemas import SCHEMAS


@pytest.fixture
def write(tmp_path):
    """Writes {name: text, bytes, or what becomes JSON} below tmp_path, which it returns."""

    def write_all(contents):
        for name, content in contents.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not isinstance(content, str | bytes):
                content = json.dumps(content)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path

    return write_all


@pytest.fixture
def read(write):
    """Reads a kind: [(split, id, values, pictures)], [(id, reason)]; values fit the schema."""

    def read_all(kind, contents, root=""):
        folder = write(contents)
        found = list(KINDS[kind].read(Files(folder / root, folder)))
        dropped = [(item.id, item.reason) for item in found if isinstance(item, Dropped)]
        records = [item for item in found if not isinstance(item, Dropped)]
        for record in records:
            check(record, SCHEMAS[KINDS[kind].schema], KINDS[kind].labels)
        return [
            (r.split, r.id, dict(r.values), [os.path.relpath(b.path, folder) for b in r.images])
            for r in records
        ], dropped

    return read_all


def check(record, schema, labels):
    """A record's values are of the schema's kinds, and it has its pictures."""
    assert record.split.isidentifier() and isinstance(record.id, str)
    assert ("image" in schema) <= (len(record.images) == 1)
    assert record.values.keys() <= schema.keys() - {"image", "images"}
    for key, value in record.values.items():
        check_value(schema[key], value, labels)


def check_value(kind, value, labels):
    if isinstance(kind, dict):
        assert isinstance(value, list)
        for item in value:
            assert item.keys() == kind.keys()
            for key, inner in kind.items():
                check_value(inner, item[key], labels)
    elif kind == "texts":
        assert all(type(text) is str for text in value)
    elif kind == "box":
        assert len(value) == 4 and all(type(number) is float for number in value)
    elif kind == "label":
        assert type(value) is int and -1 <= value < len(labels)
    else:
        assert type(value) is {"text": str, "int": int}[kind]


def lines(*rows):
    """JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(name="lines")
def _lines():
    return lines
