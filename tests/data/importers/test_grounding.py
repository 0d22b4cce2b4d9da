# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
import os
import pickle

import pytest

from jvlm.errors import UserError


def reference(**extra):
    return {
        "ref_id": 12,
        "ann_id": 7,
        "image_id": 36,
        "split": "testA",
        "file_name": "COCO_train2014_000000000036_7.jpg",
        "sentences": [{"sent_id": 1, "sent": "left cup"}, {"sent_id": 2, "sent": "the tall one"}],
        **extra,
    }


INSTANCES = {
    "images": [{"id": 36, "file_name": "COCO_train2014_000000000036.jpg"}],
    "annotations": [{"id": 7, "bbox": [10.5, 20, 30, 40]}, {"id": 8, "bbox": [10, 20, 40]}],
}


def test_refcoco(read):
    refs = [reference(), reference(split="val"), reference(ann_id=8), reference(ann_id=9)]
    contents = {
        "refs(unc).p": pickle.dumps(refs, protocol=0),
        "refs(google).p": pickle.dumps([reference(split="test")], protocol=2),
        "instances.json": INSTANCES,
    }
    records, dropped = read("refcoco", contents)
    values = {"expressions": ["left cup", "the tall one"], "box": [10.5, 20, 40.5, 60]}
    values |= {"image_id": "36", "proposals": []}
    image = "train2014/COCO_train2014_000000000036.jpg"
    assert records == [("testA", "12", values, [image]), ("validation", "12", values, [image])]
    assert dropped == [("refs(unc).p:2", "box: not 4 numbers"), ("refs(unc).p:3", "no box")]
    assert [split for split, *_ in read("refcoco", contents, root="refs(google).p")[0]] == ["test"]


def test_refcoco_with_detected_boxes(read):
    contents = {
        "refcoco+/refs(unc).p": pickle.dumps([reference(), reference(image_id=37)]),
        "refcoco+/instances.json": INSTANCES,
        "refcoco+/dets.json": {"36": [[1, 2, 30, 40, 0.9], [5, 5, 10.5, 1]], "37": [7]},
    }
    records, dropped = read("refcoco", contents)
    boxes = [{"box": [1, 2, 31, 42]}, {"box": [5, 5, 15.5, 6]}]
    assert [values["proposals"] for _, _, values, _ in records] == [boxes]
    assert dropped == [("refs(unc).p:1", "box: not 4 numbers")]


def test_refcoco_of_python_2(read):
    # [{'split': 'train'}], its texts bytes, as the published pickles have them.
    published = b"(lp0\n(dp1\nS'split'\np2\nS'train'\np3\nsa."
    contents = {"refs(umd).p": published, "instances.json": INSTANCES}
    assert read("refcoco", contents) == ([], [("refs(umd).p:0", "no image_id")])


class Attack:
    def __reduce__(self):
        return os.system, ("true",)


def test_refcoco_runs_no_code(read):
    contents = {"refs(unc).p": pickle.dumps([Attack()]), "instances.json": INSTANCES}
    with pytest.raises(UserError, match=r"holds posix\.system, not plain values"):
        read("refcoco", contents)
    with pytest.raises(UserError, match="cannot be read as a refer pickle"):
        read("refcoco", {"refs(unc).p": b"nonsense"})


def test_refcoco_of_several_data_sets(read):
    contents = {"refcoco/refs(unc).p": b"", "refcoco+/refs(unc).p": b""}
    with pytest.raises(UserError, match="several data sets"):
        read("refcoco", contents)


def entity(names, box=None):
    names = "".join(f"<name>{name}</name>" for name in names)
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box or ())
    inner = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    inner = f"<bndbox>{inner}</bndbox>" if box else "<nobndbox>1</nobndbox><scene>0</scene>"
    return f"<object>{names}{inner}</object>"


