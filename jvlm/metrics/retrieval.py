# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Retrieval metrics."""

from collections.abc import Sequence

import numpy as np

from jvlm.errors import UserError, did_you_mean

RERANK_RULES = ("replace", "add")


def recall_of_ranks(ranks: np.ndarray, ks: Sequence[int]) -> dict[int, float]:
    """Recall at k: k -> share of ranks below k.

    Args:
      ranks: number[queries], of each query's best hit; 0 is the top, infinite is none.
      ks: cut-offs.
    """
    return {k: float((ranks < k).mean()) for k in ks}


def mean_reciprocal_rank(ranks: np.ndarray) -> float:
    """Mean of 1 / (rank + 1), 0 for an infinite rank (VisDial)."""
    return float((1 / (ranks + 1)).mean())


def top_ranked(scores: np.ndarray, k: int) -> np.ndarray:
    """The k best keys of each query, best first, of equal scores the earlier one: int[queries, k].

    Args:
      scores: float[queries, keys].
      k: at most so many keys.
    """
    k = min(k, scores.shape[1])
    ranked = np.empty((len(scores), k), np.int64)
    for row, values in enumerate(scores):
        least = np.partition(values, -k)[-k]
        places = np.flatnonzero(values >= least)
        ranked[row] = places[np.argsort(-values[places], kind="stable")][:k]
    return ranked


def reranked(
    scores: np.ndarray, ranked: np.ndarray, matches: np.ndarray, rule: str = "replace"
) -> np.ndarray:
    """Scores after a second look at the best keys; the others get -100, as in the official code.

    Args:
      scores: float[queries, keys] of the first look (image-text contrast).
      ranked: int[queries, k], from `top_ranked`.
      matches: float[queries, k], the matching logits of those pairs.
      rule: 'replace' (ALBEF, Retrieval.py) takes the logit, 'add' (BLIP, train_retrieval.py, and
        BLIP-2) its sum with the score.

    Returns:
      float[queries, keys].
    """
    if rule not in RERANK_RULES:
        raise UserError(f"rerank rule {rule!r} is unknown.{did_you_mean(rule, RERANK_RULES)}")
    result = np.full(scores.shape, -100.0, np.float32)
    if rule == "add":
        matches = matches + np.take_along_axis(scores, ranked, axis=1)
    np.put_along_axis(result, ranked, matches.astype(np.float32), axis=1)
    return result
