# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Recall at k, against counting by hand."""

import numpy as np

from jvlm.metrics.retrieval import recall_at_k


def test_by_hand():
    scores = np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.2, 0.3, 0.4]])
    recalls = recall_at_k(scores, np.array([0, 1, 1]), np.array([0, 1, 2]), (1, 2, 5))
    assert recalls == {1: 1 / 3, 2: 1.0, 5: 1.0}


def test_any_item_of_equal_meaning_is_a_hit():
    scores = np.array([[0.1, 0.9], [0.9, 0.1]])
    assert recall_at_k(scores, np.array([7, 7]), np.array([7, 7]), (1,)) == {1: 1.0}
    assert recall_at_k(scores, np.array([7, 8]), np.array([7, 8]), (1,)) == {1: 0.0}


def test_more_queries_than_a_block(rng):
    scores = rng.normal(size=(2500, 40))
    ids = rng.integers(0, 40, 2500)
    want = np.mean([ids[i] in np.argsort(-scores[i])[:5] for i in range(2500)])
    assert recall_at_k(scores, ids, np.arange(40), (5,))[5] == want
