# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Decoding, resizing, cropping."""

import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from jvlm.data import images
from jvlm.data.images import BadRecord
from jvlm.data.transforms import compose
from jvlm.errors import UserError

GOLDEN = np.load(pathlib.Path(__file__).parent.parent / "golden/transforms.npz")


def encode(pixels, kind, **options):
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kind, **options)
    return data.getvalue()


@pytest.fixture
def photo(rng):
    base = rng.integers(0, 256, (6, 9, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(base).resize((90, 60), Image.Resampling.BICUBIC))


def test_the_size_before_resizing(photo):
    steps = [("image_size", {}), ("resize_square", dict(size=8))]
    row = compose(steps)({"image": photo}, np.random.default_rng(0))
    assert row["size"] == [90, 60] and row["image"].shape == (8, 8, 3)


def test_png_is_exact_and_jpeg_is_close(photo):
    np.testing.assert_array_equal(images.decode(encode(photo, "png")), photo)
    decoded = images.decode(encode(photo, "jpeg", quality=95))
    assert np.abs(decoded.astype(int) - photo).mean() < 4


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P"])
def test_every_mode_becomes_rgb(photo, mode):
    data = io.BytesIO()
    Image.fromarray(photo).convert(mode).save(data, "jpeg" if mode in ("L", "CMYK") else "png")
    assert images.decode(data.getvalue()).shape == photo.shape


def test_sixteen_bits_are_not_white(photo):
    data, gray = io.BytesIO(), np.asarray(Image.fromarray(photo).convert("L"))
    Image.fromarray(gray.astype(np.uint16) * 257).save(data, "png")
    np.testing.assert_array_equal(images.decode(data.getvalue()), np.stack([gray] * 3, -1))


def test_damaged_files(photo, tmp_path):
    good = encode(photo, "png")
    for bad in (b"", b"hello", good[:100], b"\xff\xd8\xff" + b"junk"):
        with pytest.raises(BadRecord, match="not a readable image"):
            images.decode(bad)
    path = tmp_path / "x.png"
    path.write_bytes(good[:100])
    with pytest.raises(UserError, match="x.png: not a readable image"):
        images.read(path)
    with pytest.raises(UserError, match="nowhere.png: No such file"):
        images.read(tmp_path / "nowhere.png")


def test_resize_and_crop(photo):
    assert images.resize_shortest(photo, 30).shape == (30, 45, 3)
    assert images.resize_shortest(photo.transpose(1, 0, 2), 30).shape == (45, 30, 3)
    np.testing.assert_array_equal(images.center_crop(photo, 60), photo[:, 15:75])
    assert images.resize(photo, 60, 90) is photo


@pytest.mark.parametrize(
    "name, step", [("clip_image_eval", "resize_center_crop"), ("blip_image_eval", "resize_square")]
)
def test_evaluation_as_lavis_resizes(name, step):
    cases = [key.split("/") for key in GOLDEN if key.startswith(name)]
    assert len(cases) == 4
    for _, source, size in cases:
        got = compose([(step, dict(size=int(size)))])({"image": GOLDEN[source]}, None)["image"]
        np.testing.assert_array_equal(got, GOLDEN[f"{name}/{source}/{size}"])


@pytest.mark.parametrize("size", [(40, 40), (31, 57), (120, 180)])
def test_the_fast_resize_is_pillows_but_for_its_rounding(photo, size):
    want, got = images.resize(photo, *size), images.resize_fast(photo, *size)
    assert got.shape == (*size, 3) and got.dtype == np.uint8
    difference = np.abs(got.astype(int) - want)
    assert difference.mean() < 0.3 and difference.max() <= 8
    crop = photo[3:-3, 5:-5]
    np.testing.assert_array_equal(
        images.resize_fast(crop, 32, 32), images.resize_fast(crop.copy(), 32, 32)
    )


def test_mirror(photo):
    np.testing.assert_array_equal(images.mirror(photo[3:-3, 5:-5]), photo[3:-3, -6:4:-1])


def test_random_resized_crop(photo):
    crops = [
        images.random_resized_crop(photo, 32, (0.5, 1.0), (0.75, 1.33), np.random.default_rng(s))
        for s in (1, 1, 2)
    ]
    assert all(crop.shape == (32, 32, 3) and crop.dtype == np.uint8 for crop in crops)
    np.testing.assert_array_equal(crops[0], crops[1])
    assert not np.array_equal(crops[0], crops[2])
    # An impossible shape falls back to the middle.
    assert images.random_resized_crop(
        photo, 32, (1.0, 1.0), (9.0, 9.1), np.random.default_rng(0)
    ).shape == (32, 32, 3)


def test_arrays_are_checked(photo):
    assert images.to_array(photo) is photo
    with pytest.raises(UserError, match="uint8"):
        images.to_array(photo / 255)
