# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""CLIP's BPE on a small merges file: merging order, padding, truncation, storage, bad files."""

import gzip
import json
import pickle

import numpy as np
import pytest

from jvlm.errors import UserError
from jvlm.tokenizers import ClipBPE, build_tokenizer, load_tokenizer
from jvlm.tokenizers.clip_bpe import BYTES, GZ

MERGES = ["d o", "do g</w>", "a b", "b c", "ab ab", "abab c</w>", "l o", "o w</w>", "lo w</w>"]
VOCAB_SIZE = 514 + len(MERGES)
SOT, EOT = VOCAB_SIZE - 2, VOCAB_SIZE - 1


def write_gz(path, lines=MERGES):
    # The published file has more merges than the vocabulary takes.
    path.write_bytes(gzip.compress("\n".join(["header", *lines, "x y", ""]).encode()))
    return path


@pytest.fixture
def path(tmp_path):
    return write_gz(tmp_path / GZ)


@pytest.fixture
def tokenizer(path):
    return ClipBPE.read(path, max_len=8, vocab_size=VOCAB_SIZE)


def byte(char, last=True):
    return list(BYTES).index(ord(char)) + 256 * last


def test_the_byte_alphabet():
    """GPT-2's order: printable bytes first, '!' is 0 (what CLIP pads with)."""
    assert len(set(BYTES.values())) == 256
    assert list(BYTES)[:2] == [33, 34] and list(BYTES)[188:190] == [0, 1]
    assert BYTES[0] == "Ā" and BYTES[32] == "Ġ" and BYTES[255] == "ÿ"


@pytest.mark.parametrize(
    "text, want",
    [
        ("dog", [513]),
        ("Dogs", [512, byte("g", False), byte("s")]),
        ("ababc", [517]),  # 'ab' everywhere before 'abab'.
        ("bc", [byte("b", False), byte("c")]),  # 'b c' is no merge at the end of a word.
        ("low", [520]),  # 'o w</w>' has the better rank than 'lo w</w>', 'l o' the best.
        ("ow", [519]),
        ("a's", [byte("a"), byte("'", False), byte("s")]),
        ("a1!?", [byte("a"), byte("1"), byte("!", False), byte("?")]),
        ("é", [list(BYTES).index(0xC3), list(BYTES).index(0xA9) + 256]),
        ("&amp;lt;", [byte("<")]),
        ("<end_of_text>", [EOT]),
        ("", []),
    ],
)
def test_ids(tokenizer, text, want):
    ids, mask = tokenizer([text])
    want = [SOT, *want, EOT]
    assert ids.dtype == np.int32 and ids.shape == mask.shape == (1, 8)
    assert ids[0].tolist() == want + [0] * (8 - len(want))
    assert mask[0].tolist() == [True] * len(want) + [False] * (8 - len(want))


@pytest.mark.parametrize("words", [5, 6, 7, 50])
def test_truncation_ends_with_the_end_token(tokenizer, words):
    ids, mask = tokenizer(["dog " * words])
    kept = min(words, 6)
    assert ids[0, : kept + 2].tolist() == [SOT] + [513] * kept + [EOT]
    assert mask.sum() == kept + 2


def test_decode(tokenizer):
    for text in ("dog low ab!", "wow! é 你好", "!!", ""):
        ids, _ = ClipBPE(tokenizer._files, max_len=40)([text])
        assert tokenizer.decode(ids[0]).replace(" !", "!") == text


def test_openai_spells_start_and_end_otherwise(path):
    options = dict(max_len=40, vocab_size=VOCAB_SIZE)
    openai = ("<|startoftext|>", "<|endoftext|>")
    for tokenizer, number in (
        (ClipBPE.read(path, **options), 8),
        (ClipBPE.read(path, special_tokens=openai, **options), 1),
    ):
        assert sum(tokenizer(["<|endoftext|>"])[1][0]) - 2 >= number
    assert tokenizer(["<|endoftext|>"])[0][0, :3].tolist() == [SOT, EOT, EOT]


