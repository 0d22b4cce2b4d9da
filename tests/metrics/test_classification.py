# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Accuracy, by hand."""

import numpy as np

from jvlm.metrics.classification import accuracy


def test_by_hand():
    labels = np.array([0, 0, 0, 2])
    predicted = np.array([[0, 1], [0, 1], [1, 0], [1, 0]])
    # Class 1 does not occur: it is predicted, but has no recall.
    assert accuracy(predicted, labels) == {"top1": 0.5, "mean_per_class": 1 / 3, "top5": 0.75}
    assert "top5" not in accuracy(predicted[:, :1], labels)


def test_only_five_count():
    predicted = np.arange(6)[None]
    assert accuracy(predicted, np.array([4]))["top5"] == 1.0
    assert accuracy(predicted, np.array([5]))["top5"] == 0.0