def test_flickr30k_entities(read):
    objects = [
        entity(["1", "2"], (1, 11, 100, 200)),
        entity(["1"], (0, 5, 9, 9)),
        entity(["3"]),
        entity(["1"], (9, 9, "", 20)),
    ]
    sentences = (
        "[/EN#1/people/clothing Two young men] watch [/EN#3/scene the street] .\n"
        "It rains on [/EN#0/notvisual it] .\n"
        "A hat on [/EN#2/people one of them]\n"
    )
    contents = {
        "Annotations/10.xml": f"<annotation>{''.join(objects)}</annotation>",
        "Sentences/10.txt": sentences,
        "Annotations/11.xml": "<annotation><object>",
        "Sentences/11.txt": sentences,
        "Sentences/12.txt": sentences,
        "test.txt": "10\n",
    }
    records, dropped = read("flickr30k_entities", contents)
    first = {"phrase": "Two young men", "start": 0, "end": 13}
    boxes = [[0, 10, 100, 200], [-1, 4, 9, 9]]
    assert records == [
        (
            "test",
            "10:0",
            {
                "caption": "Two young men watch the street .",
                "regions": [first | {"box": box} for box in boxes],
                "image_id": "10",
            },
            ["10.jpg"],
        ),
        (
            "test",
            "10:2",
            {
                "caption": "A hat on one of them",
                "regions": [{"phrase": "one of them", "start": 9, "end": 20, "box": boxes[0]}],
                "image_id": "10",
            },
            ["10.jpg"],
        ),
    ]
    assert dropped[:2] == [("10.xml", "box: not 4 numbers"), ("10:1", "no phrase with a box")]
    assert dropped[2] == ("11.xml", "not XML")
    assert dropped[3:6] == [(f"11:{number}", "no phrase with a box") for number in range(3)]
    assert dropped[6] == ("12", "no annotation")


def test_grit(read, lines):
    row = {
        "key": "000373938",
        "caption": "a wire hanger with a cover",
        "width": 200,
        "height": 100,
        "noun_chunks": [[0, 13, 0.5, 0.1, 0.75, 0.9, 0.98], [19, 26, 0, 0, 1, 1, 0.7]],
    }
    outside = {**row, "noun_chunks": [[0, 99, 0, 0, 1, 1, 0.9]]}
    short = {**row, "noun_chunks": [[0, 13, 0.5, 0.1, 0.5, 0.9]]}
    indented = '{\n  "caption": "a cup", "image": "b.png", "width": 10, "height": 10,\n'
    indented += '  "noun_chunks": [[2, 5, 0, 0, 1, 0.5, 0.9]]\n}'
    contents = {"a.jsonl": lines(row, outside, short), "00/b.json": indented, "00_stats.json": "{}"}
    records, dropped = read("grit", contents)
    assert records[0][2]["regions"] == [
        {"phrase": "cup", "start": 2, "end": 5, "box": [0, 0, 10, 5]}
    ]
    assert records[0][3] == ["b.png"]
    assert records[1][2]["regions"] == [
        {"phrase": "a wire hanger", "start": 0, "end": 13, "box": [100, 10, 150, 90]},
        {"phrase": "a cover", "start": 19, "end": 26, "box": [0, 0, 200, 100]},
    ]
    assert records[1][3] == ["000373938.jpg"]
    assert dropped == [
        ("a.jsonl:2", "span outside the caption"),
        ("a.jsonl:3", "noun_chunks: not 7 numbers"),
    ]


def test_vg_regions(read):
    region = {"phrase": "the red kite", "x": 5, "y": 6, "width": 10, "height": 20}
    row = {"id": 3, "regions": [region, {**region, "height": "9"}, {**region, "phrase": None}]}
    records, dropped = read("vg_regions", {"region_descriptions.json": [row, {"id": 4}]})
    regions = [{"phrase": "the red kite", "start": 0, "end": 0, "box": [5, 6, 15, 26]}]
    values = {"regions": regions, "image_id": "3"}
    assert records == [("train", "3", values, ["VG_100K/3.jpg"])]
    assert dropped == [
        ("3:1", "x, y, width, height: not numbers"),
        ("3:2", "no phrase"),
        ("region_descriptions.json:1", "no regions"),
    ]
