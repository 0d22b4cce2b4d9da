# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Multiple-choice questions about pictures: `label` is the right choice's place, -1 unknown."""

import functools
import os
from collections.abc import Iterator
from typing import Any

from jvlm.data.importers.annotations import (
    BadEntry,
    Entry,
    Table,
    by_split,
    coco_names,
    convert,
    corners,
    rows,
)
from jvlm.data.importers.files import Files
from jvlm.data.importers.questions import question
from jvlm.data.importers.records import Blob, Dropped, Kind, Record


def choose(choices: list[str], label: Any, known: bool = True) -> dict:
    """`choices`, `label` and, of a known one, `answers`.

    Args:
      choices: texts.
      label: place of the right one.
      known: False takes None as unknown, -1.

    Raises:
      BadEntry: there is no such choice.
    """
    if label is None and not known and choices:
        return {"choices": choices, "label": -1}
    if type(label) is not int or not 0 <= label < len(choices):
        raise BadEntry("answer is not one of the choices")
    return {"choices": choices, "label": label, "answers": [choices[label]]}


def aokvqa(files: Files) -> Iterator[Record | Dropped]:
    """A-OKVQA's aokvqa_v1p0_*.json (allenai/aokvqa): choices, and ten direct answers.

    [{split, image_id, question_id, question, choices, correct_choice_idx?, direct_answers?,
    difficult_direct_answer?, rationales?}]; the pictures are COCO's of 2017. The answers are the
    direct ones. The category of questions that the official evaluation leaves out when it judges
    direct answers (eval_predictions.py) is 'difficult_direct_answer'.
    """
    for split, path in by_split(files.need("aokvqa_v1p0_*.json")).items():
        yield from convert(rows(path), _aokvqa_question, files, split)


def _aokvqa_question(entry: Entry, files: Files, split: str) -> Iterator[Record]:
    image_id, label = entry.number("image_id"), entry.fields.get("correct_choice_idx")
    chosen = choose(entry.texts("choices"), label, known=split != "test")
    difficult = "difficult_direct_answer"
    chosen["answers"] = entry.texts("direct_answers", [] if split == "test" else None)
    yield question(
        entry,
        split,
        files.image(*coco_names(image_id, "train2014", "val2014")),
        category=difficult if entry.fields.get(difficult) is True else "",
        explanations=entry.texts("rationales", []),
        image_id=str(image_id),
        **chosen,
    )


_SPLITS = {"train": "train", "val": "validation", "test": "test"}


def _split(entry: Entry) -> str:
    """`split` of an entry, in this library's names."""
    split = entry.text("split")
    if split not in _SPLITS:
        raise BadEntry("unknown split")
    return _SPLITS[split]


def scienceqa(files: Files) -> Iterator[Record | Dropped]:
    """ScienceQA's problems.json (lupantech/ScienceQA): {id: {question, choices, answer, ...}}.

    Only the half of the problems that have a picture: the rest is left out as InstructBLIP does,
    and is no loss in the report. With hint as context, lecture and solution as explanations, and
    the subject as category. LLaVA's form of all problems is kind llava.
    """
    for path in files.need("problems.json"):
        pictured = (
            (name, row)
            for name, row in rows(path)
            if not isinstance(row, dict) or row.get("image", "") is not None
        )
        yield from convert(pictured, _scienceqa_problem, files)


def _scienceqa_problem(entry: Entry, files: Files) -> Iterator[Record]:
    split = _split(entry)
    name = os.path.join(entry.text("split"), entry.name, entry.text("image"))
    yield question(
        entry,
        split,
        files.image(name, f"images/{name}", f"{entry.name}/image.png", anywhere=False),
        context=entry.text("hint", ""),
        explanations=[text for key in ("lecture", "solution") if (text := entry.text(key, ""))],
        category=entry.text("subject", ""),
        question_id=entry.name,
        image_id=entry.name,
        **choose(entry.texts("choices"), entry.fields.get("answer")),
    )


def iconqa(files: Files, images: bool) -> Iterator[Record | Dropped]:
    """IconQA's problems.json (lupantech/IconQA).

    {id: {question, choices, answer, ques_type, split}}; pictures are in <split>/<ques_type>/<id>/.
    The category is the kind of question. Those that are to be answered by one of several pictures
    are a kind of their own: their pictures are the question's and then the choices', whose names
    are the choices.

    Args:
      images: those with pictures as choices, or those with texts and with blanks.
    """
    for path in files.need("problems.json"):
        asked = (
            (name, row)
            for name, row in rows(path)
            if not isinstance(row, dict) or (row.get("ques_type") == "choose_img") == images
        )
        yield from convert(asked, _iconqa_problem, files)


