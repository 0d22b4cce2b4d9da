# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Open questions about a picture. The answers are those of all annotators, equal ones repeated."""

import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from jvlm.data.importers.annotations import (
    BadEntry,
    Entry,
    Table,
    beside,
    by_split,
    coco_names,
    companion,
    convert,
    rows,
    textvqa_image,
    visual_genome_image,
)
from jvlm.data.importers.files import Files, split_of
from jvlm.data.importers.records import Blob, Dropped, Kind, Record


def vqa(files: Files, prefix: str, category: str) -> Iterator[Record | Dropped]:
    """Questions and annotations of VQA (visualqa.org, vqa_v2_formats), OK-VQA and VQA v1.

    {questions: [{image_id, question, question_id}]} and {annotations: [{question_id, answers:
    [{answer}], question_type, answer_type}]}, joined by question. Test questions have no answers.

    Args:
      prefix: of the files' names: 'v2_' or none.
      category: key of the annotation that is the record's category.
    """
    for split, path in by_split(files.need(f"{prefix}OpenEnded_mscoco_*_questions.json")).items():
        subset = re.search(r"mscoco_(.*)_questions", path.name).group(1)
        notes = None
        if not split.startswith("test"):
            found = companion(files, path, f"{prefix}mscoco_{subset}_annotations.json")
            take = functools.partial(_vqa_note, category=category)
            notes = Table(rows(found, "annotations"), "question_id", take)
        subset = subset.replace("-dev", "")  # The pictures of test-dev are a part of test's.
        yield from convert(rows(path, "questions"), _vqa_question, files, split, subset, notes)


def _vqa_note(entry: Entry, category: str) -> dict:
    answers = [answer.text("answer", blank=True) for answer in entry.entries("answers")]
    # Millions of answers are a few thousand texts.
    return {
        "answers": [*map(sys.intern, answers)],
        "category": sys.intern(entry.text(category, "")),
    }


def _vqa_question(
    entry: Entry, files: Files, split: str, subset: str, notes: Table | None
) -> Iterator[Record]:
    image_id = entry.number("image_id")
    values = {"image_id": str(image_id)}
    if notes is not None:
        note = notes.get(entry.text("question_id"))
        if note is None:
            raise BadEntry("no annotation")
        values |= note
    yield question(entry, split, files.image(*coco_names(image_id, subset)), **values)


def question(entry: Entry, split: str, image: Blob, **values) -> Record:
    """A record of an entry that has `question`, and `question_id` unless given."""
    question_id = values.pop("question_id", None) or entry.text("question_id")
    values = {"question": entry.text("question"), "question_id": question_id, **values}
    return Record(split, question_id, values, (image,))


def vizwiz(files: Files) -> Iterator[Record | Dropped]:
    """VizWiz's train.json, val.json, test.json (vizwiz.org): [{image, question, answers?}].

    The picture names the question: there is one about each. The category is the answer's type.
    """
    for split, path in by_split(files.need("train.json", "val.json", "test.json")).items():
        yield from convert(rows(path), _vizwiz_question, files, split)


def _vizwiz_question(entry: Entry, files: Files, split: str) -> Iterator[Record]:
    name = entry.text("image")
    answers = entry.entries("answers", [] if split == "test" else None)
    yield question(
        entry,
        split,
        files.image(name),
        answers=[answer.text("answer", blank=True) for answer in answers],
        category=entry.text("answer_type", ""),
        question_id=name,
        image_id=Path(name).stem,
    )


def textvqa(files: Files) -> Iterator[Record | Dropped]:
    """TextVQA_0.5.1_*.json (textvqa.org): {data: [{question_id, question, image_id, answers?}]}.

    With TextVQA_Rosetta_OCR_v0.2_*.json, {data: [{image_id, ocr_tokens}]}, if it is there.
    """
    for split, path in by_split(files.need("TextVQA_0.5.1_*.json")).items():
        name = path.name.replace("TextVQA_0.5.1", "TextVQA_Rosetta_OCR_v0.2")
        found = beside(files, path.parent, name)
        take = lambda entry: entry.texts("ocr_tokens", [])
        words = Table(rows(found[0], "data") if found else (), "image_id", take)
        yield from convert(rows(path, "data"), _textvqa_question, files, split, words)


def _textvqa_question(entry: Entry, files: Files, split: str, words: Table) -> Iterator[Record]:
    image_id = entry.text("image_id")
    yield question(
        entry,
        split,
        textvqa_image(files, image_id),
        answers=entry.texts("answers", [] if split == "test" else None),
        ocr=words.get(image_id, []),
        image_id=image_id,
    )


GQA_SPLITS = {
    name: {"val": "validation"}.get(name, name)
    for name in ("train", "val", "testdev", "test", "challenge")
}


def gqa(files: Files, subset: str) -> Iterator[Record | Dropped]:
    """GQA 1.2 (cs.stanford.edu/people/dorarad/gqa).

    {question id: {question, imageId, answer, types: {structural, semantic, detailed}}}. The
    category is 'structural/semantic', by which the official evaluation breaks its figures down
    ('query/attr'). Test and challenge have neither answers nor types.

    Args:
      subset: 'balanced' or 'all'; of the latter, the many files of train are one split.
    """
    for path in files.need(f"*_{subset}_questions*.json"):
        split = GQA_SPLITS.get(path.name.split("_")[0])
        if split is not None:
            yield from convert(rows(path), _gqa_question, files, split)


