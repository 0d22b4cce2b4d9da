# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Text in, text out: a loaded language model, and `jvlm generate`."""

import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm import sharding
from jvlm.errors import UserError
from jvlm.generation import tasks, weights
from jvlm.generation.weights import is_unstacked
from jvlm.pretrained import Pretrained, Processor
from jvlm.tokenizers.sentencepiece import SentencePiece

TEXTS = [f"the {c} digit is {d}" for c in ("red", "green") for d in ("one", "two", "ten")] * 5
PROMPTS = ["the red", "digit is one the green digit", "is"]


@pytest.fixture(scope="module")
def make_model():
    tokenizer = SentencePiece.make(
        TEXTS, 32, vocab_size=60, model_type="bpe", start=True, end=False
    )

    def make(lm):
        size = tokenizer.vocab_size
        model, params = lm("gpt2", vocab_size=size, max_len=48, pad_id=0, eos_id=1, bos_id=3)
        mesh = sharding.make_mesh(devices=jax.devices()[:1])
        return Pretrained(model, dict(params), Processor(None, tokenizer), mesh, "gpt2")

    return make


@pytest.fixture
def model(lm, make_model):
    return make_model(lm)


def test_texts(model):
    texts = model.generate(prompts=PROMPTS, max_new_tokens=12)
    assert len(texts) == 3 and len(set(texts)) > 1
    ids, mask = model.processor.tokenizer(PROMPTS, end=False)
    got = model.generate_ids({"text": ids, "text_mask": mask}, max_new_tokens=12)
    assert got.dtype == np.int32
    assert texts == [model.processor.tokenizer.decode(row[row != 0]) for row in got]
    several = model.generate(prompts=PROMPTS, max_new_tokens=5, num_beams=3, num_return_sequences=2)
    assert len(several) == 6
    assert "".join(model.stream(PROMPTS[1], max_new_tokens=12)) == texts[1]


def test_only_these_texts(model):
    answers = ["one", "two", "red green"]
    options = dict(allowed_texts=answers, max_new_tokens=8)
    got = model.generate(prompts=PROMPTS, **options)
    assert set(got) <= set(answers)
    best = model.rank(prompts=PROMPTS, candidates=answers).argmax(1)
    wide = model.generate(prompts=PROMPTS, num_beams=6, length_penalty=0.0, **options)
    assert wide == [answers[index] for index in best]
    assert "".join(model.stream(PROMPTS[0], **options)) == got[0]


def test_many_prompts_go_in_pieces(model, monkeypatch):
    samples = dict(max_new_tokens=4, temperature=1.0, num_return_sequences=2)
    want = model.generate(prompts=PROMPTS, **samples)
    scores = model.rank(prompts=PROMPTS, candidates=["one", "two"])
    monkeypatch.setattr(tasks, "ROWS", 2)
    assert model.generate(prompts=PROMPTS, **samples) == want
    got = model.rank(prompts=PROMPTS, candidates=["one", "two"])
    np.testing.assert_allclose(got, scores, rtol=1e-5)
    with pytest.raises(UserError, match="prompt 2 has"):
        model.generate(prompts=[*PROMPTS[:2], "the " * 30], max_new_tokens=20)


def test_candidates_of_each_prompt(model):
    lists = [["one", "two"], ["two", "one"], ["one", "two"]]
    got = model.rank(prompts=PROMPTS, candidates=lists, length="mean")
    want = model.rank(prompts=PROMPTS, candidates=lists[0], length="mean")
    np.testing.assert_allclose(got[[0, 2]], want[[0, 2]], rtol=1e-6)
    np.testing.assert_allclose(got[1], want[1, ::-1], rtol=1e-6)


def test_a_model_that_has_generated_is_saved_as_it_was(model, tmp_path):
    want = jax.tree.map(np.asarray, model.params)
    model.generate(prompts=PROMPTS[:1], max_new_tokens=2)
    assert is_unstacked(model.params)
    stored = model._stacked_params()
    jax.tree.map(np.testing.assert_array_equal, stored, want)


