# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a model is asked: instructions of the papers, and of the user's own files, as data.

A file is an object of sets, `{name: {"prompts": [...], ...}}`; see `Instructions` for its fields.
"""

import dataclasses
import functools
import json
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jvlm.config import construct
from jvlm.data.images import BadRecord
from jvlm.errors import UserError, did_you_mean

FOLDER = Path(__file__).parent
SHIPPED = ("blip2", "cogvlm", "instructblip", "lavis", "llava")


@dataclasses.dataclass(frozen=True)
class Instructions:
    """A set of instructions for one kind of task.

    '{name}' is an entry of the example (question, context, text, ...) or one of: {answer} and
    {caption}, {expression} (one of several), {choice} and {letter} (the right one), {options} (all
    choices), {ocr}, {label} (its name), {box} and {grounded_caption} (with boxes as CogVLM writes
    them; before any step that changes the image).

    Attributes:
      prompts: what is asked.
      answer: what is to be said.
      option: a choice, from {choice} and {a} or {A}, its letter.
      join: what is between choices.
      before: entry -> text in front of the prompt where the example's entry is not empty.
      empty: entry -> what '{entry}' is where the example's is empty.
      max_ocr: words of {ocr}, which commas separate.
      lower: lower case, '??' as '?', no space around (LAVIS's blip_instruction).
    """

    prompts: tuple[str, ...]
    answer: str = "{answer}"
    option: str = "({a}) {choice}"
    join: str = " "
    before: Mapping[str, str] = dataclasses.field(default_factory=dict)
    empty: Mapping[str, str] = dataclasses.field(default_factory=dict)
    max_ocr: int | None = None
    lower: bool = False


@dataclasses.dataclass(frozen=True)
class Task:
    """A data set of InstructBLIP.

    Attributes:
      group: of tasks, one of eleven.
      held: 'in', trained on, or 'out', only evaluated.
      schema: key of `data.importers.schemas.SCHEMAS`.
      templates: for `instruct`; empty for conversations.
      metric: as the paper reports it.
      decode: 'generate', or 'rank' given answers.
    """

    group: str
    held: str
    schema: str
    templates: str
    metric: str
    decode: str


def tasks() -> dict[str, Task]:
    """The 26 data sets of InstructBLIP, 13 of them held in."""
    stored = json.loads((FOLDER / "datasets.json").read_text(encoding="utf-8"))
    return {name: Task(**fields) for name, fields in stored.items() if name != "_"}


@functools.lru_cache
def load_instructions(name: str) -> Instructions:
    """A set by name.

    Args:
      name: 'instructblip:vqa', a shipped file and its set, or 'FILE.json:SET' of the user's.

    Raises:
      UserError: unknown set or field, unreadable file.
    """
    file, _, own = name.rpartition(":")
    if file in SHIPPED:
        path = FOLDER / f"{file}.json"
    elif file.endswith(".json"):
        path = Path(file)
    else:
        hint = did_you_mean(file, SHIPPED)
        raise UserError(f"instructions {name!r}: give FILE:SET, a shipped file or a .json.{hint}")
    try:
        sets = json.loads(path.read_text(encoding="utf-8"))
        sets = {key: dict(value) for key, value in sets.items() if key != "_"}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: no file of instructions: {error}") from None
    if own not in sets:
        raise UserError(f"{path}: no set {own!r}.{did_you_mean(own, sets)}")
    found = construct(Instructions, sets[own], where=f"{path}:{own}")
    if isinstance(found.prompts, str) or not found.prompts:
        raise UserError(f"{path}:{own}: prompts is to be a list, not empty")
    if not isinstance(found.max_ocr, int | None):
        raise UserError(f"{path}:{own}: max_ocr is {found.max_ocr!r}: give a number of words")
    try:
        texts = [*found.prompts, found.answer, *found.before.values(), *found.empty.values()]
        for text in texts:
            text.format_map(defaultdict(str))
        found.option.format(a="a", A="A", choice="")
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(f"{path}:{own}: a template that cannot be filled in: {error}") from None
    return found


def instruct(
    example,
    rng,
    *,
    templates: str | Sequence[str],
    draw: bool = True,
    index: int = 0,
    labels: Sequence[str] = (),
    entries: Mapping[str, str] | None = None,
    prompt: str = "prompt",
    answer: str = "answer",
) -> dict[str, Any]:
    """An example -> what is asked and what is to be answered, two texts.

    Args:
      templates: set or sets of instructions, see `load_instructions`.
      draw: for training: prompt, answer, caption and expression are drawn, an answer as often as
        annotators gave it. Otherwise the prompt `index`, the most frequent answer (the first of
        equals) and the first of captions and expressions: for evaluation.
      index: which prompt, where none is drawn.
      labels: names of the entry `label`, such as ('false', 'true').
      entries: more of them, the same for all examples, such as a data set's name.
      prompt, answer: the entries that are made.

    Raises:
      BadRecord: training, and there is no answer; no choices, or more than there are letters; a box
        outside the image.
      UserError: unknown set, or no prompt `index`.
    """
    sets = [load_instructions(name) for name in _list(templates)]
    pairs = [(found, text) for found in sets for text in found.prompts]
    if not draw and not 0 <= index < len(pairs):
        raise UserError(f"data: instruct: index {index}, but {templates} has {len(pairs)} prompts")
    found, text = pairs[int(rng.integers(len(pairs))) if draw else index]
    example = {**example, **(entries or {})}
    fields = _Fields(example, found, rng if draw else None, labels)
    asked = [form.format_map(fields) for key, form in found.before.items() if example.get(key)]
    asked = "".join(asked) + text.format_map(fields)
    said = found.answer.format_map(fields)
    if draw and not (said.strip() and fields.get("answer", said)):  # Also one to be asked about.
        raise BadRecord(f"{example.get('id', 'an example')}: no answer to {asked!r}")
    if found.lower:
        asked = asked.lower().replace("??", "?").strip()
    return {prompt: asked, answer: said}


def boxes_text(boxes: np.ndarray, width: int, height: int) -> str:
    """'[[012,034,567,890;...]]': boxes as CogVLM says them, in 1/1000 of the image's sides.

    Args:
      boxes: float[N, 4], x0, y0, x1, y1 in pixels.
      width, height: of the image, in pixels.
    """
    sides = np.array([width, height, width, height])
    shares = (np.asarray(boxes).reshape(-1, 4) * 1000 / sides).astype(int).clip(0, 999)
    return f"[[{';'.join(','.join(f'{n:03d}' for n in box) for box in shares)}]]"


class _Fields(dict):
    """What templates are filled from. What is drawn is drawn once."""

    def __init__(self, example: Mapping, found: Instructions, rng, labels: Sequence[str]):
        super().__init__()
        self.example, self.found, self.rng, self.labels = example, found, rng, labels

    def __missing__(self, name: str) -> str:
        value = _MAKERS[name](self) if name in _MAKERS else self.text(name)
        self[name] = value or self.found.empty.get(name, "")
        return self[name]

    def bad(self, reason: str) -> BadRecord:
        return BadRecord(f"{self.example.get('id', 'an example')}: {reason}")

    def text(self, key: str) -> str:
        value = self.example[key]
        if not isinstance(value, str | int | float | np.number):
            raise self.bad(f"{key} is no text, but {type(value).__name__}")
        return str(value)

    def one_of(self, key: str) -> str:
        """A text, or of a list one that is drawn, or the most frequent; '' of none."""
        values = self.example[key]
        if not isinstance(values, list | tuple):
            return self.text(key)
        if not all(isinstance(value, str) for value in values):
            raise self.bad(f"{key} is no list of texts")
        if not values:
            return ""
        if self.rng is not None:
            return values[int(self.rng.integers(len(values)))]
        return Counter(values).most_common(1)[0][0]

    def answer(self) -> str:
        if "answers" not in self.example:
            return self.one_of("answer")
        return self.one_of("answers") or self.choice()

    def choice(self) -> str:
        choices, label = self.example.get("choices", ()), int(self.example.get("label", -1))
        return choices[label] if 0 <= label < len(choices) else ""

    def letter(self) -> str:
        letters = string.ascii_uppercase if "{A}" in self.found.option else string.ascii_lowercase
        label = int(self.example["label"])
        return letters[label] if 0 <= label < len(self.choices()) else ""

    def choices(self) -> Sequence[str]:
        """What has letters."""
        choices = self.example["choices"]
        if not 0 < len(choices) <= len(string.ascii_lowercase):
            raise self.bad(f"{len(choices)} choices where letters are for 1 to 26")
        return choices

    def options(self) -> str:
        letters = zip(string.ascii_lowercase, string.ascii_uppercase, self.choices())
        option = self.found.option.format
        return self.found.join.join(option(a=a, A=A, choice=text) for a, A, text in letters)

    def ocr(self) -> str:
        return ", ".join(self.example["ocr"][: self.found.max_ocr])

    def label(self) -> str:
        label = self.example["label"]
        if not self.labels:
            raise UserError("data: instruct: give labels, the names of the entry 'label'")
        if int(label) >= len(self.labels):
            raise UserError(f"data: instruct: label {label}, but {len(self.labels)} labels")
        return self.labels[int(label)] if int(label) >= 0 else ""

    def box(self) -> str:
        return self.boxes([self.example["box"]])

    def grounded_caption(self) -> str:
        text, regions = self.example["caption"], self.example["regions"]
        places: dict[int, list] = {}
        for end, box in zip(regions["end"], regions["box"]):
            if end:
                places.setdefault(int(end), []).append(box)
        for end in sorted(places, reverse=True):
            text = f"{text[:end]} {self.boxes(places[end])}{text[end:]}"
        return text

    def boxes(self, boxes: Sequence) -> str:
        """Their text; the image must still be as it was annotated."""
        image = self.example["image"]
        if not isinstance(image, np.ndarray):
            raise UserError("data: instruct: boxes need the image: put decode_image before it")
        height, width = image.shape[:2]
        right, below = np.max(boxes, 0)[2:]
        if right > width + 1 or below > height + 1:  # Rounded, or of another image.
            raise self.bad(
                f"a box ends at {right:g}, {below:g} and the image at {width}, {height}: put "
                "instruct before steps that resize or crop"
            )
        return boxes_text(np.array(boxes), width, height)


_MAKERS: dict[str, Callable[[_Fields], str]] = {
    "answer": _Fields.answer,
    "box": _Fields.box,
    "caption": lambda self: self.one_of("captions" if "captions" in self.example else "caption"),
    "choice": _Fields.choice,
    "expression": lambda self: self.one_of("expressions"),
    "grounded_caption": _Fields.grounded_caption,
    "label": _Fields.label,
    "letter": _Fields.letter,
    "ocr": _Fields.ocr,
    "options": _Fields.options,
}


def _list(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value
