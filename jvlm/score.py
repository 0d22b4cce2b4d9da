# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Scores a file of predictions: our JSON lines, or the official result formats."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jvlm import whole
from jvlm.errors import UserError
from jvlm.metrics.tasks import Scores, find_task, score

# Of other formats: COCO results, VQA results, GQA's, LLaVA's answers.
_IDS = ("id", "question_id", "questionId", "image_id")
_PREDICTIONS = ("prediction", "caption", "text", "answer")
_OWN = {
    "isBalanced": "balanced",
    "direct_answers": "answers",
    "difficult_direct_answer": "difficult",
    "choices": "options",
    "correct_choice_idx": "answer",
}


def score_file(
    path: str | Path,
    task: str,
    references: str | Path | None = None,
    per_sample: str | Path | None = None,
    java: Sequence[str] = (),
) -> Scores:
    """Scores predictions.

    Args:
      path: JSON lines or a JSON list. Each has `prediction` (or `caption`, `text`, `answer`) and
        the references that the task needs, or an id (`id`, `question_id`, `questionId`, `image_id`)
        by which `references` has them.
      task: one of `metrics.tasks.TASKS`.
      references: our JSON lines by id, or an official file: COCO captions, VQA annotations, GQA
        questions, A-OKVQA's. References without a prediction do not count, and are told of.
      per_sample: JSON lines that get the id and the metrics of each prediction.
      java: of a caption task: 'meteor', 'spice'.

    Raises:
      UserError: a file that cannot be read; a line or a field that is wrong, by its number.
    """
    path, needs = Path(path), find_task(task).needs
    for given in (path, references):
        if per_sample and given and Path(per_sample).resolve() == Path(given).resolve():
            raise UserError(f"{per_sample}: would be written over what is scored")
    known = _read_references(Path(references)) if references else None
    rows, places, seen = [], [], set()
    for place, row in _read(path):
        rows.append(_prediction(row, known, f"{path}:{place}", needs))
        places.append(place)
        if known is not None:
            key = str(rows[-1]["id"])
            if key in seen:
                raise UserError(f"{path}:{place}: a second prediction for id {key}")
            seen.add(key)
    if known is not None and len(rows) < len(known):
        missing = len(known) - len(rows)
        print(f"jvlm: {missing:,} of {len(known):,} references lack a prediction", file=sys.stderr)
    result = score(task, rows, where=lambda i: f"{path}:{places[i]}")
    if java:
        result = Scores(result.metrics | _java_metrics(task, rows, java), result.samples)
    if per_sample:
        lines = (
            {"id": row.get("id", place), **sample}
            for place, row, sample in zip(places, rows, result.samples)
        )
        try:
            whole.write_lines(Path(per_sample), lines)
        except OSError as error:
            raise UserError(f"{per_sample}: {error.strerror}") from None
    return result


def _prediction(row: Mapping, known: Mapping | None, where: str, needs: Mapping) -> dict[str, Any]:
    """A row in our own terms, with its references."""
    row = dict(row)
    key = next((key for key in _IDS if key in row), None)
    if key not in (None, "id"):
        row["id"] = row.pop(key)
    if "prediction" not in row:
        said = next((key for key in _PREDICTIONS if key in row), None)
        # A task's own references are no prediction.
        if said and (known is not None or said not in needs):
            row["prediction"] = row.pop(said)
    if known is None:
        return row
    if "id" not in row:
        raise UserError(f"{where}: no id to find its references by: one of {', '.join(_IDS)}")
    if str(row["id"]) not in known:
        raise UserError(f"{where}: id {row['id']!r} is not among the references")
    return {**row, **known[str(row["id"])]}


def _read_references(path: Path) -> dict[str, dict[str, Any]]:
    """id -> fields."""
    value = _load(path)
    if isinstance(value, list):
        value = [one for one in value if one is not None]
    try:
        return _by_id(value, path)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not as the official file is: {error!r}") from None


