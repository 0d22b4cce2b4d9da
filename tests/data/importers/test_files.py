# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
import os

import pytest

from jvlm.data.importers.files import Files


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
