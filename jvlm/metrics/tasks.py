# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tasks: from predictions, each a dict with its references, to metrics.

What an evaluator scores, what it writes, and what `jvlm score` reads are the same rows.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from jvlm.errors import UserError, did_you_mean
from jvlm.metrics import scorers
from jvlm.metrics.scorers import Row, Scored


@dataclasses.dataclass(frozen=True)
class Task:
    """How predictions are scored.

    Attributes:
      score: rows -> (metric -> value over all, metric -> value of each row).
      needs: the fields of every row -> what they hold, a key of `KINDS`.
      may: fields that some files have.
      help: one line.
      name: first part of the metrics' names, where that is not the task's.
    """

    score: Callable[[Sequence[Row]], Scored]
    needs: dict[str, str]
    help: str
    may: dict[str, str] = dataclasses.field(default_factory=dict)
    name: str = ""


@dataclasses.dataclass(frozen=True)
class Scores:
    """What a task makes of rows.

    Attributes:
      metrics: '<name>/<metric>' -> value.
      samples: of each row, metric -> value.
    """

    metrics: dict[str, float]
    samples: list[dict[str, float]]


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_list(value, good: Callable[[Any], bool], size: int | None = None) -> bool:
    fits = isinstance(value, list | tuple) and len(value) == (size or len(value))
    return fits and len(value) > 0 and all(map(good, value))


def _is_text(value) -> bool:
    return isinstance(value, str)


def _is_id(value) -> bool:
    return isinstance(value, str | int)


KINDS: dict[str, Callable[[Any], bool]] = {
    "text": _is_text,
    "a list of texts": lambda value: _is_list(value, _is_text),
    "a number": _is_number,
    "a list of numbers": lambda value: _is_list(value, _is_number),
    "a text or a number": lambda value: isinstance(value, str | bool) or _is_number(value),
    "text or four numbers": lambda value: _is_text(value) or _is_list(value, _is_number, 4),
    "four numbers": lambda value: _is_list(value, _is_number, 4),
    "two numbers": lambda value: _is_list(value, _is_number, 2),
    "a list of texts or numbers": lambda value: _is_list(value, _is_id),
    "texts or numbers": lambda value: isinstance(value, list) and all(map(_is_id, value)),
    "true or false": lambda value: isinstance(value, bool | int),
}


def find_task(name: str) -> Task:
    """The task of this name; raises UserError if there is none."""
    if name not in TASKS:
        raise UserError(f"task {name!r} is unknown.{did_you_mean(name, TASKS)}")
    return TASKS[name]


def check_fields(task: Task, row: Row, where: Callable[[], str]) -> None:
    """Raises UserError where a field that the task reads is of another kind than it should be."""
    for field, kind in {**task.needs, **task.may}.items():
        if field in row and not KINDS[kind](row[field]):
            got = repr(row[field])
            got = f"{got[:60]}..." if len(got) > 60 else got
            raise UserError(f"{where()}: {field!r} should be {kind}, not {got}")


def score(
    task: str,
    rows: Sequence[Row],
    name: str | None = None,
    where: Callable[[int], str] = "prediction {}".format,
) -> Scores:
    """Scores predictions.

    Args:
      task: one of `TASKS`.
      rows: the predictions, with the fields that the task needs.
      name: first part of the metrics' names; default the task's.
      where: what a row is called in messages, by its place.

    Raises:
      UserError: an unknown task, no rows, or a field that is missing or of another kind; names it.
    """
    spec = find_task(task)
    if not rows:
        raise UserError(f"{name or task}: no predictions to score")
    for place, row in enumerate(rows):
        for field, kind in spec.needs.items():
            if field not in row:
                raise UserError(f"{where(place)}: no {field!r}: the task {task} needs {kind} there")
        check_fields(spec, row, lambda place=place: where(place))
    try:
        metrics, samples = spec.score(rows)
    except scorers.BadRow as error:
        raise UserError(f"{where(error.place)}: {error}") from None
    name = name or spec.name or task
    return Scores({f"{name}/{key}": value for key, value in metrics.items()}, samples)


_TEXT_ANSWERS = {"prediction": "text", "answers": "a list of texts"}
_OPTIONS = {"prediction": "text", "options": "a list of texts", "answer": "a text or a number"}
_LABEL = {"prediction": "a text or a number", "label": "a text or a number"}