def _by_id(value: Any, path: Path) -> dict[str, dict[str, Any]]:
    if isinstance(value, dict) and isinstance(value.get("annotations"), list):
        value = value["annotations"]
        if value and "caption" in value[0]:
            captions: dict[str, dict[str, Any]] = {}
            for one in value:
                entry = captions.setdefault(str(one["image_id"]), {"references": []})
                entry["references"].append(one["caption"])
            return captions
    elif isinstance(value, dict) and all(isinstance(one, dict) for one in value.values()):
        value = [{"id": key, **one} for key, one in value.items()]  # GQA.
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise UserError(f"{path}: neither JSON lines nor an official annotation file")
    known = {}
    for number, one in enumerate(value, 1):
        key = next((key for key in _IDS if key in one), None)
        if key is None:
            raise UserError(f"{path}: reference {number} has no id: one of {', '.join(_IDS)}")
        fields = {name: field for name, field in one.items() if name not in (*_IDS, "prediction")}
        if known.setdefault(str(one[key]), fields) is not fields:
            raise UserError(f"{path}: reference {number} has the id {one[key]!r} a second time")
        known[str(one[key])] = _own_terms(fields)
    return known


def _own_terms(fields: dict[str, Any]) -> dict[str, Any]:
    """VQA's answers as texts, A-OKVQA's and GQA's fields by our names."""
    fields = {_OWN.get(name, name): value for name, value in fields.items()}
    answers = fields.get("answers")
    if isinstance(answers, list) and answers and isinstance(answers[0], dict):
        fields["answers"] = [answer["answer"] for answer in answers]
    for kind in ("structural", "semantic"):
        if isinstance(fields.get("types"), dict) and kind in fields["types"]:
            fields[kind] = fields["types"][kind]
    return fields


def _read(path: Path) -> list[tuple[int, dict]]:
    """(line or place, row) of a file of rows."""
    value = _load(path)
    if not isinstance(value, list):
        raise UserError(f"{path}: give JSON lines, or a JSON list of predictions")
    rows = [(place, row) for place, row in enumerate(value, 1) if row is not None]
    for place, row in rows:
        if not isinstance(row, dict):
            raise UserError(f"{path}:{place}: not an object, but {str(row)[:40]!r}")
    return rows


def _load(path: Path) -> Any:
    """The content of a JSON file, or the list of the lines of a JSON lines file, None if empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a UTF-8 text file"
        raise UserError(f"{path}: {reason}") from None
    lines = text.rstrip("\n").split("\n")
    if text.lstrip()[:1] == "[" or (len(lines) > 1 and lines[0].strip() in ("{", "[")):
        return _parse(text, str(path))
    if len(lines) == 1 and path.suffix == ".json":
        return _parse(text, str(path))
    return [
        _parse(line, f"{path}:{number}") if line.strip() else None
        for number, line in enumerate(lines, 1)
    ]


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error})") from None


def _java_metrics(task: str, rows: Sequence[Mapping], names: Sequence[str]) -> dict[str, float]:
    """METEOR and SPICE, by pycocoevalcap's Java programs."""
    from jvlm.metrics.caption import tokenize_pairs

    if task != "caption":
        raise UserError(f"{', '.join(names)}: of captions only, not of the task {task}")
    try:
        from pycocoevalcap.meteor.meteor import Meteor
        from pycocoevalcap.spice.spice import Spice
    except ImportError:
        raise UserError("METEOR and SPICE need pycocoevalcap: pip install 'jvlm[coco]'") from None
    if shutil.which("java") is None:
        raise UserError("METEOR and SPICE need Java, and there is no java on the path")
    pairs = tokenize_pairs(*([row[key] for row in rows] for key in ("prediction", "references")))
    said, known = {i: [text] for i, text in enumerate(pairs[0])}, dict(enumerate(pairs[1]))
    scorers, metrics = {"meteor": Meteor, "spice": Spice}, {}
    for name in names:
        try:
            metrics[f"caption/{name}"] = float(scorers[name]().compute_score(known, said)[0])
        except Exception as error:  # Java's, or that of what SPICE downloads on first use.
            raise UserError(f"{name} failed: {type(error).__name__}: {error}") from None
    return metrics
