# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of answers; VQA accuracy against the stored outputs of the official script."""

import json
import pathlib

import numpy as np
import pytest

from jvlm.errors import UserError
from jvlm.metrics.vqa import (
    anls,
    edit_distance,
    exact_match,
    gqa_answer,
    normalize_answer,
    vqa_accuracy,
)

FILE = pathlib.Path(__file__).parent.parent / "golden" / "metrics_vqa.json"


def test_as_the_official_script():
    golden = json.loads(FILE.read_text(encoding="utf-8"))
    strings = golden["strings"]
    assert [normalize_answer(text) for text in strings] == golden["normalized"]
    questions = [[strings[place] for place in question] for question in golden["questions"]]
    assert len(questions) >= 1000
    predictions = [question[0] for question in questions]
    scores = vqa_accuracy(predictions, [question[1:] for question in questions])
    assert [round(100 * score, 9) for score in scores] == [
        round(percent, 9) for percent in golden["percent"]
    ]
    assert round(100 * scores.mean(), 9) == round(golden["overall"], 9)


def test_accuracy_leaves_one_out():
    answers = ["red"] * 3 + ["blue"] * 7
    # Three of the ten choices leave out a 'red': 2/3 each, the others 1.
    assert vqa_accuracy(["Red."], [answers]) == pytest.approx([0.9])
    assert vqa_accuracy(["green"], [answers]) == [0]
    # Nothing is normalised where all agree.
    assert vqa_accuracy(["Red.", "red"], [["red"] * 10] * 2).tolist() == [0, 1]


def test_exact_match():
    assert exact_match(["The dogs!", "cat"], [["dogs"], ["dog", "cow"]]).tolist() == [1, 0]
    assert exact_match(["Left."], [["left"]], gqa_answer).tolist() == [1]
    assert exact_match(["the left"], [["left"]], gqa_answer).tolist() == [0]


def test_anls():
    predictions = ["Hello  World", "helo", "abcd", "ab", ""]
    answers = [["hello world"], ["nothing", "hello"], ["wxyz"], ["abcd"], ["a"]]
    assert anls(predictions, answers) == pytest.approx([1, 0.8, 0, 0.5, 0])
    # The official script takes the lengths before it folds the spaces.
    assert anls(["  ab"], [["abc"]]) == pytest.approx([0.75])
    assert edit_distance("kitten", "sitting") == 3 and edit_distance("", "abc") == 3


def test_errors():
    with pytest.raises(UserError, match="1 predictions for 2 questions"):
        vqa_accuracy(["a"], [["a"], ["b"]])
    with pytest.raises(UserError, match="question 0 needs a list"):
        anls(["a"], ["a"])
    assert np.shape(vqa_accuracy([], [])) == (0,)
