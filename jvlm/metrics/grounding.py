# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of grounding: boxes x0, y0, x1, y1 in any unit, the same for both sides."""

import re

import numpy as np

from jvlm.errors import UserError

_NUMBER = r"\s*(\d*\.?\d+)\s*"
_BOX = ",".join([_NUMBER] * 4)
_BOXES = re.compile(rf"\[+({_BOX}(?:;{_BOX})*)\]+")


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of pairs of boxes.

    Args:
      boxes: float[..., 4], x0 <= x1 and y0 <= y1; one that is not has no area.
      others: float[..., 4], broadcast against `boxes`.

    Returns:
      float64[...]; 0 where neither has an area.
    """
    boxes, others = np.asarray(boxes, np.float64), np.asarray(others, np.float64)
    low = np.maximum(boxes[..., :2], others[..., :2])
    high = np.minimum(boxes[..., 2:], others[..., 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    total = _area(boxes) + _area(others) - common
    return np.where(total > 0, common / np.where(total > 0, total, 1.0), 0.0)


def accuracy_at_iou(boxes: np.ndarray, targets: np.ndarray, threshold: float = 0.5) -> float:
    """Share of predicted boxes that reach the threshold (Acc@0.5 of RefCOCO).

    Args:
      boxes: float[N, 4]; give a box of zeros where none was predicted.
      targets: float[N, 4].
      threshold: of IoU, reached included.
    """
    if np.shape(boxes) != np.shape(targets):
        raise UserError(f"boxes {np.shape(boxes)} and targets {np.shape(targets)} differ in shape")
    return float((iou(boxes, targets) >= threshold).mean())


def parse_boxes(text: str) -> np.ndarray:
    """Boxes in an answer, in order.

    Understood are CogVLM's '[[x0,y0,x1,y1]]' in thousandths, several joined by ';', and fractions
    of one in single brackets, '[0.1, 0.2, 0.3, 0.4]' (LLaVA).

    Returns:
      float64[boxes, 4] as fractions of the width and the height; empty where there is none.
    """
    boxes = []
    for match in _BOXES.finditer(text):
        for box in match[1].split(";"):
            numbers = [part.strip() for part in box.split(",")]
            scale = 1.0 if any("." in number for number in numbers) else 1000.0
            boxes.append([float(number) / scale for number in numbers])
    return np.array(boxes, np.float64).reshape(-1, 4)


def format_boxes(boxes: np.ndarray) -> str:
    """CogVLM's text for boxes: thousandths of three digits, '[[082,120,500,999]]'.

    Args:
      boxes: float[boxes, 4] as fractions of the width and the height.
    """
    thousandths = np.round(np.asarray(boxes, np.float64) * 1000, 3)  # 0.29 as float32 is below 290.
    thousandths = np.clip(thousandths, 0, 999).astype(int)
    return f"[[{';'.join(','.join(f'{value:03d}' for value in box) for box in thousandths)}]]"


def peak(heat: np.ndarray) -> np.ndarray:
    """Where a map is highest: float64[..., 2], x and y as fractions, the middle of the cell.

    Args:
      heat: float[..., height, width].
    """
    height, width = heat.shape[-2:]
    place = heat.reshape(*heat.shape[:-2], -1).argmax(-1)
    return np.stack([(place % width + 0.5) / width, (place // width + 0.5) / height], -1)


def pointing_hits(points: np.ndarray, boxes: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """The pointing game (Zhang et al. 2016): whether each point lies in its box.

    Args:
      points: float[..., 2], x and y.
      boxes: float[..., 4].
      margin: how far outside still counts (15 pixels in the paper).

    Returns:
      bool[...]; the metric is their mean.
    """
    points, boxes = np.asarray(points), np.asarray(boxes)
    return ((points >= boxes[..., :2] - margin) & (points <= boxes[..., 2:] + margin)).all(-1)


def _area(boxes):
    return np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(-1)
