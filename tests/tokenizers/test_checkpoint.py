# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tokenizers from published folders: which class, which padding, whose conventions."""

import json
import pickle
import shutil

import numpy as np
import pytest

from jvlm.errors import UserError
from jvlm.tokenizers import (
    ClipBPE,
    SentencePiece,
    WordPiece,
    build_tokenizer,
    from_checkpoint,
    load_tokenizer,
)
from jvlm.tokenizers.clip_bpe import GZ
from tests.tokenizers.test_clip_bpe import EOT, MERGES, SOT, VOCAB_SIZE, byte, write_gz
from tests.tokenizers.test_wordpiece import TOKENS


@pytest.fixture
def clip(tmp_path):
    """A folder of CLIP as on the hub: vocab.json, merges.txt, tokenizer_config.json."""
    path = write_gz(tmp_path / GZ)
    ClipBPE.read(path, max_len=8, vocab_size=VOCAB_SIZE).export(tmp_path / "clip")
    return tmp_path / "clip"


def test_transformers_conventions(clip):
    """NFC, no repair, padding with the end token; the mask tells the two apart."""
    tokenizer = from_checkpoint(clip)
    assert (tokenizer.kind, tokenizer.max_len, tokenizer.pad_id) == ("hf", 8, EOT)
    ids, mask = tokenizer(["Dog  low", "&lt;", "dog " * 9])
    assert ids[0].tolist() == [SOT, 513, 520, *[EOT] * 5]
    assert mask[0].tolist() == [True] * 4 + [False] * 4
    assert mask[1].sum() == 2 + 4  # The entity is not resolved.
    assert ids[2].tolist() == [SOT, *[513] * 6, EOT] and mask[2].all()
    assert tokenizer.decode(ids[0]) == "dog low"


def test_pad_token_of_the_folder(clip):
    """Stable Diffusion 2's pads with '!', which is then that token inside a text, too."""
    path = clip / "special_tokens_map.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pad_token": "!"}))
    tokenizer = from_checkpoint(clip)
    ids, mask = tokenizer(["dog!"])
    assert ids[0].tolist() == [SOT, 513, 0, EOT, 0, 0, 0, 0] and mask.sum() == 4


def test_open_clip_conventions(clip):
    """open_clip_config.json decides unless the caller does."""
    config = {"model_cfg": {"text_cfg": {"context_length": 6}}}
    (clip / "open_clip_config.json").write_text(json.dumps(config))
    tokenizer = from_checkpoint(clip)
    assert tokenizer.kind == "clip_bpe" and tokenizer.max_len == 6
    assert tokenizer(["&lt;"])[0][0].tolist() == [SOT, byte("<"), EOT, 0, 0, 0]
    assert from_checkpoint(clip, family="hf").kind == "hf"
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"clena": "canonicalize"}
    (clip / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="Did you mean 'clean'"):
        from_checkpoint(clip)


def test_openai_conventions(clip):
    tokenizer = from_checkpoint(clip, family="openai")
    assert tokenizer.max_len == 77
    assert tokenizer(["<|endoftext|>"])[0][0, :4].tolist() == [SOT, EOT, EOT, 0]


def test_the_gz_file_alone_must_be_the_published_one(tmp_path):
    write_gz(tmp_path / GZ)
    with pytest.raises(UserError, match=f"{len(MERGES) + 1} merges, vocab_size 49408 needs 48894"):
        from_checkpoint(tmp_path)