def test_no_more_than_one_leaf_is_held_in_both_forms(lm, make_model, monkeypatch):
    m = make_model(lm)
    m.params = jax.tree.map(jnp.copy, m.params)
    held = lambda: sum(x.nbytes for x in jax.live_arrays())
    before, largest = held(), max(x.nbytes for x in jax.tree.leaves(m.params["blocks"]))
    peaks, splitter = [], weights._splitter

    def watched(*key):
        return lambda leaf: (splitter(*key)(leaf), peaks.append(held()))[0]

    monkeypatch.setattr(weights, "_splitter", watched)
    m._decoding_params()
    assert len(peaks) > 5 and max(peaks) <= before + 2 * largest
    assert held() <= before


def test_parameters_that_others_hold_stay(lm, make_model):
    m = make_model(lm)
    held = m.params
    m.generate(prompts=PROMPTS[:1], max_new_tokens=2)
    assert not is_unstacked(held) and not jax.tree.leaves(held)[0].is_deleted()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(prompts=["the", ""]), "prompt 1 is empty"),
        (dict(prompts=[]), "give a list of prompts"),
        (dict(prompts="the"), "give a list of prompts"),
        (dict(prompts=["the"], images=["a.png"]), "gpt2 is a language model: it sees no images"),
        (dict(prompts=["the"], allowed_texts=["a", ""]), "allowed_texts: give a list of texts"),
        (dict(prompts=["the", 3]), "prompt 1 is int: give text"),
        (dict(prompts=["the"], temprature=1.0), "Did you mean 'temperature'"),
        (dict(prompts=["the " * 30]), "more are to come, the model has 48 positions"),
    ],
)
def test_bad_input(model, arguments, message):
    with pytest.raises(UserError, match=message):
        model.generate(**arguments)


def test_without_a_tokenizer_or_a_language_model(model):
    model.processor = Processor(None, None)
    with pytest.raises(UserError, match="the model has no tokenizer"):
        model.generate(prompts=PROMPTS)
    other = Pretrained(None, {}, model.processor, model.mesh, "clip")
    with pytest.raises(UserError, match="clip is no language model"):
        other.generate(prompts=PROMPTS)


def test_command(call, model, tmp_path, monkeypatch):
    model.save(tmp_path / "m")
    run = lambda *args: call("generate", "--model", tmp_path / "m", *args)
    options = ("--max_new_tokens", 6)
    want = model.generate(prompts=PROMPTS, max_new_tokens=6)
    assert run(PROMPTS[0], *options) == (0, want[0] + "\n", "")
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(PROMPTS)))
    assert run("-", *options) == (0, "\n".join(want) + "\n", "")
    beams = ("--num_beams", 2, "--num_return_sequences", 2)
    status, out, _ = run(*PROMPTS, "--json", *beams, *options)
    results = json.loads(out)
    assert status == 0 and [r["prompt"] for r in results] == PROMPTS
    assert all(len(r["texts"]) == 2 for r in results)
    status, out, _ = run(PROMPTS[0], "--allowed_text", "one", "--allowed_text", "two", *options)
    assert out.strip() in ("one", "two")
    model.generation = dict(num_beams=2)  # As a checkpoint may say.
    monkeypatch.setattr("jvlm.pretrained.load", lambda *_, **__: model)
    want = model.generate(prompts=PROMPTS[:1], max_new_tokens=6)
    assert run(PROMPTS[0], *options) == (0, want[0] + "\n", "")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("the", "--max_new_tokens", 4, "--min_new_tokens", 9), "min_new_tokens 9 is more than"),
        (("the", "--max_new_tokens", 400), "400 more are to come, the model has 48 positions"),
        (("",), "prompt 0 is empty"),
        (("the", "--num_beems", 3), "Did you mean 'num_beams'"),
        (("the", "--temperature", 0, "--do_sample"), "do_sample=True with temperature 0"),
        (("the", "--bad_words_ids", "5,6"), "argument --bad_words_ids: invalid"),
    ],
)
def test_bad_command(call, model, tmp_path, arguments, message, monkeypatch):
    monkeypatch.setattr("jvlm.pretrained.load", lambda *_, **__: model)
    status, out, err = call("generate", "--model", tmp_path, *arguments)
    assert status == 2 and out == "" and message in err and err.count("\n") == 1
