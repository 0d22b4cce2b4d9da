# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""From the rows of a task to its metrics; `tasks` says which fields they have.

Each gives (metric -> value over all rows, metric -> value of each row).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jvlm.errors import UserError
from jvlm.metrics import benchmarks, binary, caption, choice, classification, grounding, vqa
from jvlm.metrics.retrieval import mean_reciprocal_rank, recall_of_ranks

Row = Mapping[str, Any]
Figures = dict[str, float]
Scored = tuple[Figures, list[dict[str, float]]]


class BadRow(UserError):
    """A row whose fields are of the right kind and yet make no sense."""

    def __init__(self, place: int, message: str):
        super().__init__(message)
        self.place = place


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


def _accuracy(rows: Sequence[Row], values: Sequence[float], *fields: str) -> Scored:
    values = [float(value) for value in values]
    return _by(rows, values, fields), [{"accuracy": value} for value in values]


def score_caption(rows):
    figures, samples = _caption_figures(rows)
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.get("category"):
            groups.setdefault(_label(row["category"]), []).append(row)
    for name in sorted(groups) if len(groups) > 1 else ():
        own, _ = _caption_figures(groups[name])
        figures |= {f"{metric}_{name}": value for metric, value in own.items()}
    return figures, samples


def _caption_figures(rows: Sequence[Row]) -> Scored:
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


def _many_answers(rows: Sequence[Row]) -> list:
    """The answers of people; of three and one left out no prediction could reach 1."""
    for place, row in enumerate(rows):
        if len(row["answers"]) < 4:
            count = len(row["answers"])
            raise BadRow(
                place,
                f"'answers' has {count} of the four or more that VQA accuracy is made for: "
                "give all people's, equal ones too, or take the task exact",
            )
    return _column(rows, "answers")


def score_vqa(rows):
    values = vqa.vqa_accuracy(_column(rows, "prediction"), _many_answers(rows))
    return _accuracy(rows, values, "answer_type", "question_type")


def score_textvqa(rows):
    pairs = _column(rows, "prediction"), _many_answers(rows)
    return _accuracy(rows, vqa.vqa_accuracy(*pairs, vqa.textvqa_answer))


def score_ivqa(rows):
    answers = _column(rows, "answers")
    return _accuracy(rows, vqa.agreement_accuracy(_column(rows, "prediction"), answers))


def score_aokvqa(rows):
    answers = _column(rows, "answers")
    values = vqa.agreement_accuracy(_column(rows, "prediction"), answers, 3, normalize=str)
    easy = [place for place, row in enumerate(rows) if not row.get("difficult", False)]
    if not easy:
        raise UserError("aokvqa: all rows are difficult: accuracy is over the others")
    return {"accuracy": _mean(values[easy])}, [{"accuracy": float(value)} for value in values]


def score_exact(rows):
    pairs = _column(rows, "prediction"), _column(rows, "answers")
    each = {
        "accuracy": vqa.exact_match(*pairs, normalize=str.strip),
        "accuracy_any_case": vqa.exact_match(*pairs, normalize=lambda text: text.strip().lower()),
        "accuracy_normalized": vqa.exact_match(*pairs),
    }
    figures = {name: float(values.mean()) for name, values in each.items()}
    groups = _by(rows, each["accuracy"].tolist(), ("category",))
    return groups | figures, [dict(zip(each, map(float, values))) for values in zip(*each.values())]


def score_gqa(rows):
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
        known = {str(row["id"]): hit for row, hit in zip(rows, right)}
        entailed = {str(row["id"]): list(map(str, row["entailed"])) for row in kept}
        # What balanced questions entail is often unbalanced, and not asked: no consistency then.
        if known.keys() >= set().union(*entailed.values()):
            figures["consistency"] = benchmarks.gqa_consistency(known, entailed)
    return figures, [{"accuracy": float(hit)} for hit in right]


def score_multiple_choice(rows, parse=choice.chosen_option):
    right = []
    for place, row in enumerate(rows):
        answer = choice.right_option(row["answer"], row["options"])
        if answer < 0:
            raise BadRow(place, f"the answer {row['answer']!r} is no option, letter or place")
        right.append(parse(row["prediction"], row["options"]) == answer)
    figures, samples = _accuracy(rows, right, "category")
    if all("group" in row for row in rows):
        figures["circular"] = choice.circular_accuracy(right, _column(rows, "group"))
    with_image = [hit for row, hit in zip(rows, right) if row.get("has_image")]
    if with_image and any("has_image" in row for row in rows):
        figures["accuracy_image"] = _mean(with_image)
    return figures, samples


def score_science_qa(rows):
    return score_multiple_choice(rows, choice.science_qa_option)


def score_anls(rows):
    values = vqa.anls(_column(rows, "prediction"), _column(rows, "answers"))
    return {"anls": float(values.mean())}, [{"anls": float(value)} for value in values]


