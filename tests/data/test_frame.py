# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the model sees is found again in the image that was given."""

import numpy as np
import pytest

from jvlm.data.frame import find_frame
from jvlm.data.transforms import compose
from jvlm.errors import UserError

SPOTS = [(12, 30), (41, 70), (25, 47)]  # y, x.


@pytest.mark.parametrize(
    "steps",
    [
        [("resize_square", dict(size=40))],
        [("resize", dict(height=30, width=75))],
        [("resize_center_crop", dict(size=40))],
        [("resize_shortest", dict(size=70)), ("center_crop", dict(height=65, width=68))],
        [("resize_cover", dict(height=60, width=50)), ("center_crop", dict(height=60, width=50))],
        [("pad_square", dict(color=(0, 0, 0))), ("resize_square", dict(size=64))],
        [("center_crop", dict(height=60, width=111)), ("resize_square", dict(size=80))],
    ],
)
def test_spots_are_where_the_frame_says(steps):
    found = 0
    for y, x in SPOTS:
        image = np.zeros((50, 100, 3), np.uint8)
        image[y - 4 : y + 5, x - 4 : x + 5] = 255
        frame = find_frame(steps, 100, 50)
        if not (4 < x - frame.x < frame.dx - 5 and 4 < y - frame.y < frame.dy - 5):
            continue  # Cut away, in part or as a whole.
        seen = compose(steps)({"image": image}, np.random.default_rng(0))["image"][..., 0] / 255
        across, down = (
            (seen.sum(axis) * (np.arange(side) + 0.5)).sum() / seen.sum() / side
            for axis, side in enumerate(seen.shape[::-1])
        )
        place = frame.x + across * frame.dx, frame.y + down * frame.dy
        np.testing.assert_allclose(place, (x + 0.5, y + 0.5), atol=0.1)
        found += 1
    assert found


def test_chance_has_no_way_back():
    with pytest.raises(UserError, match="'random_resized_crop' has no way back"):
        find_frame([("random_resized_crop", dict(size=8))], 10, 10)