def test_a_text_is_no_list(tokenizer):
    with pytest.raises(UserError, match="list of texts"):
        tokenizer("a dog")


def test_storage_and_export(tokenizer, tmp_path):
    texts = ["a dog", "low & lower", "é 你好 ababc"]
    tokenizer.save(tmp_path / "run")
    tokenizer.export(tmp_path / "hub")
    for other in (
        load_tokenizer(tmp_path / "run"),
        pickle.loads(pickle.dumps(tokenizer)),
        ClipBPE.read(tmp_path / "hub", max_len=8),
    ):
        np.testing.assert_array_equal(other(texts)[0], tokenizer(texts)[0])
        assert other.vocab_size == VOCAB_SIZE and (other.pad_id, other.eos_id) == (0, EOT)
    assert not list(tmp_path.glob("*.part"))


def test_from_a_config(path, tmp_path):
    section = dict(kind="clip_bpe", path=str(path), max_len=8, vocab_size=VOCAB_SIZE)
    first = build_tokenizer(section, tmp_path / "run")
    path.unlink()
    again = build_tokenizer(section, tmp_path / "run")  # The run keeps its own copy.
    np.testing.assert_array_equal(again(["a dog"])[0], first(["a dog"])[0])


def edit(name, change):
    def break_it(folder):
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return break_it


def vocab(change):
    def edited(content):
        entries = json.loads(content)
        change(entries)
        return json.dumps(entries).encode()

    return edit("vocab.json", edited)


@pytest.mark.parametrize(
    "break_it, message",
    [
        (lambda folder: (folder / "merges.txt").unlink(), "merges.txt: no such tokenizer file"),
        (edit("merges.txt", lambda c: c + b"d o\n"), "merges.txt: a merge is listed twice"),
        (edit("merges.txt", lambda c: c + b"abc\n"), "'abc' is not a merge"),
        (edit("merges.txt", lambda c: c + b"z z\n"), "vocab.json: lacks 'zz'"),
        (edit("merges.txt", lambda c: c + b"\xff\n"), "merges.txt: cannot be read"),
        (edit("vocab.json", lambda c: c[:-9]), "vocab.json: cannot be read"),
        (vocab(lambda v: v.pop("<|endoftext|>")), "vocab.json: lacks '<|endoftext|>'"),
        (vocab(lambda v: v.update({"x y": 3})), "gives two entries the same id"),
    ],
)
def test_bad_vocabulary_folders(tokenizer, tmp_path, break_it, message):
    folder = tmp_path / "hub"
    tokenizer.export(folder)
    break_it(folder)
    with pytest.raises(UserError) as error:
        ClipBPE.read(folder, max_len=8)
    assert message in str(error.value) and str(folder) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda path: path.unlink(), "no such tokenizer file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), "cannot be read"),
        (lambda path: path.write_bytes(b"no gzip"), "cannot be read"),
        (lambda path: write_gz(path, MERGES[:5]), "6 merges, vocab_size 523 needs 9"),
        (lambda path: write_gz(path, [*MERGES[:8], "d o"]), "listed twice"),
        (lambda path: write_gz(path, [*MERGES[:6], "a bc", "ab c", "x z"]), "the same symbol"),
    ],
)
def test_bad_gz_files(path, change, message):
    change(path)
    with pytest.raises(UserError) as error:
        ClipBPE.read(path, max_len=8, vocab_size=VOCAB_SIZE)
    assert message in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"max_lenght": 8}, "Did you mean 'max_len'"),
        ({"max_len": 1}, "max_len is 1"),
        ({"clean": "lowr"}, "Did you mean 'lower'"),
    ],
)
def test_bad_sections(path, tmp_path, options, message):
    section = dict(kind="clip_bpe", path=str(path), vocab_size=VOCAB_SIZE, **options)
    with pytest.raises(UserError, match=message):
        build_tokenizer(section, tmp_path / "run")
    assert not (tmp_path / "run").exists()
