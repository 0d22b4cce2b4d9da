# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""RandomAugment against the official OpenCV code, square pads, several images."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from jvlm.data import auto_augment
from jvlm.data.augment import OPERATIONS, augment
from jvlm.data.images import BadRecord
from jvlm.data.transforms import compose
from jvlm.errors import UserError

GOLDEN = np.load(pathlib.Path(__file__).parent.parent / "golden/transforms.npz")


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "Identity"])
def test_official(name):
    cases = [key.split("/") for key in GOLDEN if f"/{name}/" in key]
    assert cases
    for source, _, level in cases:
        got = augment(GOLDEN[source], name, float(level))
        np.testing.assert_array_equal(got, GOLDEN[f"{source}/{name}/{level}"], err_msg=level)


def test_what_was_meant():
    """Pillow's autocontrast, and no pixel that wraps around."""
    image = np.full((6, 6, 3), 100, np.uint8)
    image[2:4, 2:4] = 150
    assert (augment(image, "AutoContrast", 7) == 255).all()
    fixed = augment(image, "AutoContrast", 7, "fixed")
    assert set(np.unique(fixed)) == {0, 255}
    image = np.where(image == 100, 0, 255).astype(np.uint8)
    wrapped = augment(image, "Sharpness", 10)
    fixed = augment(image, "Sharpness", 10, "fixed")
    assert (fixed[wrapped != fixed] % 255 == 0).all() and (wrapped != fixed).any()


def test_draws(rng):
    image = rng.integers(0, 256, (9, 9, 3)).astype(np.uint8)
    options = dict(magnitude=7, operations=("TranslateX", "Identity"), count=1)
    chain = compose([("random_augment", options)])
    draw = lambda seed: chain({"image": image}, np.random.default_rng(seed))["image"]
    np.testing.assert_array_equal(draw(3), draw(3))
    kinds = {draw(seed).tobytes() for seed in range(40)}
    moved = [augment(image, "TranslateX", level).tobytes() for level in (7, -7)]
    assert kinds == {image.tobytes(), *moved}
    same = compose([("random_augment", {**options, "probability": 0.0})])
    assert same({"image": image}, rng)["image"] is image
    with pytest.raises(UserError, match="'Rotat' is unknown. Did you mean 'Rotate'"):
        augment(image, "Rotat", 1)
    with pytest.raises(UserError, match="compat 'new' is unknown"):
        augment(image, "Rotate", 1, "new")


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5)])
def test_a_square_around_an_image(rng, shape):
    """LLaVA's expand2square, in Pillow as there."""
    image = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    size, (height, width) = max(shape), shape
    want = Image.new("RGB", (size, size), (122, 116, 104))
    want.paste(Image.fromarray(image), ((size - width) // 2, (size - height) // 2))
    got = compose([("pad_square", {})])({"image": image}, None)["image"]
    np.testing.assert_array_equal(got, np.asarray(want))


def test_several_images(rng):
    pictures = [rng.integers(0, 256, (8, width, 3)).astype(np.uint8) for width in (8, 12)]
    steps = [("pad_square", {}), ("resize_square", dict(size=8))]
    chain = compose([("each_image", dict(steps=steps, count=2, size=8))])
    two = chain({"images": pictures}, rng)
    assert two["image"].shape == (2, 8, 8, 3) and two["image_valid"].tolist() == [True, True]
    np.testing.assert_array_equal(two["image"][0], pictures[0])
    one = chain({"images": pictures[1:]}, rng)
    np.testing.assert_array_equal(one["image"][0], two["image"][1])
    assert one["image_valid"].tolist() == [True, False] and not one["image"][1].any()
    assert not chain({"images": []}, rng)["image_valid"].any()
    clip = compose([("each_image", dict(steps=steps, count=5, size=8, repeat=True))])
    frames = clip({"images": pictures}, rng)
    assert frames["image_valid"].all()
    np.testing.assert_array_equal(frames["image"], two["image"][[0, 0, 0, 1, 1]])
    with pytest.raises(BadRecord, match="x: no images"):
        clip({"id": "x", "images": []}, rng)
    named = dict(steps=steps, count=2, size=8, key=("left", "right"))
    named = compose([("each_image", named)])(dict(zip(("left", "right"), pictures)), rng)
    np.testing.assert_array_equal(named["image"], two["image"])
    with pytest.raises(BadRecord, match="x: 3 images, 2 fit in"):
        chain({"id": "x", "images": [*pictures, pictures[0]]}, rng)
    with pytest.raises(UserError, match="steps make 12 x 12 px: set size"):
        compose([("each_image", dict(steps=steps[:1], count=2, size=8))])({"images": pictures}, rng)
    with pytest.raises(UserError, match=r"each_image.pad_squar: unknown step. Did you mean"):
        compose([("each_image", dict(steps=[("pad_squar", {})], count=2, size=8))])
    # The model's own image transforms stand inside, too.
    inner = dict(steps=[("preprocess", {})], count=1, size=4)
    chain = compose([("each_image", inner)], preprocess=[("resize_square", dict(size=4))])
    assert chain({"images": pictures[:1]}, rng)["image"].shape == (1, 4, 4, 3)


def test_auto_augment():
    """Every operation of the policy is timm's; its probabilities are drawn."""
    fill = (123, 117, 104)
    for place, pair in enumerate(auto_augment.POLICY):
        for number, (name, _, level) in enumerate(pair):
            got = auto_augment.augment(GOLDEN["smooth"], name, level, fill)
            np.testing.assert_array_equal(got, GOLDEN[f"timm/{place}/{number}"], err_msg=name)
    chain = compose([("auto_augment", {})])
    draw = lambda seed: chain({"image": GOLDEN["smooth"]}, np.random.default_rng(seed))["image"]
    assert len({draw(seed).tobytes() for seed in range(60)}) > 15
    np.testing.assert_array_equal(draw(5), draw(5))
    with pytest.raises(UserError, match="'Solarise' is unknown. Did you mean 'Solarize'"):
        auto_augment.augment(GOLDEN["smooth"], "Solarise", 1, fill)