def _iconqa_problem(entry: Entry, files: Files) -> Iterator[Record]:
    task, split = entry.text("ques_type"), _split(entry)
    if task == "fill_in_blank":
        chosen = {"answers": entry.texts("answer")}
    else:
        chosen = choose(entry.texts("choices"), entry.fields.get("answer"))
    folder = os.path.join(entry.text("split"), task, entry.name)
    names = ["image.png", *(chosen["choices"] if task == "choose_img" else ())]
    blobs = [
        files.image(f"{folder}/{name}", f"iconqa/{folder}/{name}", anywhere=False) for name in names
    ]
    values = {
        "question": entry.text("question"),
        "category": task,
        "question_id": entry.name,
        "image_id": entry.name,
    }
    yield Record(split, entry.name, {**values, **chosen}, tuple(blobs))


def visual7w(files: Files) -> Iterator[Record | Dropped]:
    """Visual7W telling, dataset_v7w_telling.json (yukezhu/visual7w-toolkit).

    {images: [{split, filename, image_id, qa_pairs: [{qa_id, question, answer, multiple_choices,
    type}]}]}, where multiple_choices are the three wrong ones. The toolkit shuffles; here the right
    one is put in place qa_id modulo four, so that all see the same and no place is favoured. The
    toolkit renames the file to dataset.json. The category is the question's W.
    """
    for path in files.need("dataset_v7w_telling.json", "dataset.json"):
        yield from convert(rows(path, "images"), _visual7w_image, files, None)


def visual7w_pointing(files: Files) -> Iterator[Record | Dropped]:
    """Visual7W pointing, dataset_v7w_pointing.json: like telling, but the choices are box numbers.

    {images: ..., boxes: [{box_id, name, x, y, width, height}]}; the choices are the boxes' names.
    """
    for path in files.need("dataset_v7w_pointing.json", "dataset.json"):
        boxes = Table(rows(path, "boxes"), "box_id", _visual7w_box)
        yield from convert(rows(path, "images"), _visual7w_image, files, boxes)


def _visual7w_box(entry: Entry) -> tuple[str, list[float]]:
    return entry.text("name"), corners(entry.numbers("x", "y", "width", "height"))


def _visual7w_image(entry: Entry, files: Files, boxes: Table | None) -> Iterator[Record | Dropped]:
    split, name, image_id = _split(entry), entry.text("filename"), entry.text("image_id")
    image = files.image(f"images/{name}", name, f"{image_id}.jpg")
    yield from convert(entry.items("qa_pairs"), _visual7w_question, split, image, image_id, boxes)


def _visual7w_question(
    entry: Entry, split: str, image: Blob, image_id: str, boxes: Table | None
) -> Iterator[Record]:
    options = [option for _, option in entry.items("multiple_choices")]
    label = entry.number("qa_id") % (len(options) + 1)
    options.insert(label, entry.fields.get("answer"))
    places = {}
    if boxes is not None:
        found = [boxes.get(str(option)) for option in options]
        if None in found:
            raise BadEntry("no box")
        options = [name for name, _ in found]
        places = {"boxes": [{"box": box} for _, box in found]}
    options = Entry(entry.name, {"choices": options}).texts("choices")
    yield question(
        entry,
        split,
        image,
        category=entry.text("type", ""),
        question_id=entry.text("qa_id"),
        image_id=image_id,
        **choose(options, label),
        **places,
    )


CHOICES = {
    "aokvqa": Kind(aokvqa, "questions", "aokvqa_v1p0_{train,val,test}.json"),
    "scienceqa": Kind(scienceqa, "questions", "ScienceQA's problems.json: those with a picture"),
    "iconqa": Kind(
        functools.partial(iconqa, images=False),
        "questions",
        "IconQA's problems.json: choices of text, and blanks",
    ),
    "iconqa_images": Kind(
        functools.partial(iconqa, images=True),
        "video_questions",
        "IconQA's problems.json: choices that are pictures",
    ),
    "visual7w": Kind(visual7w, "questions", "dataset_v7w_telling.json"),
    "visual7w_pointing": Kind(visual7w_pointing, "pointing", "dataset_v7w_pointing.json"),
}
