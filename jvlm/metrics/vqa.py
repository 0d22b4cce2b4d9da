# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of question answering. Each scores single answers; the metric is their mean."""

import re
from collections.abc import Callable, Sequence

import numpy as np

from jvlm.errors import UserError

# The official table (vqaEval.py) maps a contraction that lacks one apostrophe to the whole one.
_CONTRACTIONS = (
    " ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've"
    " hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am"
    " mightn't mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at"
    " shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's"
    " someone'd someone'd've someone'll someone's something'd something'd've something'll that's"
    " there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't"
    " we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd"
    " who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all"
    " y'all'll y'all'd've you'd you'd've you'll you're you've"
)
_WHOLE = {
    word[:place] + word[place + 1 :]: word
    for word in _CONTRACTIONS.split()
    for place, char in enumerate(word)
    if char == "'"
}
_WHOLE["somebody'd"] = "somebodyd"  # The other way round, in the official table.
_DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_NUMBERS = {word: str(value) for value, word in enumerate(_DIGITS)} | {"none": "0"}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'


def normalize_answer(answer: str) -> str:
    """The official VQA normalisation (vqaEval.py of GT-Vision-Lab/VQA), quirks included.

    A sign is removed where it touches a space anywhere in the answer, or where the answer has a
    comma between digits; elsewhere it becomes a space. Full stops go (the first 32) unless a digit
    follows. Then lower case, number words as digits, no articles, apostrophes of contractions.
    """
    text = answer
    thousands = re.search(r"\d,\d", answer)
    for sign in _PUNCTUATION:
        loose = sign + " " in answer or " " + sign in answer or thousands
        text = text.replace(sign, "" if loose else " ")
    text = re.sub(r"\.(?!\d)", "", text, count=32)
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(_WHOLE.get(word, word) for word in words if word not in ("a", "an", "the"))


def textvqa_answer(answer: str) -> str:
    """TextVQA's normalisation (EvalAI's, m4c_evaluator.py of LLaVA): without ',' and '?' first."""
    text = answer.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return normalize_answer(_strip(text))


def vqa_accuracy(
    predictions: Sequence[str],
    answers: Sequence[Sequence[str]],
    normalize: Callable[[str], str] | None = None,
) -> np.ndarray:
    """VQA accuracy: for each choice of all answers but one, min(matches / 3, 1); their mean.

    As in the official script nothing is normalised where all people gave the same answer.

    Args:
      predictions: one answer per question.
      answers: what people answered (ten in VQAv2).
      normalize: applied to all answers in place of that (`textvqa_answer`).

    Returns:
      float64[questions] in [0, 1].

    Raises:
      UserError: the lengths differ, or a question has no answer.
    """
    _check(predictions, answers)
    scores = []
    for prediction, given in zip(predictions, answers):
        prediction, *given = map(normalize or _strip, (prediction, *given))
        if normalize is None and len(set(given)) > 1:
            prediction, *given = map(normalize_answer, (prediction, *given))
        hits = [text == prediction for text in given]
        scores.append(np.mean([min(1.0, (sum(hits) - hit) / 3) for hit in hits]))
    return np.array(scores)


def exact_match(
    predictions: Sequence[str],
    answers: Sequence[Sequence[str]],
    normalize: Callable[[str], str] = normalize_answer,
) -> np.ndarray:
    """Whether the prediction is one of the answers, both normalised: float64[questions]."""
    _check(predictions, answers)
    return np.array(
        [
            float(normalize(prediction) in {normalize(text) for text in given})
            for prediction, given in zip(predictions, answers)
        ]
    )


def agreement_accuracy(
    predictions: Sequence[str],
    answers: Sequence[Sequence[str]],
    enough: int = 2,
    normalize: Callable[[str], str] = lambda text: text.strip().lower(),
) -> np.ndarray:
    """min(matches / enough, 1) of what people answered, without leaving one of them out.

    iVQA (Yang et al. 2021; five people) asks for two. A-OKVQA (eval_predictions.py; ten people)
    asks for three and takes answers as they are. float64[questions].
    """
    _check(predictions, answers)
    return np.array(
        [
            min(sum(normalize(text) == normalize(prediction) for text in given) / enough, 1.0)
            for prediction, given in zip(predictions, answers)
        ]
    )


def gqa_answer(answer: str) -> str:
    """What GQA compares: lower case without the final full stop (LLaVA, convert_gqa_for_eval)."""
    return answer.strip().rstrip(".").lower()


def anls(
    predictions: Sequence[str], answers: Sequence[Sequence[str]], threshold: float = 0.5
) -> np.ndarray:
    """Average normalised Levenshtein similarity (Biten et al. 2019; DocVQA, ST-VQA).

    One less the edit distance over the longer length, of the nearest answer, without regard to case
    and runs of spaces (which count in the lengths, as in the official script); 0 where that is
    below the threshold. float64[questions].
    """
    _check(predictions, answers)
    scores = []
    fold = lambda text: " ".join(text.lower().split())
    for prediction, given in zip(predictions, answers):
        score = 1 - min(
            edit_distance(fold(prediction), fold(text)) / max(len(prediction), len(text), 1)
            for text in given
        )
        scores.append(score if score >= threshold else 0.0)
    return np.array(scores)


def edit_distance(first: str, second: str) -> int:
    """Levenshtein distance: insertions, deletions and replacements, of characters."""
    row = list(range(len(second) + 1))
    for i, char in enumerate(first, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(second, 1):
            replaced = diagonal + (char != other)
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, replaced)
    return row[-1]


def _strip(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def _check(predictions: Sequence[str], answers: Sequence[Sequence[str]]):
    if len(predictions) != len(answers):
        raise UserError(
            f"{len(predictions)} predictions for {len(answers)} questions: give one per question"
        )
    for place, given in enumerate(answers):
        if not given or isinstance(given, str):
            raise UserError(f"question {place} needs a list of one or more answers, got {given!r}")
