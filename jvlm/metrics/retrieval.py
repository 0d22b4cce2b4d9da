# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Retrieval metrics."""

from collections.abc import Sequence

import numpy as np

from jvlm.errors import UserError, did_you_mean

RERANK_RULES = ("replace", "add")


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
    return recall_of_ranks(first_hits(scores, query_ids, key_ids), ks)


def recall_of_ranks(ranks: np.ndarray, ks: Sequence[int]) -> dict[int, float]:
    """Recall at k from `first_hits`: k -> share of ranks below k."""
    return {k: float((ranks < k).mean()) for k in ks}


def mean_reciprocal_rank(ranks: np.ndarray) -> float:
    """MRR from `first_hits`: mean of 1 / (rank + 1), 0 for an infinite rank (VisDial)."""
    return float((1 / (ranks + 1)).mean())


def first_hits(scores: np.ndarray, query_ids: np.ndarray, key_ids: np.ndarray) -> np.ndarray:
    """Rank of each query's best key of its own id, without sorting.

    Args:
      scores, query_ids, key_ids: see `recall_at_k`.

    Returns:
      float[queries]: 0 is the top; infinite where no key has the query's id.
    """
    ranks = np.empty(len(scores))
    places = np.arange(len(key_ids))
    for start in range(0, len(scores), 256):
        rows = slice(start, start + 256)
        block = scores[rows]
        own = query_ids[rows, None] == key_ids
        best = np.where(own, block, -np.inf).argmax(axis=1)[:, None]
        score = np.take_along_axis(block, best, axis=1)
        before = (block > score).sum(1) + ((block == score) & (places < best)).sum(1)
        ranks[rows] = np.where(own.any(1), before, np.inf)
    return ranks


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
