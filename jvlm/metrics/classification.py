# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Classification metrics."""

import numpy as np


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy of ranked predictions.

    Args:
      predicted: int[N, k], classes from the likeliest on.
      labels: int[N].

    Returns:
      `top1`; `mean_per_class`, the mean of the recalls of the classes that occur (CLIP reports it
      for Aircraft, Pets, Caltech-101 and Flowers); `top5` where k is above 1.
    """
    hits = predicted == labels[:, None]
    totals = np.bincount(labels)
    right = np.bincount(labels[hits[:, 0]], minlength=len(totals))
    values = {
        "top1": float(hits[:, 0].mean()),
        "mean_per_class": float((right[totals > 0] / totals[totals > 0]).mean()),
    }
    if predicted.shape[1] > 1:
        values["top5"] = float(hits[:, :5].any(1).mean())
    return values
