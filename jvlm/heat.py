# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""From a map of heat over an image's patches to a place or a box in the image's pixels."""

import functools

import numpy as np
from scipy import ndimage

from jvlm.data.frame import Frame
from jvlm.layers import cubic_weights
from jvlm.metrics.grounding import peak


def enlarge(heat: np.ndarray, frame: Frame) -> np.ndarray:
    """A map in the pixels of the part of the image that it covers.

    Bicubic as torch's `interpolate(mode='bicubic')`, with which ALBEF's grounding_eval makes it
    (dataset/utils.py): it can swing below zero.

    Args:
      heat: float32[rows, columns].
      frame: where the map lies.

    Returns:
      float32[height, width]; the first pixel is at (`frame.x`, `frame.y`).
    """
    down, across = (
        _weights(heat.shape[0], round(frame.dy)),
        _weights(heat.shape[1], round(frame.dx)),
    )
    return down @ heat @ across.T


def place(heat: np.ndarray, frame: Frame) -> np.ndarray:
    """Where the enlarged map is highest: float64[2], x and y in the image's pixels."""
    return [frame.x, frame.y] + peak(enlarge(heat, frame)) * [frame.dx, frame.dy]


def score_boxes(heat: np.ndarray, frame: Frame, boxes: np.ndarray) -> np.ndarray:
    """How hot boxes are: the sum of the enlarged map inside over the square root of the area.

    Source: grounding_eval in dataset/utils.py of salesforce/ALBEF, alpha 0.5. Sides are cut down to
    whole pixels where they are summed, and not in the area.

    Args:
      heat, frame: as of `enlarge`.
      boxes: float[N, 4], x0, y0, x1, y1 in the image's pixels.

    Returns:
      float64[N]; 0 of a box without an area.
    """
    large = enlarge(heat, frame)
    table = np.pad(large.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    boxes = np.asarray(boxes, np.float64)
    area = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(-1)
    corner = np.array([frame.x, frame.y] * 2)
    x0, y0, x1, y1 = np.trunc(np.clip(boxes - corner, 0, large.shape[::-1] * 2)).astype(int).T
    total = table[y1, x1] - table[y0, x1] - table[y1, x0] + table[y0, x0]
    return np.where(area > 0, total / np.sqrt(np.where(area > 0, area, 1.0)), 0.0)


def find_box(heat: np.ndarray, frame: Frame, threshold: float = 0.5) -> np.ndarray:
    """The box of the largest connected region that is hot (Zhou et al. 2016, section 3.2).

    Args:
      heat, frame: as of `enlarge`.
      threshold: a pixel is hot that reaches this share of the maximum (0.2 in the paper, whose maps
        are wider).

    Returns:
      float64[4], x0, y0, x1, y1 in the image's pixels; all of the image where the map is empty.
    """
    large = enlarge(heat, frame)
    regions, count = ndimage.label(large >= threshold * large.max())
    sizes = np.bincount(regions.ravel())[1:]
    if not count or large.max() <= 0:
        return np.array([0.0, 0.0, frame.width, frame.height])
    y, x = ndimage.find_objects(regions)[sizes.argmax()]
    corner = np.array([frame.x, frame.y] * 2)
    return frame.clip(np.array([x.start, y.start, x.stop, y.stop]) + corner)


@functools.lru_cache(maxsize=256)
def _weights(old: int, new: int) -> np.ndarray:
    return cubic_weights(old, new)
