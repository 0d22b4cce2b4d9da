# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
import os

import pytest

from jvlm.data.importers.files import Files, split_of


@pytest.mark.parametrize(
    ("there", "name", "found"),
    [
        ("train2014/1.jpg", "train2014/1.jpg", True),
        ("images/train2014/1.jpg", "train2014/1.jpg", True),  # Unpacked one folder below.
        ("train2014/1.jpg", "/data/coco/train2014/1.jpg", True),  # Of the authors' machine.
        ("1.jpg", "train2014/1.jpg", True),  # Flat.
        ("b/1.jpg", "1.jpg", True),
        ("b/1.jpg", "a/1.jpg", False),  # Another picture that is called the same.
        ("ba/1.jpg", "a/1.jpg", False),
    ],
)
def test_a_picture_is_found_where_it_was_unpacked(write, there, name, found):
    folder = write({there: b""})
    image = Files(folder, folder).image(name)
    assert os.path.isfile(image.path) == found
    assert found or image.path == str(folder / name)


def test_of_several_pictures_of_a_name_none_is_taken(write):
    folder = write({"a/1.jpg": b"", "b/1.jpg": b""})
    assert not os.path.exists(Files(folder, folder).image("1.jpg").path)
    (folder / "b" / "1.jpg").unlink()
    (folder / "b" / "1.jpg").symlink_to(folder / "a" / "1.jpg")
    assert os.path.exists(Files(folder, folder).image("1.jpg").path)  # It is one.


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", "ccpc_train_v1.0 coco_retrieval latest medieval trainval retrieval_train device"),
        ("validation", "val2014 visdial_1.0_val valid nocaps_val_4500 dev snli_ve_dev_v2 minival"),
        ("test", "test2015 refcoco_testA test1 MMBench_TEST_CN capsTest testset"),
        ("testdev", "testdev_balanced test-dev2015"),
    ],
)
def test_the_split_that_a_name_tells(split, names):
    assert {split_of(name) for name in names.split()} == {split}


def test_the_split_that_a_folder_tells(write):
    names = ["a/val/deep/x.csv", "dev/test.csv", "test/train.csv", "x.csv"]
    files = Files(folder := write(dict.fromkeys(names, b"")), folder)
    assert [files.split(folder / name) for name in names] == [
        "validation",
        "test",
        "train",
        "train",
    ]


def test_imported_data_sets_are_no_source(write):
    names = ["my/1.0.0/dataset_info.json", "my/1.0.0/x.json", "our.part/jobs/x.json", "a/x.json"]
    folder = write(dict.fromkeys(names, b""))
    assert Files(folder, folder).find("*.json") == [folder / "a" / "x.json"]
