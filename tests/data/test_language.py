# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Rows for language models: what is learned, what is only read, what is cut."""

import numpy as np
import pytest

from jvlm.data.images import BadRecord
from jvlm.data.transforms import compose
from jvlm.errors import UserError
from jvlm.tokenizers.base import Base


class Letters(Base):
    """'a' is 10, 'b' is 11 ...; decoders' texts start with 3, encoders' end with 1."""

    vocab_size, pad_id, eos_id, bos_id = 40, 0, 1, 3

    def __init__(self, encoder: bool):
        super().__init__({}, max_len=8)
        self._start, self._end = ([], [1]) if encoder else ([3], [])

    def pieces(self, text):
        return [ord(letter) - ord("a") + 10 for letter in text if letter.isalpha()]


def row(example, seed=0, *, encoder=False, **options):
    steps = [("language", dict(encoder_decoder=encoder, **options))]
    keep = ("keep", dict(keys=("text", "text_mask", "labels")))
    chain = compose([*steps, keep], tokenizer=Letters(encoder))
    return chain(example, np.random.default_rng(seed))


def check(got, text, labels):
    assert got["text"].tolist() == text and got["labels"].tolist() == labels
    assert got["text_mask"].tolist() == [id != 0 for id in text]
    assert got["text"].dtype == got["labels"].dtype == np.int32


def test_a_text():
    got = row({"caption": "abc"}, text="{caption}")
    check(got, [3, 10, 11, 12, 1, 0, 0, 0], [3, 10, 11, 12, 1, -1, -1, -1])
    # A text that is cut does not end.
    check(row({"caption": "a" * 9}, text="{caption}"), [3, *[10] * 7], [3, *[10] * 7])


def test_an_answer_behind_a_prompt():
    example = {"qa": {"question": "ab", "answer": "c"}, "x": ["d"]}
    options = dict(prompt="{qa[question]}", text="{qa[answer]}{x[0]}")
    check(row(example, **options), [3, 10, 11, 12, 13, 1, 0, 0], [-1, -1, -1, 12, 13, 1, -1, -1])
    check(row(example, max_len=4, **options), [3, 10, 11, 12], [-1, -1, -1, 12])
    with pytest.raises(BadRecord, match="3 tokens hold the prompt 'ab' and nothing of 'cd'"):
        row(example, max_len=3, **options)


def test_an_encoder_reads_the_prompt():
    example = {"question": "abc", "answer": "d"}
    options = dict(prompt="{question}", text="{answer}", encoder=True)
    check(row(example, max_len=5, target_len=3, **options), [10, 11, 12, 1, 0], [13, 1, -1])
    # What is read still ends where it is cut.
    assert row(example, max_len=3, **options)["text"].tolist() == [10, 11, 1]
    assert row({**example, "question": ""}, **options)["text"].tolist() == [1, *[0] * 7]
    with pytest.raises(UserError, match="needs a prompt"):
        row(example, text="{answer}", encoder=True)


def test_one_of_several_templates_is_drawn():
    example = {"a": "a", "b": "b"}
    options = dict(prompt=(None, "{a}"), text=("{a}", "{b}"))
    labels = {tuple(row(example, seed, **options)["labels"][:4]) for seed in range(20)}
    assert labels == {(3, 10, 1, -1), (-1, -1, 11, 1)}
    with pytest.raises(UserError, match="2 texts and 1 prompts"):
        row(example, prompt=("{a}",), text=("{a}", "{b}"))
    with pytest.raises(UserError, match="language: no 'c' in the example"):
        row(example, text="{c}")


def test_answers_weigh_by_their_share():
    keys = ("candidates", "candidates_mask", "answer_weight")
    given = {"qa": {"answers": ["b", "aaaaaaa", "b", "c"], "answer": "a"}}

    def answers(example=given, **options):
        steps = [("answers", options), ("keep", dict(keys=keys))]
        row = compose(steps, tokenizer=Letters(False))(example, np.random.default_rng(0))
        return [row[key].tolist() for key in keys]

    ids, mask, shares = answers(key="qa/answers", count=4, max_len=4, weight=0.5)
    assert ids == [[11, 1, 0, 0], [10, 10, 10, 1], [12, 1, 0, 0], [0] * 4]
    assert mask == [[id != 0 for id in row] for row in ids]
    assert shares == [0.25, 0.125, 0.125, 0]
    ids, _, shares = answers(key="qa/answers", count=2, max_len=2)
    assert ids == [[11, 1], [10, 1]] and shares == [0.5, 0.25]
    assert answers(key="qa/answer", count=1, max_len=3) == [
        [[10, 1, 0]],
        [[True, True, False]],
        [1],
    ]
    with pytest.raises(BadRecord, match="no answer in 'qa'"):
        answers({"qa": []}, key="qa")


def test_a_text_is_split_before_a_word():
    step = ("split_text", dict(key="caption", before="start", behind="rest"))
    parts = set()
    for seed in range(30):
        out = compose([step])({"caption": "a red one"}, np.random.default_rng(seed))
        parts.add((out["start"], out["rest"]))
    assert parts == {("", "a red one"), ("a", "red one"), ("a red", "one")}


def test_one_entry_of_a_group_of_lists():
    example = {"questions": {"question": ["q1", "q2"], "answer": ["a1", "a2"]}}
    first = compose([("first", dict(key="questions", out="qa"))])(example, None)["qa"]
    assert first == {"question": "q1", "answer": "a1"}
    choose = compose([("choose", dict(key="questions", out="qa"))])
    drawn = [choose(example, np.random.default_rng(seed))["qa"] for seed in range(20)]
    assert {(qa["question"], qa["answer"]) for qa in drawn} == {("q1", "a1"), ("q2", "a2")}


@pytest.mark.parametrize("step", ["choose", "first"])
@pytest.mark.parametrize("value", [[], {"question": [], "answer": []}, {}])
def test_a_record_without_any_is_a_bad_one(step, value):
    """A picture whose captions are hidden: the run takes another one, and says so."""
    chain = compose([(step, dict(key="captions", out="caption"))])
    with pytest.raises(BadRecord, match="x: 'captions' is empty"):
        chain({"id": "x", "captions": value}, np.random.default_rng(0))


def test_an_entry_of_what_has_none():
    step = ("label", dict(key="caption/color", names=("red",)))
    with pytest.raises(UserError, match="label: no 'caption/color' in the example"):
        compose([step])({"caption": "red"}, None)


def test_join():
    steps = [("join", dict(key="lines", separator="|", out="poem"))]
    assert compose(steps)({"lines": ["one", "two"]}, None)["poem"] == "one|two"
