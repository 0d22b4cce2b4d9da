# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Beam search against all sequences there are."""

import itertools

import jax
import numpy as np
import pytest

V, EOS, NEW = 4, 3, 4
SIZES = dict(vocab_size=V, max_len=16)
PROMPT = np.array([[1, 2, 0]], np.int32)


@pytest.fixture(scope="module")
def everything():
    """(model, params) -> {answer: log-likelihood}: to the end token, or NEW tokens without one."""

    def of(model, params):
        rest = np.array(list(itertools.product(range(V), repeat=NEW)), np.int32)
        text = np.concatenate([np.repeat(PROMPT, len(rest), 0), rest], 1)
        logits = jax.jit(model.apply)({"params": params}, {"text": text}).logits
        log_probs = np.asarray(jax.nn.log_softmax(logits))[:, PROMPT.shape[1] - 1 : -1]
        log_probs = np.take_along_axis(log_probs, rest[..., None], axis=2)[..., 0]
        found = {}
        for answer, scores in zip(rest.tolist(), log_probs):
            length = answer.index(EOS) + 1 if EOS in answer else NEW
            found[tuple(answer[:length])] = float(scores[:length].sum())
        return found

    return of


@pytest.mark.parametrize("search", ["new", "early"])
@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0, -1.0])
def test_a_wide_beam_finds_the_best_of_all(lm, generate, everything, penalty, search):
    model, params = lm("gpt2", **SIZES)
    scores = everything(model, params)
    length = len if search == "new" else lambda a: PROMPT.size + len(a) - (EOS in a)
    ranked = sorted(scores, key=lambda a: -scores[a] / length(a) ** penalty)
    got = generate(
        "gpt2",
        {"text": PROMPT},
        sizes=SIZES.items(),
        num_beams=V**NEW,
        num_return_sequences=8,
        max_new_tokens=NEW,
        length_penalty=penalty,
        early_stopping="never",
        beam_search=search,
    )
    want = [list(answer) + [EOS] * (got.shape[1] - len(answer)) for answer in ranked[:8]]
    assert got.tolist() == want


def test_early_stopping_takes_the_first_that_end(lm, generate, everything):
    """With one beam more than can matter, True stops at the first full set and finds worse."""
    model, params = lm("gpt2", **SIZES)
    scores = everything(model, params)
    best = {}
    for early in (True, "never"):
        got = generate(
            "gpt2",
            {"text": PROMPT},
            sizes=SIZES.items(),
            num_beams=2,
            max_new_tokens=NEW,
            length_penalty=3.0,
            early_stopping=early,
        )[0].tolist()
        answer = tuple(got[: got.index(EOS) + 1] if EOS in got else got)
        best[early] = scores[answer] / len(answer) ** 3
    assert best["never"] >= best[True]


def test_drawn_beams_follow_the_model(lm, generate):
    """Seeds give different beams; what comes is what the vocabulary constraint leaves."""
    options = dict(num_beams=2, do_sample=True, max_new_tokens=NEW, allowed_ids=[0, 1])
    drawn = {
        tuple(generate("gpt2", {"text": PROMPT}, sizes=SIZES.items(), seed=s, **options)[0])
        for s in range(12)
    }
    assert len(drawn) > 1
    assert set().union(*drawn) <= {0, 1, EOS}


def test_fewer_sequences_than_beams(generate):
    """None comes twice: what is not there is padding."""
    got = generate(
        "gpt2",
        {"text": PROMPT},
        sizes=SIZES.items(),
        num_beams=4,
        num_return_sequences=4,
        max_new_tokens=NEW,
        allowed_sequences=[[0, 1], [2]],
    )
    assert sorted(got.tolist()[:2]) == [[0, 1, EOS], [2, EOS, EOS]]
    assert (got[2:] == EOS).all()