def score_grounding(rows):
    boxes, found = [], []
    for place, row in enumerate(rows):
        box = row["prediction"]
        if isinstance(box, str):
            parsed = grounding.parse_boxes(box)
            found.append(float(len(parsed) > 0))
            box = parsed[0] if len(parsed) else np.zeros(4)
            if "size" not in row:
                raise BadRow(place, "boxes in text need 'size', the image's [width, height]")
            box = box * np.tile(row["size"], 2)
        else:
            found.append(1.0)
        boxes.append(np.asarray(box, np.float64))
    values = grounding.iou(np.stack(boxes), np.array(_column(rows, "box"), np.float64))
    hits = (values >= 0.5).astype(float).tolist()
    figures = _by(rows, hits, ("category",), "acc_iou50")
    figures |= {"mean_iou": float(values.mean()), "parsed": _mean(found)}
    return figures, [{"acc_iou50": hit, "iou": float(iou)} for hit, iou in zip(hits, values)]


def score_pointing(rows):
    points, boxes = (np.array(_column(rows, field), np.float64) for field in ("prediction", "box"))
    hits = grounding.pointing_hits(points, boxes).astype(float).tolist()
    return _by(rows, hits, ("category",), "pointing"), [{"pointing": hit} for hit in hits]


def _same_label(row: Row) -> bool:
    prediction, label = (
        str(row[key]).strip().rstrip(".").lower() for key in ("prediction", "label")
    )
    return prediction == label


def score_labels(rows):
    return _accuracy(rows, map(_same_label, rows), "label")


_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _truth(value: Any) -> bool | None:
    """True or False of a label, or of an answer that begins with it; else None."""
    words = str(value).strip().lower().replace(",", " ").replace(".", " ").split()
    return _TRUTH.get(words[0]) if words else None


def _truths(rows: Sequence[Row]) -> list[bool]:
    """The labels; one that is neither true nor false, or unknown, is no label."""
    truths = [_truth(row["label"]) for row in rows]
    if None in truths:
        place = truths.index(None)
        label = rows[place]["label"]
        raise BadRow(place, f"the label {label!r} is neither yes or true nor no or false")
    return truths


def score_nlvr2(rows):
    right = [_truth(row["prediction"]) is truth for row, truth in zip(rows, _truths(rows))]
    figures, samples = _accuracy(rows, right)
    if all("sentence" in row for row in rows):
        # Of sentences, those that are right with all their pairs of images (Suhr et al. 2019).
        figures["consistency"] = choice.circular_accuracy(right, _column(rows, "sentence"))
    return figures, samples


def score_pope(rows):
    labels = [binary.YES if truth else binary.NO for truth in _truths(rows)]
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


def score_mme(rows):
    right = [
        benchmarks.mme_answer(row["prediction"]) == (binary.YES if truth else binary.NO)
        for row, truth in zip(rows, _truths(rows))
    ]
    figures = benchmarks.mme_scores(right, _column(rows, "image"), _column(rows, "category"))
    return figures, [{"accuracy": float(hit)} for hit in right]


def score_auc(rows):
    labels = [binary.YES if truth else binary.NO for truth in _truths(rows)]
    return {"auc": binary.auc(_column(rows, "prediction"), labels)}, [{} for _ in rows]


def score_visdial(rows):
    ranks, figures = [], {}
    for place, row in enumerate(rows):
        if row["answer"] not in range(len(row["prediction"])):
            raise BadRow(place, f"answer {row['answer']} of {len(row['prediction'])} options")
        if len(row.get("relevance", row["prediction"])) != len(row["prediction"]):
            raise BadRow(place, f"relevance of {len(row['relevance'])} options, not of all")
        ranks.append(benchmarks.rank_of(row["prediction"], int(row["answer"])))
    ranks = np.array(ranks)
    figures["mrr"] = mean_reciprocal_rank(ranks)
    figures |= {f"r{k}": value for k, value in recall_of_ranks(ranks, (1, 5, 10)).items()}
    figures["mean_rank"] = float(ranks.mean()) + 1
    dense = [row for row in rows if "relevance" in row and any(row["relevance"])]
    if dense:
        gains = [benchmarks.ndcg(row["prediction"], row["relevance"]) for row in dense]
        figures["ndcg"] = _mean(gains)
    return figures, [{"rank": float(rank) + 1} for rank in ranks]


def score_retrieval(rows):
    figures, samples = {}, []
    for row in rows:
        right = set(row["answers"])
        behind = row["rank"] - 1 if "rank" in row else math.inf
        rank = next((i for i, key in enumerate(row["prediction"]) if key in right), behind)
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
        for direction, ranks in directions.items():
            median = float(np.median(ranks)) + 1
            if math.isfinite(median):
                figures[f"{direction}_median_rank{stage}"] = median
    # No rank is infinite in JSON.
    return figures, [{} if math.isinf(s["rank"]) else {"rank": s["rank"] + 1} for s in samples]


def score_classification(rows):
    names: dict[Any, int] = {}
    number = lambda value: names.setdefault(value, len(names))
    labels = np.array([number(row["label"]) for row in rows])
    k = min(len(row["prediction"]) for row in rows)
    predicted = np.array([[number(value) for value in row["prediction"][:k]] for row in rows])
    hits = (predicted[:, 0] == labels).astype(float)
    return classification.accuracy(predicted, labels), [{"top1": hit} for hit in hits.tolist()]


def score_unscored(rows):
    return {"count": float(len(rows))}, [{} for _ in rows]
