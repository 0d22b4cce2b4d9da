# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which option of a multiple-choice question an answer names, and what follows of it."""

import re
from collections.abc import Hashable, Sequence

import numpy as np

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def chosen_option(answer: str, options: Sequence[str]) -> int:
    """Which option of a multiple-choice question an answer names.

    'B', '(B)', 'b.', 'B. a dog', 'The answer is B.' and the text of an option are understood.

    Returns:
      The place of the option, -1 where none is named (which counts as wrong).
    """
    letters = LETTERS[: len(options)]
    text = answer.strip()
    if answer in options:  # Options may differ in their case alone.
        return list(options).index(answer)
    texts = [option.strip().lower().rstrip(".") for option in options]
    if text.lower().rstrip(".") in texts:
        return texts.index(text.lower().rstrip("."))
    if letters:
        patterns = (
            rf"\(?([{letters}{letters.lower()}])[).:]?",
            rf"\(?([{letters}])[).:]\s.*",
            rf".*\b[Aa]nswer(?: is:?|:)\s*\(?([{letters}])\b.*",
        )
        for pattern in patterns:
            match = re.fullmatch(pattern, text, re.DOTALL)
            if match:
                return letters.index(match[1].upper())
    return -1


def science_qa_option(answer: str, options: Sequence[str]) -> int:
    """The option by LLaVA's rule for ScienceQA (eval_science_qa.py): its place, or -1.

    The answer is a letter, begins as 'B. ', or says 'The answer is B.' exactly once; letters from A
    to E.
    """
    letters = LETTERS[:5]
    if len(answer) == 1 and answer in letters:
        letter = answer
    elif len(answer) > 2 and answer[0] in letters and answer[1:3] == ". ":
        letter = answer[0]
    else:
        found = re.findall(r"The answer is ([A-Z])(?=[^\n])", answer)
        letter = found[0] if len(found) == 1 else ""
    return letters[: len(options)].find(letter) if letter else -1


def right_option(answer: int | str, options: Sequence[str]) -> int:
    """The place of the right option, given as that, as its text or as its letter; else -1."""
    if isinstance(answer, str) and answer in options:
        return options.index(answer)
    if isinstance(answer, str) and len(answer) == 1:
        answer = LETTERS.find(answer.upper())
    return answer if isinstance(answer, int) and 0 <= answer < len(options) else -1


def circular_accuracy(right: Sequence[bool], groups: Sequence[Hashable]) -> float:
    """Share of groups that are all right (MMBench, section 4.3).

    Args:
      right: whether each row is.
      groups: what it belongs to: the question that was asked with its options in rotated order.
    """
    all_right: dict[Hashable, bool] = {}
    for hit, group in zip(right, groups, strict=True):
        all_right[group] = all_right.get(group, True) and bool(hit)
    return float(np.mean(list(all_right.values())))
