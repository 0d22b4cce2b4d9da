# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tars as img2dataset writes them, and folders of classes."""

import gzip
import io
import json
import os
import tarfile

import pytest
import simplejpeg

from jvlm.data import images
from jvlm.data.importers import engine
from jvlm.data.sources.tfds import TFDSSource
from jvlm.errors import UserError


@pytest.fixture
def picture(rng):
    return simplejpeg.encode_jpeg(rng.integers(0, 255, (16, 16, 3), "uint8"))


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def read(folder, split="train"):
    source = TFDSSource(folder.name, split, str(folder.parent))
    return [source[index] for index in range(len(source))]


def test_tars(tmp_path, picture):
    facts = {"caption": "of json", "url": "http://host/1.jpg", "key": "000001", "status": "success"}
    members = [
        ("000000.jpg", picture),
        ("000000.txt", "雪\n".encode()),
        ("000001.json", json.dumps(facts).encode()),
        ("000001.jpg", picture),
        ("000002.jpg", picture),
        ("000003.txt", b"no picture"),
        ("sub/000004.webp", picture),
        ("sub/000004.txt", b"below a folder"),
        ("000005.jpg", picture),
        ("000005.json", b"{"),
    ]
    write_tar(tmp_path / "00000.tar", members)
    # Cut off within the last picture.
    write_tar(tmp_path / "00001.tar", [("1.txt", b"x"), ("1.jpg", picture), *members[:2][::-1]])
    data = (tmp_path / "00001.tar").read_bytes()
    (tmp_path / "00001.tar").write_bytes(data[: data.rindex(picture) + 100])
    summary = engine.import_data("tars", tmp_path, tmp_path / "set", max_bad=1)
    examples = read(tmp_path / "set")
    assert [e["captions"] for e in examples] == [["雪"], ["of json"], ["below a folder"], ["x"]]
    assert [e["id"] for e in examples][2] == "00000.tar:sub/000004"
    assert {e["image"] for e in examples} == {picture}
    assert examples[1]["url"] == "http://host/1.jpg" and examples[1]["image_id"] == "000001"
    cut = "tar that ends too early"
    assert summary.dropped == {"no caption": 2, "no picture": 1, cut: 1, "unreadable file": 1}


def test_folders_of_tars(tmp_path, picture):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        write_tar(tmp_path / split / "0.tar", [("1.jpg", picture), ("1.txt", b"x")])
    summary = engine.import_data("tars", tmp_path, tmp_path / "set")
    assert summary.splits == {"train": 1, "validation": 1}
    assert read(tmp_path / "set", "validation")[0]["id"] == "val/0.tar:1"


def test_packed_tars(tmp_path, picture):
    write_tar(tmp_path / "a.tar", [("1.jpg", picture), ("1.txt", b"x")])
    (tmp_path / "b.tar").write_bytes(gzip.compress(os.urandom(4096)))
    with pytest.raises(UserError, match=r"1 damaged tar \(b.tar is packed, .* gunzip"):
        engine.import_data("tars", tmp_path, tmp_path / "set")


@pytest.mark.parametrize("nested", [False, True])
def test_folders_of_classes(tmp_path, picture, nested):
    root = tmp_path / "source"
    places = ["cat/1.jpg", "cat/2.jpg", "ant/deep/1.JPG", "ant/notes.txt"]
    if nested:
        places = [f"{split}/{place}" for split in ("train", "val") for place in places]
        places.remove("val/cat/1.jpg")
    for place in places:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(picture)
    summary = engine.import_data("folder", root, tmp_path / "set")
    assert summary.splits == ({"train": 3, "validation": 2} if nested else {"train": 3})
    assert [e["label"] for e in read(tmp_path / "set")] == [0, 1, 1]
    assert TFDSSource("set", "train", str(tmp_path)).class_names == ["ant", "cat"]
    assert images.decode(read(tmp_path / "set")[0]["image"]).shape == (16, 16, 3)


def test_pictures_beside_the_folders_of_classes(tmp_path, picture):
    root = tmp_path / "source"
    for place in ("train/cat/1.jpg", "val/cat/1.jpg", "test/1.jpg", "preview.jpg"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(picture)
    summary = engine.import_data("folder", root, tmp_path / "set", max_bad=0.5)
    assert summary.splits == {"train": 1, "validation": 1}
    assert summary.dropped == {"in no folder of a class": 2}
    assert TFDSSource("set", "train", str(tmp_path)).class_names == ["cat"]
