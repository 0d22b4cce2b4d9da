# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Instructions: the shipped sets, what is drawn, what is formatted."""

import collections
import json

import numpy as np
import pytest

from jvlm.data import instructions
from jvlm.data.images import BadRecord
from jvlm.data.importers.schemas import SCHEMAS
from jvlm.data.instructions import FOLDER, SHIPPED, boxes_text, load_instructions, tasks
from jvlm.data.transforms import compose
from jvlm.errors import UserError

SETS = [
    f"{file}:{name}"
    for file in SHIPPED
    for name in json.loads((FOLDER / f"{file}.json").read_text())
    if name != "_"
]
EXAMPLE = {
    "id": "q1",
    "question": "What is it?",
    "answers": ["dog", "cat", "dog"],
    "choices": ["fox", "dog", "cow"],
    "label": 1,
    "context": "A farm",
    "ocr": [f"w{i}" for i in range(40)],
    "text": "A dog is left of it.",
    "captions": ["one", "two"],
    "expressions": ["dog on the left"],
    "box": np.array([10.0, 0.0, 99.9, 50.0]),
    "image": np.zeros((50, 100, 3), np.uint8),
    "caption": "A dog and two cats sit.",
    "regions": {
        "end": [5, 18, 18, 0],
        "box": [[0, 0, 100, 50], [50, 25, 75, 50], [0, 0, 1, 1], [9, 9, 9, 9]],
    },
}


def ask(templates, seed=0, example=EXAMPLE, **options):
    step = compose([("instruct", dict(templates=templates, **options))])
    got = step(example, np.random.default_rng(seed))
    return got["prompt"], got["answer"]


@pytest.mark.parametrize("name", SETS)
def test_every_prompt_can_be_filled_in(name):
    found = load_instructions(name)
    options = dict(labels=("no", "yes"), entries=dict(task="Captions", dataset="COCO"))
    for index in range(len(found.prompts)):
        asked, said = ask(name, draw=False, index=index, **options)
        assert said and "{" not in asked + said


def test_the_lists_are_whole():
    count = lambda name: len(load_instructions(name).prompts)
    names = ("instructblip:caption", "instructblip:vqa", "instructblip:vqg", "lavis:vqa")
    assert [count(name) for name in names] == [13, 10, 6, 47]
    assert [count(f"lavis:{name}") for name in ("caption", "classification")] == [53, 20]
    names = ("phrase_to_box", "box_to_phrase", "grounded_caption")
    assert [count(f"cogvlm:{name}") for name in names] == [53, 135, 123]


def test_the_data_sets_of_instructblip():
    held = collections.Counter(task.held for task in tasks().values())
    assert held == {"in": 13, "out": 13}
    assert len({task.group for task in tasks().values()}) == 11
    for task in tasks().values():
        assert task.schema in SCHEMAS and task.decode in ("generate", "rank")
        assert load_instructions(task.templates) if task.templates else "LLaVA" in task.group


def test_for_training_all_is_drawn():
    got = collections.Counter(ask("instructblip:vqa", seed) for seed in range(600))
    assert len(got) == 2 * 10
    answers = collections.Counter()
    for (_, said), times in got.items():
        answers[said] += times
    assert 1.5 < answers["dog"] / answers["cat"] < 2.8
    both = {ask(["instructblip:vqa", "instructblip:caption"], s)[1] for s in range(60)}
    assert both == {"dog", "cat", "one", "two"}
    assert ask("instructblip:vqa", 5) == ask("instructblip:vqa", 5)
    # A question that is asked for is not told.
    asked, said = ask("instructblip:vqg", 3)
    assert said == "What is it?" and said not in asked and ("dog" in asked or "cat" in asked)
    with pytest.raises(BadRecord, match="q1: no answer to 'What"):
        ask("llava:open", example=EXAMPLE | {"answers": [], "choices": []})
    with pytest.raises(BadRecord, match="q1: no answer to"):
        ask("instructblip:vqg", example=EXAMPLE | {"answers": [], "choices": []})


def test_for_evaluation_nothing_is():
    fixed = dict(draw=False)
    assert ask("blip2:vqa", **fixed) == ("Question: What is it? Short answer:", "dog")
    unread = EXAMPLE | {"ocr": []}
    assert ask("instructblip:vqa", index=3, example=unread, **fixed)[0] == "Q: What is it? A:"
    assert ask("blip2:vqa", example=EXAMPLE | {"answers": [], "label": -1}, **fixed)[1] == ""
    assert ask("blip2:vqa", example={"question": "?", "answer": "yes"}, **fixed)[1] == "yes"
    # BLIP's and ALBEF's lists have one name for a text and for several.
    several = {"question": "?", "answer": ["no", "yes", "yes"], "caption": ["one", "two"]}
    assert ask("blip2:vqa", example=several, **fixed)[1] == "yes"
    assert ask("blip2:caption", example=several, **fixed)[1] == "one"
    for wrong in ({"answers": [{"answer": "yes"}]}, {"question": ["?"]}, {"answer": {}}):
        with pytest.raises(BadRecord, match="q1: .* is no (list of texts|text, but)"):
            ask("blip2:vqa", example={"id": "q1", "question": "?", **wrong}, **fixed)
    for index in (1, -2):
        with pytest.raises(UserError, match=f"index {index}, but blip2:vqa has 1 prompts"):
            ask("blip2:vqa", index=index, **fixed)


