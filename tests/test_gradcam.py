# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Heat maps held to the official code, and what places and boxes are made of them."""

import jax
import numpy as np
import pytest

from jvlm import gradcam, heat
from jvlm.data.frame import Frame, find_frame
from jvlm.errors import UserError
from jvlm.metrics.grounding import iou
from jvlm.models import build_model
from jvlm.precision import Compute
from tests.models.test_albef import MODEL, VQA
from tests.recorded import GOLDEN, load, read


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN / "albef_gradcam.npz"))


@pytest.fixture(scope="module")
def albef():
    model = build_model(MODEL | dict(mlm=False))
    retrieval = read("albef_retrieval")
    batch = {key: retrieval["batch"][key] for key in ("image", "text", "text_mask")}
    return model, load(model, retrieval["before"]), batch


@pytest.mark.parametrize("layer", [0, 1])
def test_maps_are_those_of_the_official_code(albef, golden, layer):
    model, params, batch = albef
    if layer == 1:  # As it is trained.
        model = build_model(MODEL | dict(mlm=False), Compute(remat="full"))

    @jax.jit
    def maps(params, batch):
        tokens = gradcam.token_maps(model, params, batch, layer)
        phrase, image = (
            gradcam.phrase_maps(model, params, batch, mode, layer) for mode in gradcam.MODES
        )
        return tokens, phrase, image

    tokens, phrase, image = maps(params, batch)
    want = golden[f"tokens{layer}"]
    close = dict(rtol=1e-4, atol=1e-5 * want.max())
    assert want.max() > 1e-4
    np.testing.assert_allclose(tokens, want, **close)
    np.testing.assert_allclose(phrase, want.mean(1), **close)
    np.testing.assert_allclose(image, golden[f"image{layer}"], atol=1e-5)


def test_maps_depend_on_no_other_row_and_little_on_padding(albef):
    model, params, batch = albef
    assert not batch["text_mask"][-1, 5:].any()
    alone = {key: value[-1:, :5] if "text" in key else value[-1:] for key, value in batch.items()}
    maps = jax.jit(lambda p, b: gradcam.phrase_maps(model, p, b)[-1])
    # The mean is over the padded length: a factor, which neither place nor box depends on.
    np.testing.assert_allclose(maps(params, alone) * 5 / 7, maps(params, batch), rtol=1e-4)


def test_boxes_are_chosen_as_grounding_eval_does(golden):
    width, height = (int(side) for side in golden["size"])
    frame = find_frame([("resize_square", dict(size=64))], width, height)
    np.testing.assert_allclose(heat.enlarge(golden["heat"][0], frame), golden["large"], atol=1e-5)
    corners = lambda box: np.concatenate([box[..., :2], box[..., :2] + box[..., 2:]], -1)
    hits = []
    for number, boxes in enumerate(corners(golden["boxes"])):
        best = heat.score_boxes(golden["heat"][number], frame, boxes).argmax()
        np.testing.assert_array_equal(golden["boxes"][number, best], golden["chosen"][number])
        hits.append(iou(boxes[best], corners(golden["answer"][number])) >= 0.5)
    found = [np.mean(hits[split::3]) for split in range(3)]
    np.testing.assert_allclose(found, golden["accuracy"])


def test_places_and_regions():
    values = np.zeros((4, 4), np.float32)
    values[1:3, 3], values[3, 0] = 1.0, 1.2
    whole = find_frame((), 80, 40)
    assert heat.place(values, whole).tolist() == [10, 35]  # The hottest patch,
    box = heat.find_box(values, whole, 0.5)
    np.testing.assert_allclose(box, [60, 10, 80, 30], atol=3)  # and the largest region,
    assert heat.find_box(values, whole)[0] < box[0]  # by less heat a larger one.
    # A map of the middle square of a wide image.
    middle = find_frame([("resize_center_crop", dict(size=20))], 80, 40)
    assert middle == Frame(80, 40, 20.0, 0.0, 40.0, 40.0)
    assert heat.place(values, middle).tolist() == [25, 35]
    np.testing.assert_allclose(heat.find_box(values, middle, 0.5), [50, 10, 60, 30], atol=2)
    empty = heat.find_box(np.zeros((4, 4), np.float32), middle)
    np.testing.assert_array_equal(empty, [0, 0, 80, 40])
    assert heat.score_boxes(values, whole, np.array([[5, 5, 5, 9], [90, 0, 99, 9]])).tolist() == [
        0,
        0,
    ]


def test_what_has_no_maps_is_refused():
    with pytest.raises(UserError, match="albef_vqa has no head"):
        gradcam.choose_layer(build_model(VQA), "itm")
    model = build_model(MODEL)
    with pytest.raises(UserError, match="layer 2: itm has layers 0 to 1"):
        gradcam.choose_layer(model, "itm", 2)
    with pytest.raises(UserError, match="Did you mean"):
        gradcam.choose_layer(model, "imt")
    deep = build_model(MODEL | dict(fusion_depth=6))
    assert gradcam.choose_layer(deep, "itm") == 2  # Block 8 of 12.
