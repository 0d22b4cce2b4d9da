# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""POPE and AUC, by hand."""

import numpy as np
import pytest

from jvlm.errors import UserError
from jvlm.metrics.binary import NEITHER, NO, YES, auc, parse_yes_no, yes_no_scores
from jvlm.metrics.retrieval import mean_reciprocal_rank


@pytest.mark.parametrize(
    "answer, llava, strict",
    [
        ("Yes, there is.", YES, YES),
        ("No, there is no dog.", NO, NO),
        ("There is not a dog.", NO, NEITHER),
        ("I see a cat. No dog.", YES, NEITHER),  # Only the first sentence counts.
        ("no", NO, NO),
        ("NO", YES, NO),  # LLaVA's rule knows 'No' and 'no'.
        ("Nothing here", YES, NEITHER),
        ("", YES, NEITHER),
    ],
)
def test_answer_rules(answer, llava, strict):
    assert parse_yes_no(answer) == llava
    assert parse_yes_no(answer, "strict") == strict


def test_unknown_rule():
    with pytest.raises(UserError, match="Did you mean 'strict'"):
        parse_yes_no("yes", "strickt")


def test_pope():
    predicted, labels = [YES, YES, YES, NO, NO, NEITHER], [YES, YES, NO, YES, NO, NO]
    assert yes_no_scores(predicted, labels) == pytest.approx(
        {
            "accuracy": 0.5,
            "precision": 2 / 3,
            "recall": 2 / 3,
            "f1": 2 / 3,
            "yes_ratio": 0.5,
            "neither": 1 / 6,
        }
    )
    assert yes_no_scores([NO, NO], [YES, NO])["f1"] == 0


def test_auc(rng):
    assert auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == 0.75
    assert auc([1, 1, 1], [1, 0, 0]) == 0.5
    scores, labels = rng.integers(0, 9, 200), rng.integers(0, 2, 200)
    gaps = scores[labels == 1][:, None] - scores[labels == 0]
    assert auc(scores, labels) == pytest.approx(np.mean((gaps > 0) + (gaps == 0) / 2))
    with pytest.raises(UserError, match="both classes"):
        auc([1, 2], [1, 1])


def test_reciprocal_rank():
    assert mean_reciprocal_rank(np.array([0, 1, 3, np.inf])) == pytest.approx(1.75 / 4)