def test_tokenizer_json_alone(clip):
    texts = ["a dog!", "low é", ""]
    first = from_checkpoint(clip)
    first.export(clip)
    (clip / "vocab.json").unlink()
    (clip / "merges.txt").unlink()
    second = from_checkpoint(clip)
    np.testing.assert_array_equal(second(texts)[0], first(texts)[0])
    config = json.loads((clip / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "SomethingElseFast"  # Its tokenizer.json is taken as it is.
    (clip / "tokenizer_config.json").write_text(json.dumps(config))
    np.testing.assert_array_equal(from_checkpoint(clip)(texts)[0], first(texts)[0])


def test_added_tokens(tmp_path):
    """BLIP's [DEC] and [ENC] come after the vocabulary."""
    (tmp_path / "vocab.txt").write_text("\n".join(TOKENS), newline="\n")
    size = len(TOKENS)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[DEC]": size, "[ENC]": size + 1}))
    (tmp_path / "special_tokens_map.json").write_text('{"bos_token": "[DEC]"}')
    tokenizer = from_checkpoint(tmp_path, max_len=6)
    assert tokenizer.vocab_size == size + 2
    assert tokenizer(["[DEC]a[ENC]"])[0][0].tolist() == [2, size, TOKENS.index("a"), size + 1, 3, 0]


def test_siglip(tmp_path):
    texts = ["a red photo", "the blue dog", "a green cat"] * 5
    tokenizer = SentencePiece.train(texts, vocab_size=60, max_len=16)
    tokenizer = SentencePiece(tokenizer._files, max_len=16, clean="siglip")
    tokenizer.export(tmp_path)
    for other in (from_checkpoint(tmp_path), from_checkpoint(tmp_path, family="hf")):
        ids, mask = other(["A red, photo!", ""])
        np.testing.assert_array_equal(ids, tokenizer(["a red photo", ""])[0])
        assert other.pad_id == other.eos_id == 1
        assert ids[0, mask[0]].tolist().count(1) == 1 and other.decode(ids[0]) == "a red photo"


def test_storage_of_a_checkpoints_tokenizer(clip, tmp_path):
    section = dict(kind="checkpoint", path=str(clip), max_len=9)
    tokenizer = build_tokenizer(section, tmp_path / "run")
    shutil.rmtree(clip)
    texts = ["a dog", "low"]
    for other in (
        build_tokenizer(section, tmp_path / "run"),
        load_tokenizer(tmp_path / "run"),
        pickle.loads(pickle.dumps(tokenizer)),
    ):
        np.testing.assert_array_equal(other(texts)[0], tokenizer(texts)[0])
        assert other.kind == "hf" and other.max_len == 9


@pytest.mark.parametrize("damage", ["vocab.txt", "options.json"])
def test_a_damaged_run(tmp_path, damage):
    (tmp_path / "vocab.txt").write_text("\n".join(TOKENS), newline="\n")
    WordPiece.read(tmp_path / "vocab.txt", max_len=8).save(tmp_path / "run")
    (tmp_path / "run" / damage).unlink()
    with pytest.raises(UserError, match=damage) as error:
        load_tokenizer(tmp_path / "run")
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        from_checkpoint(tmp_path / "none")
    with pytest.raises(UserError) as error:
        from_checkpoint(tmp_path)
    for name in ("tokenizer.json", "vocab.json with merges.txt", "vocab.txt", "spiece.model", GZ):
        assert name in str(error.value)
    with pytest.raises(UserError, match="Did you mean 'open_clip'"):
        from_checkpoint(tmp_path, family="openclip")


@pytest.mark.parametrize("change", ["no length", "no end", "broken"])
def test_incomplete_folders(clip, change):
    config = json.loads((clip / "tokenizer_config.json").read_text())
    if change == "no length":
        del config["model_max_length"]
    if change == "no end":
        from_checkpoint(clip).export(clip)
        (clip / "special_tokens_map.json").unlink()
        config = {"tokenizer_class": "PreTrainedTokenizer", "model_max_length": 8}
    (clip / "tokenizer_config.json").write_text(json.dumps(config))
    if change == "broken":
        (clip / "tokenizer.json").write_text('{"model": {"vocab": {}, "merges": []}}')
    message = {
        "no length": "give max_len",
        "no end": "no eos_token or sep_token",
        "broken": "no <.startoftext.>",
    }[change]
    with pytest.raises(UserError, match=message) as error:
        from_checkpoint(clip)
    assert "\n" not in str(error.value)
