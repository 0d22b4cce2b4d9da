# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""WordPiece: both sets of rules, with and without [SEP], storage, bad vocabularies."""

import pickle

import numpy as np
import pytest

from jvlm.errors import UserError
from jvlm.tokenizers import WordPiece, build_tokenizer, from_checkpoint, load_tokenizer

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "\u2028", "a", "photo", "##s", "皮", "卡"]
TOKENS += ["丘", "!", "cafe", "café", "Photo", "[", "]", "mask", "ος", "οσ", "皮卡"]
PAD, UNK, CLS, SEP, MASK = range(5)
ID = {token: id for id, token in enumerate(TOKENS)}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(TOKENS) + "\n", newline="\n")
    return path


@pytest.mark.parametrize(
    "text, options, want",
    [
        ("A photos!", {}, ["a", "photo", "##s", "!"]),
        ("皮卡丘x", {}, ["皮", "卡", "丘", "[UNK]"]),
        ("皮卡", {"split_cjk": False}, ["皮卡"]),
        ("Café Photo", {}, ["cafe", "photo"]),
        ("Café", {"strip_accents": False}, ["café"]),
        ("Photo photo", {"lower": False}, ["Photo", "photo"]),
        ("[MASK]", {}, ["[MASK]"]),
        ("[MASK]", {"rules": "google"}, ["[", "mask", "]"]),
        ("A\tCafé皮 photos!", {"rules": "google"}, ["a", "cafe", "皮", "photo", "##s", "!"]),
        ("皮卡", {"rules": "google", "split_cjk": False}, ["皮卡"]),
        ("ΟΣ", {}, ["οσ"]),  # The library lower-cases letter by letter,
        ("ΟΣ", {"rules": "google"}, ["ος"]),  # Python knows the final sigma.
        ("a" * 150, {}, ["[UNK]"]),
        ("a\u2028photo", {}, ["a", "photo"]),
        ("", {}, []),
    ],
)
def test_ids(path, text, options, want):
    ids, mask = WordPiece.read(path, max_len=10, **options)([text])
    want = [CLS, *(ID[token] for token in want), SEP]
    assert ids.dtype == np.int32
    assert ids[0].tolist() == want + [PAD] * (10 - len(want))
    assert mask[0].tolist() == [True] * len(want) + [False] * (10 - len(want))


def test_truncation_and_no_sep(path):
    """ALBEF's single sequence is [CLS] X."""
    ids, mask = WordPiece.read(path, max_len=5)(["a " * 9])
    assert ids[0].tolist() == [CLS, *[ID["a"]] * 3, SEP] and mask.all()
    ids, mask = WordPiece.read(path, max_len=5, sep=False)(["a " * 9, "a"])
    assert ids.tolist() == [[CLS, *[ID["a"]] * 4], [CLS, ID["a"], *[PAD] * 3]]


@pytest.mark.parametrize("rules", ["transformers", "google"])
def test_storage(path, tmp_path, rules):
    section = dict(kind="wordpiece", path=str(path), max_len=8, rules=rules)
    tokenizer = build_tokenizer(section, tmp_path / "run")
    assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.vocab_size) == (0, SEP, len(TOKENS))
    texts = ["A photos of café", "皮卡丘!"]
    tokenizer.export(tmp_path / "hub")
    for other in (
        load_tokenizer(tmp_path / "run"),
        pickle.loads(pickle.dumps(tokenizer)),
        from_checkpoint(tmp_path / "hub"),
    ):
        np.testing.assert_array_equal(other(texts)[0], tokenizer(texts)[0])
        assert other.decode(other(["a photos"])[0][0]) == "a photos"


def test_cn_clip_takes_52_and_the_original_rules(path):
    tokenizer = from_checkpoint(path.parent, family="cn_clip")
    assert tokenizer.max_len == 52
    assert tokenizer(["[MASK]"])[0][0, :5].tolist() == [CLS, ID["["], ID["mask"], ID["]"], SEP]


@pytest.mark.parametrize(
    "content, message",
    [
        ("\n".join([*TOKENS, "a"]), "'a' is listed twice"),
        ("\n".join(TOKENS[3:]), r"no \[PAD\], \[UNK\], \[CLS\]: not a BERT vocabulary"),
        (b"\xff\xfe", "cannot be read"),
        (None, "no such tokenizer file"),
    ],
)
def test_bad_vocabularies(path, content, message):
    path.unlink()
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=message) as error:
        WordPiece.read(path, max_len=8)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_unknown_rules(path):
    with pytest.raises(UserError, match="Did you mean 'google'"):
        WordPiece.read(path, max_len=8, rules="googel")
