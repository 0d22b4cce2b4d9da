# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from jvlm.errors import UserError


def karpathy(split, number, **extra):
    return {
        "filepath": "val2014",
        "filename": f"COCO_val2014_{number:012}.jpg",
        "split": split,
        "cocoid": number,
        "sentences": [{"raw": "A red kite."}, {"raw": "Kite over dunes."}],
        **extra,
    }


def test_coco_karpathy(read):
    images = [karpathy("test", 7), karpathy("restval", 8), karpathy("val", 9)]
    images += [karpathy("rest", 3), karpathy("train", 4, sentences=[{"tokens": ["a"]}])]
    records, dropped = read("coco_karpathy", {"dataset_coco.json": {"images": images}})
    captions = ["A red kite.", "Kite over dunes."]
    name = "val2014/COCO_val2014_{:012}.jpg".format
    assert records == [
        ("test", "7", {"captions": captions, "image_id": "7"}, [name(7)]),
        ("train", "8", {"captions": captions, "image_id": "8"}, [name(8)]),
        ("validation", "9", {"captions": captions, "image_id": "9"}, [name(9)]),
    ]
    assert dropped == [
        ("dataset_coco.json:images:3", "unknown split"),
        ("dataset_coco.json:images:4", "no raw"),
    ]


def test_flickr30k_karpathy(read):
    image = {"filename": "41.jpg", "split": "test", "imgid": 0, "sentences": [{"raw": "Tea."}]}
    contents = {"dataset_flickr30k.json": {"images": [image]}, "pictures/41.jpg": b""}
    records, _ = read("flickr30k_karpathy", contents)
    assert records == [
        ("test", "41", {"captions": ["Tea."], "image_id": "41"}, ["pictures/41.jpg"])
    ]


def test_coco_captions(read):
    def image(number, subset):
        name = f"COCO_{subset}_{number:012}.jpg"
        return {"id": number, "file_name": name, "coco_url": f"http://a/{subset}/{name}"}

    val = {
        "images": [image(5, "val2014"), image(6, "val2014"), "broken"],
        "annotations": [
            {"image_id": 5, "id": 1, "caption": "One."},
            {"image_id": 5, "id": 2, "caption": "Two."},
            {"image_id": 6, "id": 3},
        ],
    }
    contents = {
        "annotations/captions_val2014.json": val,
        "annotations/image_info_test2014.json": {"images": [image(1, "test2014")]},
        "val2014/COCO_val2014_000000000005.jpg": b"",
    }
    records, dropped = read("coco_captions", contents)
    assert [(split, name, values["captions"]) for split, name, values, _ in records] == [
        ("validation", "5", ["One.", "Two."]),
        ("test", "1", []),
    ]
    assert records[0][3] == ["val2014/COCO_val2014_000000000005.jpg"]
    assert dropped == [
        ("captions_val2014.json:annotations:2", "no caption"),
        ("captions_val2014.json:images:1", "no caption"),
        ("captions_val2014.json:images:2", "not an object"),
    ]


def test_two_releases_of_a_split_are_refused(read):
    empty = {"images": [], "annotations": []}
    with pytest.raises(UserError, match=r"both of the split validation: give one"):
        read("coco_captions", {"captions_val2014.json": empty, "captions_val2017.json": empty})


def test_nocaps(read):
    content = {
        "images": [{"id": 0, "file_name": "0013ea20.jpg", "domain": "out-domain"}],
        "annotations": [{"image_id": 0, "id": 0, "caption": "A stall of dates."}],
    }
    records, _ = read("nocaps", {"nocaps_val_4500_captions.json": content})
    split, _, values, images = records[0]
    assert (split, values["category"], images) == ("validation", "out-domain", ["0013ea20.jpg"])
    assert values["captions"] == ["A stall of dates."]


def test_flickr30k_tokens(read):
    tokens = "10.jpg#0\tA dog .\n10.jpg#1\tThe dog runs .\n\n11.jpg#0\tA hat .\n12.jpg no tab\n"
    records, dropped = read("flickr30k", {"results_20130124.token": tokens, "test.txt": "11\n"})
    assert [(split, name, values["captions"]) for split, name, values, _ in records] == [
        ("train", "10", ["A dog .", "The dog runs ."]),
        ("test", "11", ["A hat ."]),
    ]
    assert dropped == [("results_20130124.token:5", "no caption")]
    records, _ = read("flickr30k", {}, root="results_20130124.token")  # Beside its lists.
    assert [split for split, *_ in records] == ["train", "test"]


def test_textcaps(read):
    row = {"image_id": "aa", "caption_str": "A sign reads STOP.", "image_path": "train/aa.jpg"}
    contents = {
        "TextCaps_0.1_train.json": {
            "data": [row, {**row, "caption_str": "Stop sign."}, {"image_id": "bb"}]
        },
        "TextCaps_0.1_test.json": {"data": [{"image_id": "cc"}]},
    }
    records, dropped = read("textcaps", contents)
    assert [(split, name, values["captions"]) for split, name, values, _ in records] == [
        ("test", "cc", []),
        ("train", "aa", ["A sign reads STOP.", "Stop sign."]),
    ]
    assert records[1][3] == ["train_images/aa.jpg"]
    assert dropped == [("TextCaps_0.1_train.json:data:2", "no caption_str")]


def test_albef_refcoco(read):
    row = {"image": "train2014/COCO_train2014_000000000036.jpg", "text": "left umbrella"}
    rows = [{**row, "ref_id": 12}, {"image": row["image"]}]
    records, dropped = read("albef_refcoco", {"refcoco+_val.json": rows})
    image_id = "COCO_train2014_000000000036"
    values = {"captions": ["left umbrella"], "image_id": image_id}
    assert records == [("validation", "12", values, [row["image"]])]
    assert dropped == [("refcoco+_val.json:1", "no text")]


def test_missing_files_are_named(read):
    with pytest.raises(UserError, match=r"no file dataset_coco\.json$"):
        read("coco_karpathy", {"other.json": []})
    with pytest.raises(UserError, match=r"no list under 'images'"):
        read("coco_karpathy", {"dataset_coco.json": {"image": []}})
