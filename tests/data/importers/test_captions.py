# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Captions in JSON lists, JSON lines and tables: small files as they are in the wild."""

import json
import os

import pytest

from jvlm.data.importers import KINDS
from jvlm.data.importers.files import Files
from jvlm.data.importers.records import Dropped
from jvlm.errors import UserError


@pytest.fixture
def read(tmp_path):
    """(kind, file name, content) -> (split, picture, captions) or reason of what is read."""

    def read(kind, name, content):
        (tmp_path / name).write_text(content)
        found = []
        for record in KINDS[kind].read(Files(tmp_path / name, tmp_path)):
            if isinstance(record, Dropped):
                found.append(record.reason)
            else:
                picture = os.path.relpath(record.images[0].path, tmp_path)
                found.append((record.split, picture, record.values["captions"]))
        return found

    return read


def test_albef_training_list(read):
    rows = [
        {"image": "a.jpg", "caption": "one", "image_id": "coco_1"},
        {"image": "a.jpg", "caption": "two", "image_id": "coco_1"},
        {"image": "b.jpg", "caption": "three"},
        {"caption": "no picture"},
        {"image": "c.jpg"},
        {"image": "d.jpg", "caption": ""},
        ["no object"],
    ]
    assert read("albef", "coco_karpathy_train.json", json.dumps(rows)) == [
        ("train", "a.jpg", ["one", "two"]),
        ("train", "b.jpg", ["three"]),
        "no picture",
        "no caption",
        "no caption",
        "no picture",
    ]


def test_albef_retrieval_nocaps_and_capfilt(read, tmp_path):
    rows = [{"image": "val2014/a.jpg", "caption": ["one", "two"]}]
    assert read("albef", "coco_karpathy_val.json", json.dumps(rows)) == [
        ("validation", "val2014/a.jpg", ["one", "two"])
    ]
    rows = [{"image": "val/a.jpg", "img_id": 3}]
    assert read("albef", "nocaps_val.json", json.dumps(rows)) == [("validation", "val/a.jpg", [])]
    (tmp_path / "x.jpg").touch()
    rows = [{"url": "http://host/y/x.jpg", "caption": "one"}]
    assert read("albef", "ccs_filtered.json", json.dumps(rows)) == [("train", "x.jpg", ["one"])]
    rows = [{"image": "b/x.jpg", "caption": "two"}]  # The one that is there is another.
    (tmp_path / "x.jpg").unlink()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg").touch()
    assert read("albef", "c.json", json.dumps(rows)) == [("train", "b/x.jpg", ["two"])]


def test_albef_of_another_kind(read):
    with pytest.raises(UserError, match="not a list of pictures"):
        read("albef", "a.json", '{"images": []}')


def test_json_lines(read):
    lines = [
        '{"file_name": "a.png", "text": "雪", "split": "restval"}',
        '{"image": "b.png", "captions": ["x", "y"], "split": "val"}',
        '{"image": 3, "caption": "x"}',
        "{",
    ]
    assert read("jsonl", "metadata.jsonl", "\n".join(lines)) == [
        ("train", "a.png", ["雪"]),
        ("validation", "b.png", ["x", "y"]),
        "no picture",
        "not JSON",
    ]


def test_tables(read):
    content = 'filepath,title\r\na.jpg,"one, ""two"""\r\nb.jpg,x,y\r\n\r\nc.jpg,z\r\n'
    assert read("csv", "test.csv", content) == [
        ("test", "a.jpg", ['one, "two"']),
        "another number of columns",
        ("test", "c.jpg", ["z"]),
    ]
    flickr = 'image_name| comment_number| comment\n1.jpg| 0| A "dog" .\n1.jpg| 1| " Two .\n'
    assert read("csv", "results.csv", flickr) == [("train", "1.jpg", ['A "dog" .', '" Two .'])]
    assert read("csv", "a.tsv", '"filepath"\t"title"\na.jpg\t"x\ty"\n') == [
        ("train", "a.jpg", ["x\ty"])
    ]
    content = 'image,caption\na.jpg,"b\nc"\nb.jpg,"open\nc.jpg,"x"\nd.jpg,"open\n'
    many = [(f"{n}.jpg", "y") for n in range(300)]
    content += "".join(f"{name},{caption}\n" for name, caption in many)
    assert read("csv", "open.csv", content) == [
        ("train", "a.jpg", ["b\nc"]),
        "quotation mark without end",
        ("train", "c.jpg", ["x"]),
        "quotation mark without end",
        *(("train", name, [caption]) for name, caption in many),
    ]
    with pytest.raises(UserError, match="the first line names no column image"):
        read("csv", "b.csv", "a,b\n1,2\n")


def test_folders_with_a_table_each(tmp_path):
    """As Hugging Face's image folders: pictures are beside the table that names them."""
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "0.jpg").touch()
        lines = f'{{"file_name": "0.jpg", "text": "{split}"}}\n{{"file_name": 3}}\n{{'
        (tmp_path / split / "metadata.jsonl").write_text(lines)
    found = list(KINDS["jsonl"].read(Files(tmp_path, tmp_path)))
    records = {r.split: r for r in found if not isinstance(r, Dropped)}
    for split, record in records.items():
        assert record.values["captions"] == [split] and record.id == f"{split}/metadata.jsonl:1"
        assert record.images[0].path == str(tmp_path / split / "0.jpg")
    ids = [f"{split}/metadata.jsonl:{line}" for split in ("test", "train") for line in (2, 3)]
    assert len(records) == 2 and [r.id for r in found if isinstance(r, Dropped)] == ids
