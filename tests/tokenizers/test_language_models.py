# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tokenizers of language models from their folders: start and end, special tokens, streaming."""

import json

import numpy as np
import pytest
import sentencepiece

from jvlm.errors import UserError
from jvlm.tokenizers import TextStream, from_checkpoint, load_tokenizer
from jvlm.tokenizers.clip_bpe import BYTES
from jvlm.tokenizers.sentencepiece import SentencePiece

TEXTS = [f"the {c} digit is {d}" for c in ("red", "green") for d in ("one", "two", "ten")] * 5
AWKWARD = "naïve 你好 👍🏽\n  two spaces"


def gpt2_folder(folder, model_type="gpt2", **config):
    """A vocabulary of the bytes, one merge, GPT-2's and OPT's special tokens."""
    symbols = ["<s>", "<pad>", "</s>", "<unk>", "<|endoftext|>", *BYTES.values(), "Ġd"]
    (folder / "vocab.json").write_text(json.dumps({s: i for i, s in enumerate(symbols)}))
    (folder / "merges.txt").write_text("#version: 0.2\nĠ d\n")
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return from_checkpoint(folder, max_len=32)


def opt_folder(folder):
    token = dict(bos_token="</s>", eos_token="</s>", unk_token="</s>", pad_token="<pad>")
    return gpt2_folder(folder, "opt", add_bos_token=True, tokenizer_class="GPT2Tokenizer", **token)


def pieces_folder(folder, file, model_type, training, **config):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_prefix=str(folder / "m"),
        hard_vocab_limit=False,
        minloglevel=2,
        **training,
    )
    (folder / "m.model").rename(folder / file)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return from_checkpoint(folder, max_len=32)


def llama_folder(folder, **config):
    training = dict(model_type="bpe", vocab_size=320, byte_fallback=True)
    training.update(normalization_rule_name="identity", remove_extra_whitespaces=False)
    return pieces_folder(folder, "tokenizer.model", "llama", training, **config)


