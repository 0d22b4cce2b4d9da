# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tasks: from predictions, each a dict with its references, to metrics.

What an evaluator scores, what it writes, and what `jvlm score` reads are the same rows.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jvlm.errors import UserError, did_you_mean
from jvlm.metrics import benchmarks, binary, caption, choice, classification, grounding, vqa
from jvlm.metrics.retrieval import mean_reciprocal_rank, recall_of_ranks

Row = Mapping[str, Any]
Figures = dict[str, float]
_Scored = tuple[Figures, list[dict[str, float]]]


@dataclasses.dataclass(frozen=True)
class Task:
    """How predictions are scored.

    Attributes:
      score: rows -> (metric -> value over all, metric -> value of each row).
      needs: the fields of every row -> what they hold, a key of `KINDS`.
      may: fields that some files have.
      help: one line.
    """

    score: Callable[[Sequence[Row]], _Scored]
    needs: dict[str, str]
    help: str
    may: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Scores:
    """What a task makes of rows.

    Attributes:
      metrics: '<name>/<metric>' -> value.
      samples: of each row, metric -> value.
    """

    metrics: dict[str, float]
    samples: list[dict[str, float]]


class _BadRow(UserError):
    """A row whose fields are of the right kind and yet make no sense."""

    def __init__(self, place: int, message: str):
        super().__init__(message)
        self.place = place


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
    "a text or a number": lambda value: _is_text(value) or _is_number(value),
    "text or four numbers": lambda value: _is_text(value) or _is_list(value, _is_number, 4),
    "four numbers": lambda value: _is_list(value, _is_number, 4),
    "two numbers": lambda value: _is_list(value, _is_number, 2),
    "a list of texts or numbers": lambda value: _is_list(value, _is_id),
    "texts or numbers": lambda value: isinstance(value, list) and all(map(_is_id, value)),
    "true or false": lambda value: isinstance(value, bool | int),
}


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
    if task not in TASKS:
        raise UserError(f"task {task!r} is unknown.{did_you_mean(task, TASKS)}")
    if not rows:
        raise UserError(f"{name or task}: no predictions to score")
    spec = TASKS[task]
    for place, row in enumerate(rows):
        for field, kind in {**spec.needs, **spec.may}.items():
            if field not in row and field in spec.needs:
                raise UserError(f"{where(place)}: no {field!r}: the task {task} needs {kind} there")
            if field in row and not KINDS[kind](row[field]):
                got = repr(row[field])
                got = f"{got[:60]}..." if len(got) > 60 else got
                raise UserError(f"{where(place)}: {field!r} should be {kind}, not {got}")
    try:
        metrics, samples = spec.score(rows)
    except _BadRow as error:
        raise UserError(f"{where(error.place)}: {error}") from None
    return Scores({f"{name or task}/{key}": value for key, value in metrics.items()}, samples)


def _column(rows: Sequence[Row], field: str) -> list:
    return [row[field] for row in rows]


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _label(value: Any) -> str:
    """What a group of rows is called in a metric's name."""
    return "_".join(str(value).replace("/", " ").split())


def _by(
    rows: Sequence[Row], values: Sequence[float], fields: Sequence[str], metric: str = "accuracy"
) -> Figures:
    """The mean over all rows, and over those of each value of the fields that rows have."""
    figures = {metric: _mean(values)}
    for field in fields:
        groups: dict[str, list[float]] = {}
        for row, value in zip(rows, values):
            if field in row:
                groups.setdefault(_label(row[field]), []).append(value)
        figures |= {f"{metric}_{name}": _mean(groups[name]) for name in sorted(groups)}
    return figures


def _accuracy(rows: Sequence[Row], values: Sequence[float], *fields: str) -> _Scored:
    values = [float(value) for value in values]
    return _by(rows, values, fields), [{"accuracy": value} for value in values]


def _caption(rows):
    pairs = _column(rows, "prediction"), _column(rows, "references")
    tokens = caption.tokenize_pairs(*pairs)
    figures = {f"bleu{n}": value for n, value in enumerate(caption.bleu(*tokens), 1)}
    each = {
        "cider": caption.cider_d(*tokens),
        "rouge_l": caption.rouge_l(*tokens),
        "exact": np.array([float(text in others) for text, others in zip(*tokens)]),
    }
    figures |= {name: float(values.mean()) for name, values in each.items()}
    samples = [dict(zip(each, map(float, values))) for values in zip(*each.values())]
    return figures, samples


