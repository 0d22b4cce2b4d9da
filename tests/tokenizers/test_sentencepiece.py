# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""SentencePiece: training, padding, truncation, storage."""

import pickle

import numpy as np
import pytest

from jvlm.errors import UserError
from jvlm.tokenizers import build_tokenizer
from jvlm.tokenizers.sentencepiece import EOS, PAD, SentencePiece

TEXTS = [f"a {c} {d}" for c in ("red", "green", "blue") for d in ("one", "two", "seven")] * 5


@pytest.fixture(scope="module")
def tokenizer():
    return SentencePiece.train(TEXTS, vocab_size=64, max_len=6, model_type="bpe")


def test_ids(tokenizer):
    ids, mask = tokenizer(["a red seven", "a red one and a very long text indeed", ""])
    assert ids.dtype == np.int32 and ids.shape == mask.shape == (3, 6)
    assert tokenizer.decode(ids[0]) == "a red seven"
    assert (ids[1] != PAD).all() and ids[1, -1] == EOS  # Truncated, still ended.
    assert ids[2].tolist() == [EOS] + [PAD] * 5
    np.testing.assert_array_equal(mask, ids != PAD)
    assert ids.max() < tokenizer.vocab_size <= 64


def test_training_is_reproducible(tokenizer):
    again = SentencePiece.train(TEXTS, vocab_size=64, max_len=6, model_type="bpe")
    assert again._model == tokenizer._model


def test_storage(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer")
    for other in (
        SentencePiece.load(tmp_path / "tokenizer"),
        pickle.loads(pickle.dumps(tokenizer)),
    ):
        np.testing.assert_array_equal(other(TEXTS)[0], tokenizer(TEXTS)[0])


def test_a_stored_tokenizer_is_not_trained_again(tmp_path):
    section = {"kind": "sentencepiece", "vocab_size": 64, "max_len": 6, "train_on": ("captions",)}
    first = build_tokenizer(section, tmp_path / "t", TEXTS)

    def forbidden():
        raise AssertionError("trained again")
        yield

    second = build_tokenizer(section, tmp_path / "t", forbidden())
    assert first._model == second._model


@pytest.mark.parametrize(
    "section, message",
    [
        ({"kind": "sentencpiece"}, "Did you mean 'sentencepiece'"),
        ({"kind": "sentencepiece", "vocab": 3}, "Did you mean 'vocab_size'"),
        ({"kind": "sentencepiece", "vocab_size": 4, "max_len": 6}, "cannot be trained"),
    ],
)
def test_bad_sections_are_named(section, message, tmp_path):
    with pytest.raises(UserError, match=message) as error:
        build_tokenizer(section, tmp_path / "t", TEXTS)
    assert "\n" not in str(error.value) and not (tmp_path / "t").exists()
