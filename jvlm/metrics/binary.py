# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of yes-or-no questions (POPE) and of scores of two classes."""

import re
from collections.abc import Sequence

import numpy as np

from jvlm.errors import UserError, did_you_mean

YES, NO, NEITHER = 1, 0, -1


def parse_yes_no(answer: str, rule: str = "llava") -> int:
    """What a free answer says.

    Args:
      answer: generated text.
      rule: 'llava': NO where the first sentence has one of the words No, no, not, else YES, also
        for an answer that is neither (LLaVA, eval_pope.py). 'strict': the first word must be yes or
        no, in any case, else NEITHER.

    Returns:
      YES, NO or NEITHER.
    """
    if rule == "llava":
        words = answer.split(".")[0].replace(",", "").split(" ")
        return NO if {"No", "no", "not"} & set(words) else YES
    if rule == "strict":
        match = re.match(r"\W*(yes|no)\b", answer, re.IGNORECASE)
        return NEITHER if match is None else YES if match[1].lower() == "yes" else NO
    raise UserError(f"unknown answer rule {rule!r}.{did_you_mean(rule, ('llava', 'strict'))}")


def yes_no_scores(predicted: Sequence[int], labels: Sequence[int]) -> dict[str, float]:
    """The figures of POPE (Li et al. 2023), of one of its splits.

    Args:
      predicted: YES, NO or NEITHER of each question; NEITHER is wrong, and no yes.
      labels: YES or NO.

    Returns:
      `accuracy`, `precision`, `recall` and `f1` of yes, `yes_ratio`, and `neither`, the share
      of answers that could not be read. A ratio of nothing is 0.
    """
    predicted, labels = _pair(predicted, labels)
    yes = predicted == YES
    right = int((yes & (labels == YES)).sum())
    precision, recall = right / max(int(yes.sum()), 1), right / max(int((labels == YES).sum()), 1)
    return {
        "accuracy": float((predicted == labels).mean()),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if right else 0.0,
        "yes_ratio": float(yes.mean()),
        "neither": float((predicted == NEITHER).mean()),
    }


def auc(scores: Sequence[float], labels: Sequence[int]) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, ties half.

    Args:
      scores: higher is likelier positive.
      labels: 1 or 0, both of which must occur.
    """
    scores, labels = _pair(scores, labels)
    positives, negatives = scores[labels == 1], np.sort(scores[labels == 0])
    if not len(positives) or not len(negatives):
        raise UserError("the AUC needs examples of both classes, and the labels are all the same")
    below = np.searchsorted(negatives, positives, "left")
    below_or_equal = np.searchsorted(negatives, positives, "right")
    return float((below + below_or_equal).mean() / 2 / len(negatives))


def _pair(first, second) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or not first.size:
        raise UserError(
            f"{first.size} predictions for {second.size} labels: give one per label, and some"
        )
    return first, second