def _vqa(rows):
    values = vqa.vqa_accuracy(_column(rows, "prediction"), _column(rows, "answers"))
    return _accuracy(rows, values, "answer_type", "question_type")


def _textvqa(rows):
    pairs = _column(rows, "prediction"), _column(rows, "answers")
    return _accuracy(rows, vqa.vqa_accuracy(*pairs, vqa.textvqa_answer))


def _ivqa(rows):
    answers = _column(rows, "answers")
    return _accuracy(rows, vqa.agreement_accuracy(_column(rows, "prediction"), answers))


def _exact(rows):
    pairs = _column(rows, "prediction"), _column(rows, "answers")
    each = {
        "accuracy": vqa.exact_match(*pairs, normalize=str.strip),
        "accuracy_any_case": vqa.exact_match(*pairs, normalize=lambda text: text.strip().lower()),
        "accuracy_normalized": vqa.exact_match(*pairs),
    }
    figures = {name: float(values.mean()) for name, values in each.items()}
    groups = _by(rows, each["accuracy"].tolist(), ("category",))
    return groups | figures, [dict(zip(each, map(float, values))) for values in zip(*each.values())]


def _gqa(rows):
    right = [vqa.gqa_answer(row["prediction"]) == row["answer"] for row in rows]
    balanced = [place for place, row in enumerate(rows) if row.get("balanced", True)]
    kept, hits = [rows[place] for place in balanced], [float(right[place]) for place in balanced]
    if not kept:
        raise UserError("gqa: no row is balanced: accuracy is over those")
    figures = _by(kept, hits, ("structural", "semantic"))
    if all("structural" in row for row in kept):
        for name, is_open in (("open", True), ("binary", False)):
            of_type = [h for row, h in zip(kept, hits) if (row["structural"] == "query") == is_open]
            figures |= {name: _mean(of_type)} if of_type else {}
    if all("entailed" in row and "id" in row for row in rows):
        known = dict(zip(_column(rows, "id"), right))
        lost = {other for row in kept for other in row["entailed"]} - known.keys()
        if lost:
            raise UserError(f"gqa: consistency needs a prediction for question {min(lost)!r} too")
        entailed = {row["id"]: row["entailed"] for row in kept}
        figures["consistency"] = benchmarks.gqa_consistency(known, entailed)
    return figures, [{"accuracy": float(hit)} for hit in right]


def _multiple_choice(rows, parse=choice.chosen_option):
    right = []
    for place, row in enumerate(rows):
        answer = choice.right_option(row["answer"], row["options"])
        if answer < 0:
            raise _BadRow(place, f"the answer {row['answer']!r} is no option, letter or place")
        right.append(parse(row["prediction"], row["options"]) == answer)
    figures, samples = _accuracy(rows, right, "category")
    if all("group" in row for row in rows):
        figures["circular"] = choice.circular_accuracy(right, _column(rows, "group"))
    with_image = [hit for row, hit in zip(rows, right) if row.get("has_image")]
    if with_image and any("has_image" in row for row in rows):
        figures["accuracy_image"] = _mean(with_image)
    return figures, samples


def _science_qa(rows):
    return _multiple_choice(rows, choice.science_qa_option)


def _anls(rows):
    values = vqa.anls(_column(rows, "prediction"), _column(rows, "answers"))
    return {"anls": float(values.mean())}, [{"anls": float(value)} for value in values]


def _grounding(rows):
    boxes, found = [], []
    for place, row in enumerate(rows):
        box = row["prediction"]
        if isinstance(box, str):
            parsed = grounding.parse_boxes(box)
            found.append(float(len(parsed) > 0))
            box = parsed[0] if len(parsed) else np.zeros(4)
            if "size" not in row:
                raise _BadRow(place, "boxes in text need 'size', the image's [width, height]")
            box = box * np.tile(row["size"], 2)
        else:
            found.append(1.0)
        boxes.append(np.asarray(box, np.float64))
    values = grounding.iou(np.stack(boxes), np.array(_column(rows, "box"), np.float64))
    hits = (values >= 0.5).astype(float).tolist()
    figures = _by(rows, hits, ("category",), "acc_iou50")
    figures |= {"mean_iou": float(values.mean()), "parsed": _mean(found)}
    return figures, [{"acc_iou50": hit, "iou": float(iou)} for hit, iou in zip(hits, values)]


def _pointing(rows):
    points, boxes = (np.array(_column(rows, field), np.float64) for field in ("prediction", "box"))
    hits = grounding.pointing_hits(points, boxes).astype(float).tolist()
    return {"pointing": _mean(hits)}, [{"pointing": hit} for hit in hits]


