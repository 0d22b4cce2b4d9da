# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which characters an id stands for."""

import numpy as np
import pytest

from jvlm.errors import UserError
from jvlm.tokenizers.sentencepiece import SentencePiece
from jvlm.tokenizers.wordpiece import WordPiece
from tests.tokenizers.test_language_models import AWKWARD, MAKE, TEXTS, llama_folder

SAMPLES = [*TEXTS[:2], "", " the red", "x</s>red</s> two", "  ", AWKWARD, "\nthe\ttwo  "]


@pytest.fixture(params=MAKE)
def tokenizer(request, tmp_path):
    return MAKE[request.param](tmp_path)


@pytest.mark.parametrize("text", SAMPLES)
def test_ids_are_those_of_encode_and_spans_cover_the_text(tokenizer, text):
    for options in ({}, dict(end=True), dict(start=False, end=False)):
        ids, spans = tokenizer.encode_with_offsets(text, **options)
        assert ids == tokenizer.encode(text, **options)
        assert spans.shape == (len(ids), 2) and spans.dtype == np.int32
    assert (spans[:, 0] <= spans[:, 1]).all() and (np.diff(spans.ravel()[::2]) >= 0).all()
    covered = {place for first, last in spans for place in range(first, last)}
    # Spaces may belong to no id: T5 drops them.
    assert all(text[place].isspace() for place in set(range(len(text))) - covered)


def test_the_space_before_a_word_belongs_to_it(tokenizer):
    ids, spans = tokenizer.encode_with_offsets("the digit is", start=False, end=False)
    last = tokenizer.pieces("the digit")
    assert spans[len(last) - 1, 1] == len("the digit")
    assert spans[len(last), 0] == len("the digit")


def test_bytes_of_one_character_share_it(tmp_path):
    tokenizer = llama_folder(tmp_path)
    ids, spans = tokenizer.encode_with_offsets("red👍two", start=False)
    assert sum((span == [3, 4]).all() for span in spans) == 4
    assert [1, 5] in tokenizer.encode_with_offsets("x</s>red")[1].tolist()


def test_what_has_no_offsets(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "##dish", "."]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    ids, spans = WordPiece.read(tmp_path / "vocab.txt", 8).encode_with_offsets("Reddish red.")
    assert ids == [2, 5, 6, 5, 7, 3]
    assert spans.tolist() == [[0, 0], [0, 3], [3, 7], [8, 11], [11, 12], [12, 12]]
    with pytest.raises(UserError, match="wordpiece cannot say"):
        WordPiece.read(tmp_path / "vocab.txt", 8, rules="google").encode_with_offsets("red")
    tokenizer = SentencePiece.make(TEXTS, 8, vocab_size=60, clean="lower")
    with pytest.raises(UserError, match="clean='lower' changes a text"):
        tokenizer.encode_with_offsets("red")
