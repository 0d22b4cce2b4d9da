# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from jvlm.data.importers import KINDS
from jvlm.errors import UserError


def test_nlvr2(read, lines):
    row = {"sentence": "Both show a dog.", "identifier": "dev-8-0-1", "label": "True"}
    train = {**row, "identifier": "train-10-1-0", "directory": 17, "label": "False"}
    contents = {
        "data/train.json": lines(train),
        "data/dev.json": lines(row, {**row, "label": "Maybe"}),
        "data/test1.json": lines({**row, "identifier": "test1-0-1-0"}),
        "data/balanced/balanced_dev.json": lines(row),
        "dev/dev-8-0-img0.png": b"",
    }
    records, dropped = read("nlvr2", contents)
    assert [(split, name, values["label"]) for split, name, values, _ in records] == [
        ("validation", "dev-8-0-1", 1),
        ("test", "test1-0-1-0", 1),
        ("train", "train-10-1-0", 0),
    ]
    assert records[0][3] == ["dev/dev-8-0-img0.png", "dev/dev-8-0-img1.png"]
    assert records[2][3][0] == "images/train/17/train-10-1-img0.png"
    assert dropped == [("dev.json:2", "unknown label")]
    assert KINDS["nlvr2"].labels == ("False", "True")


def test_albef_nlvr(read):
    row = {"images": ["dev/a.png", "dev/b.png"], "sentence": "Two cats.", "label": "False"}
    rows = [row, {**row, "images": ["dev/a.png"]}]
    records, dropped = read("albef_nlvr", {"nlvr_dev.json": rows})
    values = {"text": "Two cats.", "label": 0}
    assert records == [("validation", "nlvr_dev.json:0", values, ["dev/a.png", "dev/b.png"])]
    assert dropped == [("nlvr_dev.json:1", "not two images")]


def test_snli_ve(read, lines):
    row = {"pairID": "45.jpg#2r1e", "sentence2": "Someone eats.", "gold_label": "entailment"}
    contents = {"snli_ve_dev.jsonl": lines(row, {**row, "gold_label": "-"}, {"pairID": "4.jpg#1"})}
    records, dropped = read("snli_ve", contents)
    values = {"text": "Someone eats.", "label": 2, "image_id": "45"}
    assert records == [("validation", "45.jpg#2r1e", values, ["45.jpg"])]
    assert dropped == [
        ("snli_ve_dev.jsonl:2", "unknown gold_label"),
        ("snli_ve_dev.jsonl:3", "no sentence2"),
    ]
    assert KINDS["snli_ve"].labels == ("contradiction", "neutral", "entailment")


def test_albef_ve(read):
    row = {"image": "45", "sentence": "Someone eats.", "label": "contradiction"}
    records, _ = read("albef_ve", {"ve_test.json": [row]})
    values = {"text": "Someone eats.", "label": 0, "image_id": "45"}
    assert records == [("test", "ve_test.json:0", values, ["45.jpg"])]


def test_vsr(read, lines):
    row = {"image": "000000239417.jpg", "caption": "The bench is left.", "label": 0}
    contents = {
        "random/dev.jsonl": lines(row, {**row, "label": 2}),
        "zeroshot/dev.jsonl": lines(row),
    }
    records, dropped = read("vsr", contents, root="random")
    values = {"text": "The bench is left.", "label": 0, "image_id": "000000239417"}
    assert records == [("validation", "dev.jsonl:1", values, ["000000239417.jpg"])]
    assert dropped == [("dev.jsonl:2", "unknown label")]
    with pytest.raises(UserError, match="both of the split validation"):
        read("vsr", contents)


def test_hateful_memes(read, lines):
    row = {"id": 42953, "img": "img/42953.png", "text": "its their character", "label": 1}
    unlabelled = {key: row[key] for key in ("id", "img", "text")}
    contents = {
        "train.jsonl": lines(row, unlabelled),
        "dev_seen.jsonl": lines(row),
        "test.jsonl": lines(unlabelled),
    }
    records, dropped = read("hateful_memes", contents)
    assert [(split, values["label"]) for split, _, values, _ in records] == [
        ("dev_seen", 1),
        ("test", -1),
        ("train", 1),
    ]
    assert records[0][3] == ["img/42953.png"]
    assert dropped == [("train.jsonl:2", "unknown label")]
    assert KINDS["hateful_memes"].labels == ("not-hateful", "hateful")