def test_formats():
    fixed = dict(draw=False)
    options = "(a) fox (b) dog (c) cow"
    want = f"Context: A farm Question: What is it? Options: {options}. Answer:"
    assert ask("instructblip:eval_scienceqa", **fixed) == (want, "dog")
    want = (
        "A farm\nWhat is it?\nA. fox\nB. dog\nC. cow\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert ask("llava:choice", **fixed) == (want, "B")
    assert ask("llava:choice", example=EXAMPLE | {"context": ""}, **fixed)[0] == want[7:]
    want = "Context: N/A\nQuestion: What is it?\nOptions: (A) fox (B) dog (C) cow\nAnswer with"
    asked, said = ask("llava:scienceqa", example=EXAMPLE | {"context": ""}, **fixed)
    assert asked.startswith(want) and said == "B"
    for count in (0, 27):
        with pytest.raises(BadRecord, match=f"q1: {count} choices where letters are for 1 to 26"):
            ask("llava:choice", example=EXAMPLE | {"choices": ["x"] * count}, **fixed)
    asked = ask("instructblip:eval_ocr", **fixed)[0]
    assert "w29. Question" in asked and asked.startswith("OCR tokens: w0, w1, ")
    assert ask("instructblip:vqa", **fixed)[0].endswith(", w29. What is it?")
    assert "w39\n" in ask("llava:ocr", **fixed)[0]
    want = 'This is an image with: "A dog is left of it." written on it. Is it hateful? Answer:'
    assert ask("instructblip:eval_hateful_memes", labels=("no", "yes"), **fixed) == (want, "yes")
    assert ask("instructblip:lavis_visdial", **fixed)[0] == "dialog history: A farm\nWhat is it?"
    names = dict(task="Visual question answering", dataset="VQAv2")
    asked = ask("instructblip:tagged_vqa", entries=names, **fixed)[0]
    assert asked == "[Visual question answering:VQAv2] What is it?"
    # LAVIS lower-cases, and 'Question?' in '{question}?' ends with one mark.
    assert ask("lavis:vqa", index=4, **fixed)[0] == "how would you answer what is it?"


def test_boxes():
    fixed = dict(draw=False)
    assert ask("cogvlm:where", **fixed) == ("Where is the dog on the left?", "[[100,000,999,999]]")
    caption = ask("cogvlm:grounded_caption", **fixed)[1]
    boxes = "[[500,500,750,999;000,000,010,020]]"
    assert caption == f"A dog [[000,000,999,999]] and two cats {boxes} sit."
    assert boxes_text(np.array([-3.0, 0.0, 20.0, 10.0]), 20, 10) == "[[000,000,999,999]]"
    with pytest.raises(UserError, match="put decode_image before it"):
        ask("cogvlm:where", example=EXAMPLE | {"image": b""}, **fixed)
    small = EXAMPLE | {"image": np.zeros((25, 50, 3), np.uint8)}
    for templates in ("cogvlm:where", "cogvlm:grounded_caption"):
        with pytest.raises(BadRecord, match="q1: a box ends at .* put instruct before steps that"):
            ask(templates, example=small, **fixed)


def test_instructions_go_on_to_a_language_model():
    from tests.data.test_language import Letters

    steps = [
        ("instruct", dict(templates="llava:open", draw=False)),
        ("language", dict(prompt="{prompt}", text="{answer}")),
    ]
    row = compose(steps, tokenizer=Letters(False))({"question": "ab", "answers": ["c"]}, None)
    assert row["labels"].tolist() == [-1, -1, -1, 12, 1, -1, -1, -1]


def test_sets_of_ones_own(tmp_path):
    path = tmp_path / "my.json"
    path.write_text(json.dumps({"short": {"prompts": ["{question} In a word:"]}}))
    assert ask(f"{path}:short", draw=False) == ("What is it? In a word:", "dog")
    for content, name, message in (
        ({"a": {"prompt": []}}, "a", "Did you mean 'prompts'"),
        ({"b": {"prompts": []}}, "b", "prompts is to be a list, not empty"),
        ({"c": {"prompts": ["{question"]}}, "c", "cannot be filled in"),
        ({"c": {"prompts": ["{}"]}}, "c", "cannot be filled in"),
        ({"c": {"prompts": ["{question.x}"]}}, "c", "cannot be filled in"),
        ({"c": {"prompts": ["x"], "before": ["{ocr}"]}}, "c", "cannot be filled in"),
        ({"c": {"prompts": ["x"], "max_ocr": "3"}}, "c", "max_ocr is '3': give a number"),
        ({"d": {"prompts": ["x"], "option": "{z}"}}, "d", "cannot be filled in"),
        ({"short": {}}, "shrt", "Did you mean 'short'"),
        ([], "e", "no file of instructions"),
    ):
        path.write_text(json.dumps(content))
        instructions.load_instructions.cache_clear()
        with pytest.raises(UserError, match=message):
            load_instructions(f"{path}:{name}")
    with pytest.raises(UserError, match="Did you mean 'instructblip'"):
        load_instructions("instructblp:vqa")
    path.write_text(json.dumps({"a": {"prompts": ["{nothing}"]}, "b": {"prompts": ["{label}"]}}))
    with pytest.raises(UserError, match="instruct: no 'nothing' in the example"):
        ask(f"{path}:a")
    with pytest.raises(UserError, match="give labels"):
        ask(f"{path}:b")
    with pytest.raises(UserError, match="label 1, but 1 labels"):
        ask(f"{path}:b", labels=["x"])