def _gqa_question(entry: Entry, files: Files, split: str) -> Iterator[Record]:
    types = Entry(entry.name, entry.fields.get("types") or {})
    category = "/".join(types.text(key, "") for key in ("structural", "semantic"))
    image_id = entry.text("imageId")
    yield question(
        entry,
        split,
        files.image(f"images/{image_id}.jpg", f"{image_id}.jpg"),
        answers=entry.texts("answer", [] if split in ("test", "challenge") else None),
        category=category.strip("/"),
        question_id=entry.name,
        image_id=image_id,
    )


OCRVQA_SPLITS = {"1": "train", "2": "validation", "3": "test"}


def ocrvqa(files: Files) -> Iterator[Record | Dropped]:
    """OCR-VQA's dataset.json (ocr-vqa.github.io): {book: {questions, answers, split, genre}}.

    Its splits are numbers (loadDataset.py); questions and answers are parallel lists.
    """
    for path in files.need("dataset.json"):
        yield from convert(rows(path), _ocrvqa_book, files)


def _ocrvqa_book(entry: Entry, files: Files) -> Iterator[Record | Dropped]:
    split = OCRVQA_SPLITS.get(entry.text("split"))
    if split is None:
        raise BadEntry("unknown split")
    questions, answers = entry.items("questions"), entry.items("answers")
    if len(questions) != len(answers):
        raise BadEntry("not one answer per question")
    # The official download names a picture by the book and the ending of its address.
    ending = Path(entry.text("imageURL", "")).suffix or ".jpg"
    names = (f"{entry.name}{ending}", f"{entry.name}.jpg")  # LLaVA has all as .jpg.
    image = files.image(*(f"images/{name}" for name in names), *names)
    values = {"category": entry.text("genre", ""), "image_id": entry.name}
    pairs = (
        (name, {"question": asked, "answer": answer, "question_id": name})
        for (name, asked), (_, answer) in zip(questions, answers)
    )
    yield from convert(pairs, answered, split, image, values)


def answered(entry: Entry, split: str, image: Blob, values: dict) -> Iterator[Record]:
    """The record of an entry that has `answer` too."""
    yield question(entry, split, image, answers=entry.texts("answer"), **values)


def vg_questions(files: Files) -> Iterator[Record | Dropped]:
    """Visual Genome's question_answers.json.

    [{id | image_id, qas: [{qa_id, question, answer}]}]. No splits.
    """
    for path in files.need("question_answers.json"):
        yield from convert(rows(path), _vg_image, files)


def _vg_image(entry: Entry, files: Files) -> Iterator[Record | Dropped]:
    image_id, image = visual_genome_image(entry, files)
    yield from convert(entry.items("qas"), _vg_question, image, image_id)


def _vg_question(entry: Entry, image: Blob, image_id: str) -> Iterator[Record]:
    answers = entry.texts("answer")
    values = {"answers": answers, "question_id": entry.text("qa_id"), "image_id": image_id}
    yield question(entry, "train", image, **values)


def albef_vqa(files: Files) -> Iterator[Record | Dropped]:
    """ALBEF's and BLIP's lists (data/vqa_dataset.py).

    [{image, question, question_id, answer (a text or a list), dataset}]. The category is the
    dataset, 'vqa' or 'vg', by which the papers weight answers. The splits are train, validation
    and test of VQA, and 'vg'. A file as SRC may have another name: LAVIS's lists of other data sets
    have the same form.
    """
    names = ("vqa_train.json", "vqa_val.json", "vqa_test.json", "vg_qa.json")
    paths = files.need(*(("*.json",) if files.root.is_file() else names))
    for split, path in by_split(paths, _albef_split).items():
        yield from convert(rows(path), _albef_question, files, split)


def _albef_split(name: str) -> str:
    return "vg" if name == "vg_qa" else split_of(name)


def _albef_question(entry: Entry, files: Files, split: str) -> Iterator[Record]:
    name = entry.text("image")
    yield question(
        entry,
        split,
        files.image(name),
        answers=entry.texts("answer", [] if split == "test" else None),
        category=entry.text("dataset", "vqa"),
        question_id=entry.text("question_id", entry.name),
        image_id=Path(name).stem,
    )


QUESTIONS = {
    "vqav2": Kind(
        functools.partial(vqa, prefix="v2_", category="answer_type"),
        "questions",
        "v2_OpenEnded_mscoco_*_questions.json, v2_mscoco_*_annotations.json",
    ),
    "okvqa": Kind(
        functools.partial(vqa, prefix="", category="question_type"),
        "questions",
        "OpenEnded_mscoco_*_questions.json, mscoco_*_annotations.json (also VQA v1)",
    ),
    "gqa": Kind(
        functools.partial(gqa, subset="balanced"), "questions", "*_balanced_questions.json of GQA"
    ),
    "gqa_all": Kind(
        functools.partial(gqa, subset="all"), "questions", "*_all_questions*.json of GQA"
    ),
    "vizwiz": Kind(vizwiz, "questions", "VizWiz's train.json, val.json, test.json"),
    "textvqa": Kind(textvqa, "questions", "TextVQA_0.5.1_*.json, and TextVQA_Rosetta_OCR_*.json"),
    "ocrvqa": Kind(ocrvqa, "questions", "OCR-VQA's dataset.json"),
    "vg_questions": Kind(vg_questions, "questions", "Visual Genome's question_answers.json"),
    "albef_vqa": Kind(
        albef_vqa, "questions", "vqa_{train,val,test}.json, vg_qa.json of ALBEF and BLIP"
    ),
}
