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
    assert again._files == tokenizer._files


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
    assert first._files == second._files


@pytest.mark.parametrize(
    "section, message",
    [
        ({"kind": "sentencpiece"}, "Did you mean 'sentencepiece'"),
        ({"kind": "sentencepiece", "vocab": 3}, "Did you mean 'vocab_size'"),
        ({"kind": "sentencepiece", "vocab_size": 4, "max_len": 6}, "cannot be trained"),
        ({"kind": "sentencepiece", "max_len": 6}, "give path .* or vocab_size"),
        ({"kind": "sentencepiece", "max_len": 6, "path": "no/such.model"}, "no/such.model"),
        ({"kind": "sentencepiece", "max_len": 6, "path": __file__}, "cannot be read"),
        (dict(kind="sentencepiece", vocab_size=64, max_len=6, clean="siglipp"), "mean 'siglip'"),
        (dict(kind="sentencepiece", vocab_size=64, max_len=6, pad="<x>"), "no pad token <x>"),
    ],
)
def test_bad_sections_are_named(section, message, tmp_path):
    with pytest.raises(UserError, match=message) as error:
        build_tokenizer(section, tmp_path / "t", TEXTS)
    assert "\n" not in str(error.value) and not (tmp_path / "t").exists()


def test_from_a_file(tokenizer, tmp_path):
    (tmp_path / "spiece.model").write_bytes(tokenizer._files["spiece.model"])
    section = {"kind": "sentencepiece", "path": str(tmp_path / "spiece.model"), "max_len": 6}
    other = build_tokenizer(section, tmp_path / "t")
    np.testing.assert_array_equal(other(TEXTS)[0], tokenizer(TEXTS)[0])
    lower = build_tokenizer({**section, "clean": "lower", "pad": "</s>"}, tmp_path / "l")
    ids, mask = lower(["A RED &amp;amp; seven"])
    assert lower.decode(ids[0]).startswith("a red") and lower.pad_id == EOS
    with pytest.raises(UserError, match="no class in transformers"):
        lower.export(tmp_path / "hub")


def test_siglip_cleans_and_pads_with_the_end(tokenizer):
    siglip = SentencePiece(tokenizer._files, max_len=6, clean="siglip")
    ids, mask = siglip([" A, red  (one)!", "", "a red</s>"])
    want, _ = tokenizer(["a red one"])
    assert ids[0, mask[0]].tolist() == [i for i in want[0] if i != PAD]
    assert ids[1].tolist() == [EOS] * 6 and mask[1].tolist() == [True] + [False] * 5
    assert ids[2, mask[2]].tolist().count(EOS) == 1  # As in transformers: not ended twice.