TASKS: dict[str, Task] = {
    "anls": Task(scorers.score_anls, _TEXT_ANSWERS, "answers by edit distance (DocVQA, ST-VQA)"),
    "aokvqa": Task(
        scorers.score_aokvqa,
        _TEXT_ANSWERS,
        "A-OKVQA's direct answers: three of ten people suffice; 'difficult' ones do not count",
        {"difficult": "true or false"},
    ),
    "auc": Task(
        scorers.score_auc,
        {"prediction": "a number", "label": "true or false"},
        "area under the ROC curve of scores (HatefulMemes)",
    ),
    "caption": Task(
        scorers.score_caption,
        {"prediction": "text", "references": "a list of texts"},
        "BLEU-1 to 4, ROUGE-L, CIDEr-D, exact captions (COCO, NoCaps, Flickr30k, TextCaps); "
        "by 'category', such as NoCaps's domains",
        {"category": "a text or a number"},
    ),
    "classification": Task(
        scorers.score_classification,
        {"prediction": "a list of texts or numbers", "label": "a text or a number"},
        "accuracy of classes, the likeliest first",
    ),
    "exact": Task(
        scorers.score_exact,
        _TEXT_ANSWERS,
        "one of the answers, letter by letter, in any case, or normalised (OCR, captchas, videos)",
        {"category": "a text or a number"},
    ),
    "gqa": Task(
        scorers.score_gqa,
        {"prediction": "text", "answer": "text"},
        "GQA accuracy; by type; consistency where all that is entailed was asked",
        {
            "structural": "text",
            "semantic": "text",
            "entailed": "texts or numbers",
            "balanced": "true or false",
        },
    ),
    "grounding": Task(
        scorers.score_grounding,
        {"prediction": "text or four numbers", "box": "four numbers"},
        "share of boxes with IoU of at least one half (RefCOCO)",
        {"size": "two numbers", "category": "a text or a number"},
    ),
    "ivqa": Task(scorers.score_ivqa, _TEXT_ANSWERS, "iVQA accuracy: two of five people suffice"),
    "mme": Task(
        scorers.score_mme,
        {
            "prediction": "text",
            "label": "a text or a number",
            "image": "a text or a number",
            "category": "text",
        },
        "MME points: accuracy and accuracy+ of subtasks, their sums",
    ),
    "multiple_choice": Task(
        scorers.score_multiple_choice,
        _OPTIONS,
        "the option that a free answer names (A-OKVQA, MMBench, SEED); circular by 'group'",
        {"category": "a text or a number", "group": "a text or a number"},
    ),
    "nlvr2": Task(
        scorers.score_nlvr2,
        _LABEL,
        "NLVR2 accuracy; consistency by 'sentence'",
        {"sentence": "a text or a number"},
    ),
    "pointing": Task(
        scorers.score_pointing,
        {"prediction": "two numbers", "box": "four numbers"},
        "the pointing game: points in their boxes",
        {"category": "a text or a number"},
        name="grounding",
    ),
    "pope": Task(
        scorers.score_pope,
        {"prediction": "text", "label": "a text or a number"},
        "POPE: accuracy, precision, recall, F1, yes ratio; of both rules, by 'category'",
        {"category": "text"},
    ),
    "retrieval": Task(
        scorers.score_retrieval,
        {
            "prediction": "texts or numbers",
            "answers": "a list of texts or numbers",
            "direction": "text",
        },
        "recall at 1, 5, 10 of ranked ids, median rank, by direction; 'rank' of an answer that is "
        "not among them",
        {"stage": "text", "rank": "a number"},
    ),
    "science_qa": Task(
        scorers.score_science_qa,
        _OPTIONS,
        "ScienceQA by LLaVA's rule; with images where 'has_image' tells",
        {"category": "a text or a number", "has_image": "true or false"},
    ),
    "snli_ve": Task(scorers.score_labels, _LABEL, "accuracy of labels, and of each label"),
    "textvqa": Task(scorers.score_textvqa, _TEXT_ANSWERS, "TextVQA accuracy, EvalAI's and LLaVA's"),
    "unscored": Task(
        scorers.score_unscored,
        {"prediction": "text"},
        "texts whose references are on a server (VQA's test): they are only counted",
    ),
    "visdial": Task(
        scorers.score_visdial,
        {"prediction": "a list of numbers", "answer": "a number"},
        "rank of the right one among scored options: MRR, recall, mean rank; NDCG of 'relevance'",
        {"relevance": "a list of numbers"},
    ),
    "vqa": Task(
        scorers.score_vqa,
        _TEXT_ANSWERS,
        "VQA accuracy (VQAv2, OK-VQA, VizWiz)",
        {"answer_type": "text", "question_type": "text"},
    ),
}
