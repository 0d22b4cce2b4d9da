# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""JSON lines, JSON lists, CSV and TSV: every row by its bytes, bad ones when it is their turn."""

import csv
import gzip
import json
import pickle

import pytest

from jvlm.data.images import BadRecord
from jvlm.data.sources import build_source
from jvlm.errors import UserError

ROWS = [
    {"image": "a.jpg", "caption": "诗 and ümlauts"},
    {"image": "sub/b.jpg", "caption": 'a "quoted"\nline, with [brackets]'},
    {"caption": "no picture"},
    {"image": "missing.jpg", "caption": "gone"},
    {"image": ["a.jpg", "sub/b.jpg"], "caption": "two"},
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.jpg").write_bytes(b"A")
    (tmp_path / "sub/b.jpg").write_bytes(b"B")
    return tmp_path


def check(source, folder):
    assert len(source) == len(ROWS)
    assert source[0] == {**ROWS[0], "image": b"A", "path": str(folder / "a.jpg")}
    assert source[1]["caption"] == ROWS[1]["caption"] and source[1]["image"] == b"B"
    assert source[2] == ROWS[2]
    with pytest.raises(BadRecord, match="missing.jpg: No such file"):
        source[3]
    assert source[4]["images"] == [b"A", b"B"] and "image" not in source[4]
    assert pickle.loads(pickle.dumps(source))[0] == source[0]


@pytest.mark.parametrize("ascii", [True, False])
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_json_lines(folder, ascii, end):
    lines = [json.dumps(row, ensure_ascii=ascii) for row in ROWS]
    text = (end or "\n\n").join(lines) + end
    (folder / "x.jsonl").write_bytes(text.encode("utf-8-sig" if ascii else "utf-8"))
    check(build_source(dict(kind="jsonl", path=str(folder / "x.jsonl"))), folder)


@pytest.mark.parametrize("indent", [None, 1])
def test_json_list(folder, indent):
    text = json.dumps(ROWS, ensure_ascii=indent is None, indent=indent)
    (folder / "x.json").write_text(text, encoding="utf-8")
    check(build_source(dict(kind="jsonl", path=str(folder / "x.json"))), folder)


def test_bad_lines_wait_for_their_turn(folder):
    (folder / "x.jsonl").write_bytes(
        b'{"caption": "x", "n": null}\n{"caption\n[1]\n{"caption": "\xff"}\n{}\n'
    )
    source = build_source(dict(kind="jsonl", path=str(folder / "x.jsonl"), need=("caption",)))
    assert len(source) == 5 and source[0] == {"caption": "x"}
    for index, message in ((1, "x.jsonl: row 2"), (2, "no JSON object, but list"), (3, "utf-8")):
        with pytest.raises(BadRecord, match=message):
            source[index]
    with pytest.raises(BadRecord, match="row 5: no 'caption', only nothing"):
        source[4]


def test_several_files_and_another_root(folder):
    (folder / "rows").mkdir()
    for name in ("1", "2"):
        (folder / f"rows/{name}.jsonl").write_text(json.dumps({"img": "a.jpg", "n": name}) + "\n")
    section = dict(kind="jsonl", path=str(folder / "rows"), image_root=str(folder), image_key="img")
    source = build_source(section)
    assert [source[i]["n"] for i in range(2)] == ["1", "2"] and source[1]["image"] == b"A"
    assert build_source({**section, "image_key": None})[0] == {"img": "a.jpg", "n": "1"}


@pytest.mark.parametrize("name, dialect", [("x.csv", "excel"), ("x.tsv", "excel-tab")])
def test_csv(folder, name, dialect):
    rows = [{"filepath": row["image"], "title": row["caption"]} for row in (*ROWS[:2], ROWS[3])]
    with open(folder / name, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["filepath", "title"], dialect=dialect)
        writer.writeheader()
        writer.writerows(rows)
    source = build_source(dict(kind="csv", path=str(folder / name), image_key="filepath"))
    assert [source[i]["title"] for i in range(2)] == [row["title"] for row in rows[:2]]
    assert source[1]["image"] == b"B" and len(source) == 3
    with pytest.raises(BadRecord, match="missing.jpg"):
        source[2]
    assert pickle.loads(pickle.dumps(source))[0] == source[0]


def test_csv_rows_of_another_length(folder):
    (folder / "x.csv").write_text("a,b\n1,2\n\n1,2,3\n4,5")
    source = build_source(dict(kind="csv", path=str(folder / "x.csv")))
    assert source[0] == {"a": "1", "b": "2"} and source[2] == {"a": "4", "b": "5"}
    with pytest.raises(BadRecord, match="row 2: 3 values, but 2 names"):
        source[1]


def test_csv_quotes(folder):
    """Captions as people write them; a quote that never ends may not swallow the rows below."""
    section = dict(kind="csv", path=str(folder / "x.tsv"), image_key="filepath")
    (folder / "x.tsv").write_text('filepath\ttitle\na.jpg\t"a" b\na.jpg\t"so\na.jpg\tc"\n')
    source = build_source({**section, "quotes": False})
    assert [source[i]["title"] for i in range(len(source))] == ['"a" b', '"so', 'c"']
    (folder / "x.tsv").write_text('filepath\ttitle\na.jpg\t"last\nline"')
    assert [build_source(section)[0]["title"]] == ["last\nline"]
    with pytest.raises(UserError, match='x.tsv: .*"delimiter" must be'):
        build_source({**section, "delimiter": "ab"})


@pytest.mark.parametrize(
    "kind, content, message",
    [
        ("jsonl", b"", "no rows"),
        ("jsonl", b'[{"a": 1}, {"a"', "cannot be read as a JSON list"),
        ("jsonl", gzip.compress(b"{}", mtime=0), "gunzip"),
        ("jsonl", b'{\n "images": []\n}\n', "one object over many lines"),
        ("csv", b"a,b\n", "no rows"),
        ("csv", b'a,b\n1,2\n\n3,"4\n5,6\n', "the quote in row 2 does not end; or set quotes"),
        ("csv", b"\xff\xfea\n1\n", "cannot be read as CSV"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, kind, content, message):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        build_source(dict(kind=kind, path=str(path)))
    assert str(path) in str(caught.value)
    with pytest.raises(UserError, match="nowhere: No such file"):
        build_source(dict(kind=kind, path="/nowhere"))