def _same_label(row: Row) -> bool:
    prediction, label = (
        str(row[key]).strip().rstrip(".").lower() for key in ("prediction", "label")
    )
    return prediction == label


def _labels(rows):
    return _accuracy(rows, map(_same_label, rows), "label")


_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _truth(value: Any) -> bool | None:
    """True or False of a label, or of an answer that begins with it; else None."""
    words = str(value).strip().lower().replace(",", " ").replace(".", " ").split()
    return _TRUTH.get(words[0]) if words else None


def _nlvr2(rows):
    right = [_truth(row["prediction"]) is _truth(row["label"]) for row in rows]
    figures, samples = _accuracy(rows, right)
    if all("sentence" in row for row in rows):
        # Of sentences, those that are right with all their pairs of images (Suhr et al. 2019).
        figures["consistency"] = choice.circular_accuracy(right, _column(rows, "sentence"))
    return figures, samples


def _pope(rows):
    labels = [binary.YES if _truth(row["label"]) else binary.NO for row in rows]
    figures, right = {}, []
    for rule, ending in (("llava", ""), ("strict", "_strict")):
        said = [binary.parse_yes_no(row["prediction"], rule) for row in rows]
        if rule == "llava":
            right = [a == b for a, b in zip(said, labels)]
        splits = {}
        for row, answer, label in zip(rows, said, labels):
            part = splits.setdefault(_label(row.get("category", "all")), ([], []))
            part[0].append(answer)
            part[1].append(label)
        scores = {split: binary.yes_no_scores(*part) for split, part in splits.items()}
        for metric in next(iter(scores.values())):
            # The mean of the splits, as LLaVA and most others report F1.
            figures[f"{metric}{ending}"] = _mean(each[metric] for each in scores.values())
            if len(scores) > 1:
                figures |= {
                    f"{metric}{ending}_{split}": scores[split][metric] for split in sorted(scores)
                }
    return figures, [{"accuracy": float(hit)} for hit in right]


def _mme(rows):
    right = [
        benchmarks.mme_answer(row["prediction"])
        == (binary.YES if _truth(row["label"]) else binary.NO)
        for row in rows
    ]
    figures = benchmarks.mme_scores(right, _column(rows, "image"), _column(rows, "category"))
    return figures, [{"accuracy": float(hit)} for hit in right]


def _auc(rows):
    labels = [int(row["label"]) for row in rows]
    return {"auc": binary.auc(_column(rows, "prediction"), labels)}, [{} for _ in rows]


def _visdial(rows):
    ranks, figures = [], {}
    for place, row in enumerate(rows):
        if row["answer"] not in range(len(row["prediction"])):
            raise _BadRow(place, f"answer {row['answer']} of {len(row['prediction'])} options")
        ranks.append(benchmarks.rank_of(row["prediction"], row["answer"]))
    ranks = np.array(ranks)
    figures["mrr"] = mean_reciprocal_rank(ranks)
    figures |= {f"r{k}": value for k, value in recall_of_ranks(ranks, (1, 5, 10)).items()}
    figures["mean_rank"] = float(ranks.mean()) + 1
    dense = [row for row in rows if "relevance" in row and any(row["relevance"])]
    if dense:
        gains = [benchmarks.ndcg(row["prediction"], row["relevance"]) for row in dense]
        figures["ndcg"] = _mean(gains)
    return figures, [{"rank": float(rank) + 1} for rank in ranks]


def _retrieval(rows):
    figures, samples = {}, []
    for row in rows:
        right = set(row["answers"])
        rank = next((i for i, key in enumerate(row["prediction"]) if key in right), math.inf)
        samples.append({"rank": rank})
    groups: dict[str, dict[str, list[float]]] = {}
    for row, sample in zip(rows, samples):
        stage = f"_{row['stage']}" if row.get("stage") else ""
        groups.setdefault(stage, {}).setdefault(row["direction"], []).append(sample["rank"])
    for stage, directions in groups.items():
        recalls = {
            f"{direction}_r{k}{stage}": value
            for direction, ranks in directions.items()
            for k, value in recall_of_ranks(np.array(ranks), (1, 5, 10)).items()
        }
        figures |= recalls
        if len(directions) > 1:
            total = sum(recalls.values())
            figures |= {f"mean{stage}": total / len(recalls), f"rsum{stage}": 100 * total}
    # No rank is infinite in JSON.
    return figures, [{} if math.isinf(s["rank"]) else {"rank": s["rank"] + 1} for s in samples]


