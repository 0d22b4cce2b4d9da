# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Retrieval metrics."""

from collections.abc import Sequence

import numpy as np


def recall_at_k(
    scores: np.ndarray, query_ids: np.ndarray, key_ids: np.ndarray, ks: Sequence[int]
) -> dict[int, float]:
    """Share of queries with a key of their own id among the k best.

    Args:
      scores: float[queries, keys]; of equal scores the earlier key ranks first.
      query_ids: int[queries].
      key_ids: int[keys].
      ks: cut-offs; those beyond the number of keys see all of them.

    Returns:
      k -> recall in [0, 1].
    """
    deepest = min(max(ks), scores.shape[1])
    hits = np.empty((len(scores), deepest), bool)
    for start in range(0, len(scores), 1024):
        rows = slice(start, start + 1024)
        ranked = np.argsort(-scores[rows], axis=1, kind="stable")[:, :deepest]
        hits[rows] = key_ids[ranked] == query_ids[rows, None]
    return {k: float(hits[:, :k].any(1).mean()) for k in ks}
