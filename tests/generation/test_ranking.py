# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Ranking against the whole forward of each prompt with each candidate."""

import jax
import numpy as np
import pytest

from jvlm.errors import UserError
from jvlm.generation import ranking

CANDIDATES = np.array([[4, 5, 3, 0, 0], [6, 3, 0, 0, 0], [7, 8, 9, 10, 3], [4, 9, 3, 0, 0]])
MASK = np.arange(5) < np.array([[3], [2], [5], [3]])


def one_by_one(model, params, prompts, smoothing=0.0):
    """float64[B, C]."""
    texts, masks, answers = [], [], []
    for text, mask in zip(prompts["text"], prompts["text_mask"]):
        for candidate, real in zip(CANDIDATES, MASK):
            ids = np.concatenate([text[mask], candidate[real]])
            texts.append(np.pad(ids, (0, 12 - len(ids))))
            masks.append(np.arange(12) < len(ids))
            answers.append((len(ids) - real.sum(), real.sum()))
    if model.encoder_decoder:
        count = len(prompts["text"])
        batch = {key: np.repeat(value, 4, axis=0) for key, value in prompts.items()}
        decoder = np.tile(np.pad(CANDIDATES, ((0, 0), (1, 0)))[:, :-1], (count, 1))
        batch |= {"decoder_text": decoder, "decoder_mask": np.ones(decoder.shape, bool)}
    else:
        batch = {"text": np.stack(texts), "text_mask": np.stack(masks)}
    logits = jax.jit(model.apply)({"params": params}, batch).logits
    log_probs = np.asarray(jax.nn.log_softmax(logits), np.float64)
    scores = []
    for index, (row, (start, length)) in enumerate(zip(log_probs, answers)):
        at = 0 if model.encoder_decoder else start - 1
        ids = CANDIDATES[index % 4][:length]
        likely = row[np.arange(at, at + length), ids]
        mean = row[at : at + length].mean(-1)
        scores.append(((1 - smoothing) * likely + smoothing * mean).sum())
    return np.reshape(scores, (-1, 4))


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
def test_scores_are_those_of_the_whole_forward(lm, generator, prompts, kind, monkeypatch):
    model, params = lm(kind)
    ranker, unstacked = generator(kind)
    want = one_by_one(model, params, prompts)
    monkeypatch.setattr(ranking, "_TREE", 3 * 7)  # Trees of three: the last has two dummies.
    got = ranker.rank(unstacked, prompts, CANDIDATES, MASK)
    assert got.shape == (5, 4) and got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=2e-5)


def test_conventions(lm, generator, prompts):
    model, params = lm("gpt2")
    ranker, unstacked = generator("gpt2")
    rank = lambda **options: ranker.rank(unstacked, prompts, CANDIDATES, MASK, **options)
    total, lengths = rank(), MASK.sum(1)
    np.testing.assert_allclose(rank(length="mean"), total / lengths, rtol=1e-6)
    np.testing.assert_allclose(rank(length="padded"), total / 5, rtol=1e-6)
    np.testing.assert_allclose(rank(length=0.6), total / lengths**0.6, rtol=1e-5)
    want = one_by_one(model, params, prompts, smoothing=0.1)
    np.testing.assert_allclose(rank(label_smoothing=0.1), want, rtol=2e-5)


def test_preselection_scores_those_with_the_likeliest_first_token(lm, generator, prompts):
    ranker, unstacked = generator("gpt2")
    everything = ranker.rank(unstacked, prompts, CANDIDATES, MASK)
    firsts = ranker.rank(unstacked, prompts, CANDIDATES[:, :1], MASK[:, :1])
    got = ranker.rank(unstacked, prompts, CANDIDATES, MASK, preselect=2)
    chosen = np.zeros(got.shape, bool)
    np.put_along_axis(chosen, np.argsort(-firsts, axis=1, kind="stable")[:, :2], True, axis=1)
    np.testing.assert_allclose(got[chosen], everything[chosen], rtol=1e-6)
    assert np.isneginf(got[~chosen]).all()


def test_candidates_of_each_prompt(generator, prompts):
    ranker, unstacked = generator("gpt2")
    everything = ranker.rank(unstacked, prompts, CANDIDATES, MASK)
    order = np.stack([np.roll(np.arange(4), row) for row in range(5)])
    got = ranker.rank(unstacked, prompts, CANDIDATES[order], MASK[order])
    np.testing.assert_allclose(got, np.take_along_axis(everything, order, 1), rtol=1e-6)


def test_bad_candidates(generator, prompts):
    ranker, unstacked = generator("gpt2")
    rank = lambda *args, **options: ranker.rank(unstacked, prompts, *args, **options)
    with pytest.raises(UserError, match="every one at least one token"):
        rank(CANDIDATES, MASK & (np.arange(4) > 0)[:, None])
    with pytest.raises(UserError, match="3 lists of candidates, 5 prompts"):
        rank(np.stack([CANDIDATES] * 3), np.stack([MASK] * 3))
    with pytest.raises(UserError, match="length 'median' is unknown"):
        rank(CANDIDATES, MASK, length="median")
    with pytest.raises(UserError, match="candidates are padded on the right"):
        rank(CANDIDATES, MASK[:, ::-1])
    with pytest.raises(UserError, match="preselect -1: a number of candidates"):
        rank(CANDIDATES, MASK, preselect=-1)
