# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which option an answer names."""

import pytest

from jvlm.metrics.choice import (
    chosen_option,
    circular_accuracy,
    right_option,
    science_qa_option,
)


@pytest.mark.parametrize(
    "answer, place",
    [
        *(("B", 1), ("b.", 1), ("(C)", 2), ("A. dog", 0), ("B) a cat", 1), ("a horse.", 2)),
        *(("The answer is C.", 2), ("Answer: (B)", 1), ("A dog", 0), ("D", -1), ("", -1)),
        *(("I cannot tell", -1), ("The correct answer is: (B)", 1), ("The answer is a horse", -1)),
    ],
)
def test_chosen_option(answer, place):
    assert chosen_option(answer, ["A dog", "a cat", "A horse"]) == place


@pytest.mark.parametrize(
    "answer, place",
    [("B", 1), ("b", -1), ("C", -1), ("A. dog", 0), ("A) dog", -1), ("The answer is B.", 1)],
)
def test_science_qa_option(answer, place):
    assert science_qa_option(answer, ["a dog", "a cat"]) == place


def test_options_that_differ_in_case_alone():
    assert [chosen_option(answer, ["pH", "PH", "Ph."]) for answer in ("PH", "Ph.", "ph")] == [
        1,
        2,
        0,
    ]


def test_right_option():
    options = ["a dog", "B", "a cow"]
    assert [right_option(answer, options) for answer in (2, "c", "B", "a dog")] == [2, 2, 1, 0]
    assert (
        right_option(3, options) == right_option("two", options) == right_option("D", options) == -1
    )


def test_circular():
    assert circular_accuracy([True, True, True, False], ["a", "a", "b", "b"]) == 0.5