def t5_folder(folder, **config):
    training = dict(vocab_size=60, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    return pieces_folder(folder, "spiece.model", "t5", training, **config)


MAKE = {"gpt2": gpt2_folder, "opt": opt_folder, "llama": llama_folder, "t5": t5_folder}


@pytest.fixture(params=MAKE)
def tokenizer(request, tmp_path):
    return MAKE[request.param](tmp_path)


def test_what_stands_around_a_text(tokenizer):
    """A prompt, a text to learn from, and the continuation of a text."""
    start, end = tokenizer.bos_id, tokenizer.eos_id
    plain = tokenizer.pieces("the digit")
    assert plain and start not in plain and end not in plain
    started = [*tokenizer._start, *plain]
    assert tokenizer.encode("the digit", end=False) == started
    assert tokenizer.encode("the digit", end=True) == [*started, end]
    assert tokenizer.encode("the digit", start=False, end=True) == [*plain, end]
    assert tokenizer.encode("the digit", end=True, max_len=4)[-1] == end
    ids, mask = tokenizer(["the digit", ""], end=False, truncate=False)
    assert ids.shape == (2, len(started)) and ids[0].tolist() == started
    assert mask.sum(1).tolist() == [len(started), len(tokenizer._start)]
    assert tokenizer(["a b " * 20])[0].shape == (1, 32)
    assert len(tokenizer(["a b " * 20], truncate=False)[0][0]) > 32


def test_published_conventions(tmp_path):
    for name, make in MAKE.items():
        (tmp_path / name).mkdir()
        tokenizer = make(tmp_path / name)
        ids = tokenizer.encode("digit")
        special = dict(gpt2=(4, 4, 4), opt=(2, 2, 1), llama=(1, 2, 2), t5=(None, 1, 0))[name]
        assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == special, name
        assert (ids[0] == tokenizer.bos_id) == (name in ("opt", "llama"))
        assert (ids[-1] == tokenizer.eos_id) == (name == "t5")


def test_half_a_surrogate_pair(tokenizer):
    assert tokenizer.encode("the \ud83d digit") == tokenizer.encode("the ? digit")


def test_storage(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "run")
    tokenizer.export(tmp_path / "hub")
    texts = ["the digit", "", "x</s>y", AWKWARD]
    for other in (load_tokenizer(tmp_path / "run"), from_checkpoint(tmp_path / "hub", max_len=32)):
        np.testing.assert_array_equal(other(texts)[0], tokenizer(texts)[0])
        assert (other.bos_id, other.eos_id) == (tokenizer.bos_id, tokenizer.eos_id)
        assert other.vocab_size == tokenizer.vocab_size


def test_text_comes_in_whole_characters(tokenizer, rng):
    texts = [tokenizer.encode(text, end=True) for text in (*TEXTS[:3], AWKWARD, "</s>a</s> b")]
    for ids in [*texts, *rng.integers(0, tokenizer.vocab_size, (60, 20))]:
        stream, text = TextStream(tokenizer), tokenizer.decode(ids)
        parts = [stream.push(id) for id in ids]
        assert "".join([*parts, stream.end()]) == text
    if tokenizer.kind == "hf" or tokenizer.bos_id is not None:  # Those with bytes.
        stream = TextStream(tokenizer)
        parts = [stream.push(id) for id in tokenizer.encode(AWKWARD, end=True)]
        assert not any("\ufffd" in part for part in parts)
        assert "".join([*parts, stream.end()]) == AWKWARD


def test_t5_has_sentinels_behind_its_pieces(tmp_path):
    tokenizer = t5_folder(tmp_path, extra_ids=3)
    last = tokenizer.vocab_size - 1
    assert last == tokenizer._processor.vocab_size() + 2
    assert tokenizer.encode("red <extra_id_0>", end=False)[-1] == last
    assert tokenizer.encode("<extra_id_2>", end=False) == [last - 2]
    assert tokenizer.decode(tokenizer.encode("red <extra_id_0> two")) == "red two"


@pytest.mark.parametrize("legacy", [None, True, False])
def test_llama_behind_a_special_token(legacy, tmp_path):
    """A space of the vocabulary's own before every part, or before the text alone."""
    config = {} if legacy is None else {"legacy": legacy}
    tokenizer = llama_folder(tmp_path, **config)
    one, eos = tokenizer.pieces("red"), tokenizer.eos_id
    bare = tokenizer.pieces("x</s>red")[len(tokenizer.pieces("x")) + 1 :]
    assert tokenizer.pieces("</s>") == [eos]
    assert (bare == one) == (legacy is not False)
    assert tokenizer.pieces("</s> red") == [
        eos,
        *(tokenizer.pieces(" red") if bare == one else one),
    ]
    assert tokenizer.decode(tokenizer.pieces(" red")) == " red"


def test_what_a_folder_says_of_llamas_tokens(tmp_path):
    """InstructBLIP's starts with the end token, and pads with one beyond the model."""
    tokenizer = llama_folder(tmp_path, bos_token="</s>", pad_token="[PAD]", add_eos_token=True)
    assert tokenizer.encode("red")[0] == tokenizer.encode("red")[-1] == 2
    assert tokenizer.pad_id == tokenizer._processor.vocab_size() == tokenizer.vocab_size - 1
    (tmp_path / "tokenizer.model").write_bytes(b"damaged")
    with pytest.raises(UserError, match="tokenizer.model: cannot be read"):
        from_checkpoint(tmp_path, max_len=32)


def test_a_trained_vocabulary_with_a_start_token(tmp_path):
    options = dict(vocab_size=60, max_len=16, model_type="bpe")
    tokenizer = SentencePiece.make(TEXTS, start=True, end=False, **options)
    assert tokenizer.encode("red")[0] == tokenizer.bos_id == 3
    assert tokenizer.encode("red", end=True)[-1] == tokenizer.eos_id == 1
    assert tokenizer.decode(tokenizer.encode("the red digit", end=True)) == "the red digit"
    tokenizer.export(tmp_path)
    other = from_checkpoint(tmp_path)
    np.testing.assert_array_equal(other(TEXTS)[0], tokenizer(TEXTS)[0])
    without = SentencePiece.make(TEXTS, **options)
    assert without.bos_id is None
    with pytest.raises(UserError, match="has no start token"):
        SentencePiece(without._files, max_len=16, start=True)
    with pytest.raises(UserError, match="model_type='bpe'"):
        SentencePiece.make(TEXTS, 16, vocab_size=60, start=True).export(tmp_path / "unigram")
