# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where the image that a model sees lies in the image that was given."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from jvlm.data import images
from jvlm.errors import UserError

# What moves pixels by chance, or makes several images of one: there is no way back.
_NO_WAY_BACK = (
    *("random_crop", "random_resized_crop", "random_affine", "random_flip"),
    *("random_augment", "auto_augment", "each_image"),
)


@dataclasses.dataclass(frozen=True)
class Frame:
    """The part of an image that the model sees.

    Attributes:
      width, height: of the image, in pixels.
      x, y: left upper corner of the part; negative where borders were added.
      dx, dy: sides of the part, in pixels of the image.
    """

    width: int
    height: int
    x: float
    y: float
    dx: float
    dy: float

    def clip(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes float[..., 4] x0, y0, x1, y1, without what is outside of the image."""
        return np.clip(boxes, 0, [self.width, self.height] * 2)


def find_frame(steps: Sequence[tuple[str, Mapping]], width: int, height: int) -> Frame:
    """Follows image transforms.

    Args:
      steps: names and options, as of `transforms.compose`.
      width, height: of the image that the first one gets.

    Raises:
      UserError: a step that cannot be followed; names it.
    """
    size = (height, width)
    corner, pixel = np.zeros(2), np.ones(2)  # (y, x), in pixels of the first image.
    for name, options in steps:
        if name in _NO_WAY_BACK:
            raise UserError(f"the image transform {name!r} has no way back to the image's pixels")
        for new, start in _stages(name, options, size):
            if start is None:
                pixel = pixel * size / new
            else:
                corner = corner + pixel * start
            size = new
    dy, dx = (pixel * size).tolist()
    y, x = corner.tolist()
    return Frame(width, height, x, y, dx, dy)


def _stages(name: str, options: Mapping, size: tuple[int, int]) -> list[tuple]:
    """(new height and width; None of a resize, or where the new image begins in the old one)."""
    cut = lambda old, new, *how: (new, images.crop_place(*old, *new, *how))
    if name == "resize_square":
        return [((options["size"],) * 2, None)]
    if name == "resize":
        return [((options["height"], options["width"]), None)]
    if name == "resize_shortest":
        return [(images.shortest_size(*size, options["size"]), None)]
    if name == "resize_cover":
        return [(images.cover_size(*size, options["height"], options["width"]), None)]
    if name == "center_crop":
        new = (options["height"], options["width"])
        return [cut(size, new, options.get("rounding", "even"))]
    if name == "resize_center_crop":
        shortest = images.shortest_size(*size, options["size"])
        return [(shortest, None), cut(shortest, (options["size"],) * 2)]
    if name == "pad_square":
        side = max(size)
        return [((side, side), [-((side - old) // 2) for old in size])]
    return []
