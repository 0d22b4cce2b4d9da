# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""From a map of heat over an image's patches to a place, a box or a picture."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from jvlm.data.frame import Frame
from jvlm.data.preview import Cell, Picture, draw, font_for
from jvlm.layers import cubic_weights
from jvlm.metrics.grounding import peak

_INK = "#000000"
_SIDE = 240  # Of a map in a picture, pixels.
# Colours from cold to hot.
_COLD_TO_HOT = np.array(
    [(0, 0, 130), (0, 0, 255), (0, 255, 255), (255, 255, 0), (255, 0, 0), (130, 0, 0)], np.float32
)


@dataclasses.dataclass(frozen=True)
class Heat:
    """Where a model looks in an image.

    Attributes:
      phrase: float32[rows, columns], for a whole text.
      words: (word, float32[rows, columns]) of each of its words; of several tokens their mean.
      frame: where the maps lie in the image.
    """

    phrase: np.ndarray
    words: Sequence[tuple[str, np.ndarray]]
    frame: Frame

    def place(self) -> np.ndarray:
        """See `place`."""
        return place(self.phrase, self.frame)

    def box(self, threshold: float = 0.5) -> np.ndarray:
        """See `find_box`."""
        return find_box(self.phrase, self.frame, threshold)


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


def picture(pixels: np.ndarray, found: Sequence[tuple], *, maps: bool) -> Any:
    """Draws what was found in an image.

    Args:
      pixels: uint8[H, W, 3].
      found: (phrase, box float[4], Heat) each.
      maps: also draw the heat maps, of each phrase and of its words beside each other.

    Returns:
      A Pillow image, with a row for each phrase.
    """
    rows = []
    for phrase, box, heat in found:
        row = [Cell([Picture(pixels, [(box, phrase)])], [(phrase, _INK)])]
        if maps:
            shown = [(phrase, heat.phrase), *heat.words]
            row += [
                Cell([Picture(overlay(pixels, values, heat.frame))], [(word, _INK)])
                for word, values in shown
            ]
        rows.append(row)
    columns, blank = max(map(len, rows)), Cell([], [])
    cells = [cell for row in rows for cell in [*row, *[blank] * (columns - len(row))]]
    font = font_for([phrase for phrase, *_ in found])[0]
    return draw(cells, columns=columns, side=_SIDE, font=font)


def overlay(pixels: np.ndarray, values: np.ndarray, frame: Frame) -> np.ndarray:
    """An image with a map over it, whose hottest place is opaque.

    Args:
      pixels: uint8[H, W, 3].
      values, frame: as of `enlarge`.

    Returns:
      uint8[H, W, 3].
    """
    large = np.clip(enlarge(values, frame), 0, None)
    heat = np.zeros(pixels.shape[:2], np.float32)
    y, x = round(frame.y), round(frame.x)
    seen = large[max(0, -y) :, max(0, -x) :]
    target = heat[max(0, y) :, max(0, x) :][: seen.shape[0], : seen.shape[1]]
    target[:] = seen[: target.shape[0], : target.shape[1]] / max(large.max(), 1e-30)
    stops = np.linspace(0, 1, len(_COLD_TO_HOT))
    colour = np.stack([np.interp(heat, stops, channel) for channel in _COLD_TO_HOT.T], -1)
    share = heat[..., None] ** 0.7
    return np.round(share * colour + (1 - share) * pixels).astype(np.uint8)


def words_of(tokenizer: Any, ids: Sequence[int]) -> list[tuple[str, list[int]]]:
    """The words of a text, each with the places of its tokens; special tokens are in none.

    Args:
      tokenizer: that made the ids.
      ids: without padding.
    """
    words = tokenizer.decode(ids).split()
    places: list[list[int]] = [[] for _ in words]
    for place, token in enumerate(ids):
        if tokenizer.decode([token]).strip():
            # Behind this token, so many words have begun.
            begun = len(tokenizer.decode(ids[: place + 1]).split())
            places[max(1, min(begun, len(words))) - 1].append(place)
    return [(word, of_word) for word, of_word in zip(words, places) if of_word]


@functools.lru_cache(maxsize=256)
def _weights(old: int, new: int) -> np.ndarray:
    return cubic_weights(old, new)
