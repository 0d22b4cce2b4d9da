# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Figures that belong to one benchmark: GQA, NLVR2, MME, VisDial."""

import collections
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from jvlm.metrics.binary import NEITHER, NO, YES

MME_PERCEPTION = (
    *("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark"),
    *("artwork", "OCR"),
)
MME_COGNITION = (
    *("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"),
)


def gqa_consistency(
    right: Mapping[Hashable, bool], entailed: Mapping[Hashable, Sequence[Hashable]]
) -> float:
    """GQA's consistency (eval.py): of right answers, the mean share of what follows that is right.

    Args:
      right: question -> whether it was answered rightly.
      entailed: question -> the questions whose answers follow from its own, all of them in `right`;
        those that imply none but themselves do not count.

    Returns:
      in [0, 1]; 0 where nothing counts.
    """
    shares = []
    for question, others in entailed.items():
        others = [other for other in others if other != question]
        if right[question] and others:
            shares.append(np.mean([right[other] for other in others]))
    return float(np.mean(shares)) if shares else 0.0


def mme_answer(answer: str) -> int:
    """YES, NO or NEITHER by MME's rule (calculation.py): 'yes' or 'no' in the first four signs."""
    start = answer.lower()[:4]
    return YES if "yes" in start else NO if "no" in start else NEITHER


def mme_scores(
    right: Sequence[bool], images: Sequence[Hashable], categories: Sequence[str]
) -> dict[str, float]:
    """MME's points (Fu et al. 2023): 100 x (accuracy + share of images with both answers right).

    Args:
      right: whether each question was answered rightly.
      images: its image; each has two questions.
      categories: its subtask.

    Returns:
      the points of each subtask, at most 200, and the sums `perception` and `cognition`.
    """
    groups = collections.defaultdict(lambda: collections.defaultdict(list))
    for hit, image, category in zip(right, images, categories, strict=True):
        groups[category][image].append(bool(hit))
    points = {}
    for category, of_images in groups.items():
        hits = [hit for hits in of_images.values() for hit in hits]
        both = [all(hits) for hits in of_images.values()]
        points[category] = 100 * float(np.mean(hits) + np.mean(both))
    for name, parts in (("perception", MME_PERCEPTION), ("cognition", MME_COGNITION)):
        points[name] = sum(points[part] for part in parts if part in points)
    return points


def rank_of(scores: Sequence[float], place: int) -> int:
    """How many options score above this one; of equal scores the earlier option is first."""
    scores = np.asarray(scores)
    return int((scores > scores[place]).sum() + (scores[:place] == scores[place]).sum())


def ndcg(scores: Sequence[float], relevance: Sequence[float]) -> float:
    """VisDial's NDCG (visdialch/metrics.py): of the top k, k the number of relevant options.

    Args:
      scores: of the options.
      relevance: how many of the people found each right, as a share; one must be above 0.
    """
    relevance = np.asarray(relevance, np.float64)
    k = np.count_nonzero(relevance)
    discounts = np.log2(np.arange(k) + 2)
    ranked = np.argsort(-np.asarray(scores), kind="stable")[:k]
    return float(
        (relevance[ranked] / discounts).sum() / (np.sort(relevance)[::-1][:k] / discounts).sum()
    )
