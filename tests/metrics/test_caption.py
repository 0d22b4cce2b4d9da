# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Caption metrics against the stored outputs of pycocoevalcap (tests/parity/make_metrics.py)."""

import json
import pathlib

import numpy as np
import pytest

from jvlm.errors import UserError
from jvlm.metrics.caption import bleu, caption_scores, cider_d, rouge_l
from jvlm.metrics.ptb import tokenize

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
FILE = GOLDEN / "metrics_caption.json"


@pytest.fixture(scope="module")
def golden():
    return json.loads(FILE.read_text(encoding="utf-8"))


def test_tokens(golden):
    assert tokenize(golden["predictions"]) == golden["prediction_tokens"]
    flat = [caption for captions in golden["references"] for caption in captions]
    assert tokenize(flat) == [text for texts in golden["reference_tokens"] for text in texts]


def test_hard_tokens():
    """What the Java program makes of some 1,600 contractions, numbers, addresses, faces, signs."""
    hard = json.loads((GOLDEN / "metrics_ptb.json").read_text(encoding="utf-8"))
    captions = [line for caption in hard["captions"] for line in (caption, "The x")]
    for caption, want, got in zip(hard["captions"], hard["tokens"], tokenize(captions)[::2]):
        assert got == want, caption


def test_each_score(golden):
    tokens = golden["prediction_tokens"], golden["reference_tokens"]
    assert len(tokens[0]) >= 500
    np.testing.assert_allclose(rouge_l(*tokens), golden["each_rouge_l"], atol=1e-7)
    np.testing.assert_allclose(cider_d(*tokens), golden["each_cider"], atol=1e-7)
    np.testing.assert_allclose(bleu(*tokens), golden["bleu"], rtol=1e-9)


def test_from_plain_captions(golden):
    scores = caption_scores(golden["predictions"], golden["references"])
    want = {f"bleu{n}": value for n, value in enumerate(golden["bleu"], 1)}
    want |= {key: golden[key] for key in ("rouge_l", "cider")}
    assert scores == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize(
    "caption, tokens",
    [
        ("A man's dog doesn't run.", "a man 's dog does n't run"),
        ("They cannot, won't and gonna", "they can not wo n't and gon na"),
        ('A "red" sign (small)', "a red sign -lrb- small -rrb-"),
        ("Wait... what?! No -- yes", "wait what ?! no yes"),
        ("Mr. Smith of the U.S. at 5 p.m. etc.", "mr. smith of the u.s. at 5 p.m. etc."),
        ("5'x6' or 1,000.5 at 10:30, 50%", "5 x6 or 1,000.5 at 10:30 50 %"),
        ("a black-and-white t-shirt and/or hat", "a black-and-white t-shirt and/or hat"),
        ("the 1 1/2 cups", "the 1\xa01/2 cups"),
        ("two\nlines", "two lines"),
        ("", ""),
    ],
)
def test_tokens_by_hand(caption, tokens):
    assert tokenize([caption]) == [tokens]


def test_a_caption_is_read_with_the_next():
    assert tokenize(["plan b.", "A dog"]) == ["plan b", "a dog"]
    assert tokenize(["plan b.", "two dogs"]) == ["plan b.", "two dogs"]


def test_right_captions_and_empty_ones():
    references = [["a red dog runs here"], ["two cats sleep on mats"]]
    scores = caption_scores([captions[0] for captions in references], references)
    assert scores["bleu4"] == pytest.approx(1) and scores["cider"] == pytest.approx(10)
    assert max(caption_scores(["", ""], references).values()) < 1e-9


def test_errors():
    with pytest.raises(UserError, match="1 captions for 2 images"):
        caption_scores(["a"], [["a"], ["b"]])
    with pytest.raises(UserError, match="image 1"):
        caption_scores(["a", "b"], [["a"], []])
