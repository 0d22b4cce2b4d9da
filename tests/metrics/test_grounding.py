# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Boxes and points, by hand."""

import numpy as np
import pytest

from jvlm.errors import UserError
from jvlm.metrics.grounding import (
    accuracy_at_iou,
    format_boxes,
    iou,
    parse_boxes,
    peak,
    pointing_hits,
)


def test_iou():
    boxes = np.array([[0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 4, 4], [3, 3, 1, 1], [0, 0, 0, 0]])
    others = np.array([[1, 1, 3, 3], [1, 0, 2, 1], [0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 0, 0]])
    assert iou(boxes, others) == pytest.approx([1 / 7, 0, 1, 0, 0])
    assert iou(boxes[:, None], others[None]).shape == (5, 5)


def test_the_threshold_itself_counts():
    boxes, targets = np.array([[0, 0, 1, 1], [0, 0, 0.9, 1]]), np.array([[0, 0, 2, 1]] * 2)
    assert accuracy_at_iou(boxes, targets) == 0.5
    assert accuracy_at_iou(boxes, targets, 0.4) == 1.0
    with pytest.raises(UserError, match="differ in shape"):
        accuracy_at_iou(boxes, targets[:1])


@pytest.mark.parametrize(
    "text, boxes",
    [
        ("It is at [[082,120,500,999]].", [[0.082, 0.12, 0.5, 0.999]]),
        ("[[000,000,100,100;200,200,300,300]]", [[0, 0, 0.1, 0.1], [0.2, 0.2, 0.3, 0.3]]),
        (
            "a dog [[001,002,003,004]] and [[5,6,7,8]]",
            [[1e-3, 2e-3, 3e-3, 4e-3], [5e-3, 6e-3, 7e-3, 8e-3]],
        ),
        ("[0.1, 0.25, .5, 1.0]", [[0.1, 0.25, 0.5, 1]]),
        ("no box [1,2,3] [[a]]", []),
    ],
)
def test_parse_boxes(text, boxes):
    np.testing.assert_allclose(parse_boxes(text), np.reshape(boxes, (-1, 4)))


def test_boxes_come_back():
    boxes = np.array([[0.082, 0.29, 0.5, 1.0], [0, 0.001, 0.57, 0.3]], np.float32)
    assert format_boxes(boxes) == "[[082,290,500,999;000,001,570,300]]"
    np.testing.assert_allclose(parse_boxes(format_boxes(boxes)), boxes, atol=1.01e-3)


def test_pointing():
    heat = np.zeros((2, 4, 8))
    heat[0, 3, 0] = heat[1, 0, 7] = 1
    points = peak(heat)
    np.testing.assert_allclose(points, [[1 / 16, 7 / 8], [15 / 16, 1 / 8]])
    box = np.array([0, 0.5, 0.5, 1])
    assert pointing_hits(points, box).tolist() == [True, False]
    assert pointing_hits(points, box, margin=0.5).tolist() == [True, True]
