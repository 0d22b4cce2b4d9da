# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Conversations about pictures, and instructions with their answers."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jvlm.data.importers.annotations import (
    BadEntry,
    Entry,
    by_split,
    coco_names,
    convert,
    list_or_lines,
    rows,
)
from jvlm.data.importers.choices import choose
from jvlm.data.importers.files import PICTURES, Files, split_of
from jvlm.data.importers.json_entries import read_entries
from jvlm.data.importers.records import Dropped, Kind, Record


def visdial(files: Files) -> Iterator[Record | Dropped]:
    """VisDial's visdial_1.0_{train,val,test}.json (visualdialog.org): a record per round.

    {data: {questions, answers, dialogs: [{image_id, caption, dialog: [{question, answer,
    answer_options, gt_index}]}]}}, the last four by place in the lists. The context is the caption
    and the rounds before, as LAVIS writes them (' q: ... a: ...', visdial_dialogue_datasets.py).
    Of a test dialogue only the last round has options, and is a record; it has no answer.
    """
    names = [f"visdial_1.0_{split}.json" for split in ("train", "val", "test")]
    for split, path in by_split(files.need(*names)).items():
        texts = [
            [text for _, text in read_entries(path, "data", key)]
            for key in ("questions", "answers")
        ]
        yield from convert(rows(path, "data", "dialogs"), _dialogue, files, split, *texts)


def _dialogue(
    entry: Entry, files: Files, split: str, questions: list, answers: list
) -> Iterator[Record]:
    image_id = entry.number("image_id")
    folder = f"VisualDialog_{'val' if split == 'validation' else split}2018"
    names = [f"{folder}/{folder}_{image_id:012}.jpg", f"{folder}_{image_id:012}.jpg"]
    if split == "train":  # Only these are COCO's: elsewhere its numbers would name others.
        names += coco_names(image_id, "train2014", "val2014")
    image = files.image(*names)
    context = [entry.text("caption")]
    for number, turn in enumerate(entry.entries("dialog"), 1):
        asked = _at(questions, turn.number("question"), "question")
        options = turn.items("answer_options", [])
        options = [_at(answers, place, "answer") for _, place in options]
        said = turn.fields.get("answer")
        said = said if said is None else _at(answers, said, "answer")
        values = {
            "question": asked,
            "context": " ".join(context),
            "question_id": f"{image_id}:{number}",
            "image_id": str(image_id),
            "answers": [] if said is None else [said],
        }
        if options:
            label = turn.fields.get("gt_index")
            values = choose(options, label, known=split != "test") | values
        if options or split != "test":
            yield Record(split, f"{image_id}:{number}", values, (image,))
        context.append(f"q: {asked} a: {said}")


def _at(texts: list, place: Any, what: str) -> str:
    if not isinstance(place, int) or not 0 <= place < len(texts):
        raise BadEntry(f"{what} is not one of the list")
    if not isinstance(texts[place], str):
        raise BadEntry(f"{what} is not text")
    return texts[place]


ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}


def llava(files: Files) -> Iterator[Record | Dropped]:
    """LLaVA's instruction lists (docs/Finetune_Custom_Data.md), one file per split.

    [{id, image?, conversations: [{from: human | gpt, value}]}]; several pictures are a list; a row
    without one is text only. A first turn of the assistant is left out; then the roles alternate
    (train.py, preprocess_v1). Every picture needs its '<image>' in a turn, and every
    '<image>' its picture.
    """
    for split, path in by_split(files.need("*.json", "*.jsonl")).items():
        yield from convert(list_or_lines(path), _conversation, files, split)


def _conversation(entry: Entry, files: Files, split: str) -> Iterator[Record]:
    images = entry.texts("image", [])
    turns = []
    for turn in entry.entries("conversations"):
        role, text = turn.text("from"), turn.text("value")
        if role not in ROLES:
            raise BadEntry("turn from an unknown role")
        turns.append({"role": ROLES[role], "text": text})
    if turns and turns[0]["role"] == "assistant":
        turns = turns[1:]
    if not any(turn["role"] == "assistant" for turn in turns):
        raise BadEntry("no turn from gpt")
    said = [turn["role"] for turn in turns if turn["role"] != "system"]
    if any(role == after for role, after in itertools.pairwise(said)):
        raise BadEntry("turns that do not alternate")
    slots = sum(turn["text"].count("<image>") for turn in turns)
    if slots != len(images):
        raise BadEntry("not one '<image>' per picture")
    name = entry.text("id", entry.name)
    yield Record(split, name, {"turns": turns}, tuple(files.image(image) for image in images))


def instructions(files: Files) -> Iterator[Record | Dropped]:
    """InstructBLIP's triples, as LAVIS's instruct data sets give them, one file per split.

    [{image, text_input, text_output}], a JSON list or JSON lines.
    """
    for split, path in by_split(files.need("*.json", "*.jsonl")).items():
        yield from convert(list_or_lines(path), _instruction, files, split)


def _instruction(entry: Entry, files: Files, split: str) -> Iterator[Record]:
    values = {"prompt": entry.text("text_input", ""), "answer": entry.text("text_output")}
    yield Record(split, entry.name, values, (files.image(entry.text("image")),))


def named_pictures(files: Files) -> Iterator[Record]:
    """CogVLM's CAPTCHA folders: pictures called by their text (finetune_demo, utils/dataset.py).

    The answer is the name up to the first dot; the split is the folder's (train, valid, test).
    """
    for path in files.need(*(f"*{ending}" for ending in PICTURES)):
        name = os.path.relpath(path, files.folder)
        values = {"prompt": "CAPTCHA:", "answer": path.name.split(".")[0]}
        yield Record(split_of(Path(name).parent.name), name, values, (files.image(name),))


DIALOGUE = {
    "visdial": Kind(visdial, "questions", "visdial_1.0_{train,val,test}.json"),
    "llava": Kind(llava, "conversations", "LLaVA's JSON list of conversations, text-only rows too"),
    "instructions": Kind(
        instructions, "instructions", "JSON list or lines of image, text_input, text_output"
    ),
    "captcha": Kind(
        named_pictures,
        "instructions",
        "folders train, valid, test of pictures called by their text",
    ),
}