def _classification(rows):
    names: dict[Any, int] = {}
    number = lambda value: names.setdefault(value, len(names))
    labels = np.array([number(row["label"]) for row in rows])
    k = min(len(row["prediction"]) for row in rows)
    predicted = np.array([[number(value) for value in row["prediction"][:k]] for row in rows])
    hits = (predicted[:, 0] == labels).astype(float)
    return classification.accuracy(predicted, labels), [{"top1": hit} for hit in hits.tolist()]


_TEXT_ANSWERS = {"prediction": "text", "answers": "a list of texts"}
_OPTIONS = {"prediction": "text", "options": "a list of texts", "answer": "a text or a number"}
_LABEL = {"prediction": "a text or a number", "label": "a text or a number"}

TASKS: dict[str, Task] = {
    "anls": Task(_anls, _TEXT_ANSWERS, "answers by edit distance (DocVQA, ST-VQA)"),
    "auc": Task(
        _auc,
        {"prediction": "a number", "label": "true or false"},
        "area under the ROC curve of scores (HatefulMemes)",
    ),
    "caption": Task(
        _caption,
        {"prediction": "text", "references": "a list of texts"},
        "BLEU-1 to 4, ROUGE-L, CIDEr-D, exact captions (COCO, NoCaps, Flickr30k, TextCaps)",
    ),
    "classification": Task(
        _classification,
        {"prediction": "a list of texts or numbers", "label": "a text or a number"},
        "accuracy of classes, the likeliest first",
    ),
    "exact": Task(
        _exact,
        _TEXT_ANSWERS,
        "one of the answers, letter by letter, in any case, or normalised (OCR, captchas, videos)",
        {"category": "a text or a number"},
    ),
    "gqa": Task(
        _gqa,
        {"prediction": "text", "answer": "text"},
        "GQA accuracy; by type, and consistency, where the rows tell",
        {
            "structural": "text",
            "semantic": "text",
            "entailed": "texts or numbers",
            "balanced": "true or false",
        },
    ),
    "grounding": Task(
        _grounding,
        {"prediction": "text or four numbers", "box": "four numbers"},
        "share of boxes with IoU of at least one half (RefCOCO)",
        {"size": "two numbers", "category": "a text or a number"},
    ),
    "ivqa": Task(_ivqa, _TEXT_ANSWERS, "iVQA accuracy: two of five people suffice"),
    "mme": Task(
        _mme,
        {
            "prediction": "text",
            "label": "a text or a number",
            "image": "a text or a number",
            "category": "text",
        },
        "MME points: accuracy and accuracy+ of subtasks, their sums",
    ),
    "multiple_choice": Task(
        _multiple_choice,
        _OPTIONS,
        "the option that a free answer names (A-OKVQA, MMBench, SEED); circular by 'group'",
        {"category": "a text or a number", "group": "a text or a number"},
    ),
    "nlvr2": Task(_nlvr2, _LABEL, "NLVR2 accuracy; consistency by 'sentence'"),
    "pointing": Task(
        _pointing,
        {"prediction": "two numbers", "box": "four numbers"},
        "the pointing game: points in their boxes",
    ),
    "pope": Task(
        _pope,
        {"prediction": "text", "label": "a text or a number"},
        "POPE: accuracy, precision, recall, F1, yes ratio; of both rules, by 'category'",
        {"category": "text"},
    ),
    "retrieval": Task(
        _retrieval,
        {
            "prediction": "texts or numbers",
            "answers": "a list of texts or numbers",
            "direction": "text",
        },
        "recall at 1, 5, 10 of ranked ids, by direction",
        {"stage": "text"},
    ),
    "science_qa": Task(
        _science_qa,
        _OPTIONS,
        "ScienceQA by LLaVA's rule; with images where 'has_image' tells",
        {"category": "a text or a number", "has_image": "true or false"},
    ),
    "snli_ve": Task(_labels, _LABEL, "accuracy of labels, and of each label"),
    "textvqa": Task(_textvqa, _TEXT_ANSWERS, "TextVQA accuracy, as EvalAI and LLaVA have it"),
    "visdial": Task(
        _visdial,
        {"prediction": "a list of numbers", "answer": "a number"},
        "rank of the right one among scored options: MRR, recall, mean rank; NDCG of 'relevance'",
        {"relevance": "a list of numbers"},
    ),
    "vqa": Task(
        _vqa,
        _TEXT_ANSWERS,
        "VQA accuracy (VQAv2, OK-VQA, A-OKVQA, VizWiz)",
        {"answer_type": "text", "question_type": "text"},
    ),
}
