# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Each processor against its definition, written out; padding is never history."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm.errors import UserError
from jvlm.generation import Options, choose, make_processors
from jvlm.generation.processors import History

V, EOS = 12, 3
# Two rows of two sequences: prompts of 3 and 1 columns, then two new tokens, two free columns.
TOKENS = np.array(
    [[[5, 6, 5, 6, 7, 0, 0], [5, 6, 5, 4, 5, 0, 0]], [[0, 0, 8, 8, 9, 0, 0], [0, 0, 8, 1, 8, 0, 0]]]
)
HISTORY = History(jnp.array(TOKENS), jnp.array([0, 2]), jnp.int32(5), jnp.int32(3))
REAL = [[[5, 6, 5, 6, 7], [5, 6, 5, 4, 5]], [[8, 8, 9], [8, 1, 8]]]


@pytest.fixture
def scores(rng):
    return rng.normal(size=(2, 2, V)).astype(np.float32)


def apply(scores, eos=(EOS,), **options):
    (process,) = make_processors(Options(**options), eos, V)
    return np.asarray(jax.jit(lambda x: process(x, HISTORY))(scores))


def banned(got, scores):
    """Ids set to -inf by sequence, after a check that nothing else has changed."""
    gone = np.isneginf(got)
    np.testing.assert_array_equal(got[~gone], scores[~gone])
    return [[np.flatnonzero(row).tolist() for row in rows] for rows in gone]


def test_repetition_penalty(scores):
    got = apply(scores, repetition_penalty=2.0)
    want = scores.copy()
    for row, column in np.ndindex(2, 2):
        for id in set(REAL[row][column]):
            value = scores[row, column, id]
            want[row, column, id] = value * 2 if value < 0 else value / 2
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize(
    "size, want",
    [
        (1, [[[5, 6, 7], [4, 5, 6]], [[8, 9], [1, 8]]]),
        (2, [[[], [4, 6]], [[], [1]]]),
        (3, [[[], []], [[], []]]),
    ],
)
def test_no_repeat_ngram(scores, size, want):
    assert banned(apply(scores, no_repeat_ngram_size=size), scores) == want


def test_bad_words(scores):
    words = [[2], [7, 1], [6, 7, 4], [0, 9, 5], [9, 5], [EOS], [8, 1, 8, 11], [0, 0, 8, 1, 8, 10]]
    want = [[[1, 2, 4], [2]], [[2, 5], [2, 11]]]
    # [8, 1, 8, 11] needs the whole second prompt; two pads before it are no zeros of a text.
    assert banned(apply(scores, bad_words_ids=words), scores) == want


@pytest.mark.parametrize("least, want", [(2, []), (3, [EOS, 4])])
def test_min_new_tokens(scores, least, want):
    got = apply(scores, eos=(EOS, 4), min_new_tokens=least)
    assert banned(got, scores) == [[want] * 2] * 2


def test_allowed_ids(scores):
    got = apply(scores, allowed_ids=[1, 5])
    others = [id for id in range(V) if id not in (1, EOS, 5)]
    assert banned(got, scores) == [[others] * 2] * 2


def test_allowed_sequences(scores):
    got = apply(scores, allowed_sequences=[[6, 7, 2], [6, 7], [4, 5, EOS], [8, 9, 1, 2]])
    left = [[np.flatnonzero(~np.isneginf(row)).tolist() for row in rows] for rows in got]
    assert left == [[[2, EOS], [EOS]], [[1], []]]


def test_what_is_allowed_is_forced_where_nothing_is_left(scores):
    """As transformers does when another processor has banned all that may come."""
    (process,) = make_processors(Options(allowed_ids=[1]), (), V)
    dead = jnp.where(jnp.arange(V) == 1, -jnp.inf, scores)
    got = np.asarray(process(dead, HISTORY))
    assert (got[..., 1] == 0).all() and np.isneginf(np.delete(got, 1, axis=-1)).all()


def softmax(x):
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


@pytest.mark.parametrize("k", [1, 3, 8, 50])
def test_top_k(scores, k):
    got = apply(scores, do_sample=True, top_k=k)
    assert (np.isneginf(got).sum(-1) == max(0, V - k)).all()
    least = np.sort(scores, -1)[..., -min(k, V)]
    np.testing.assert_array_equal(~np.isneginf(got), scores >= least[..., None])


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("scale", [1, 10])
def test_top_p_is_the_sorted_definition(scores, p, scale):
    scores = scores * scale
    got = apply(scores, do_sample=True, top_p=p)
    for row, kept in zip(scores.reshape(-1, V), ~np.isneginf(got).reshape(-1, V)):
        order = np.argsort(-row)
        before = np.cumsum(softmax(row)[order]) - softmax(row)[order]
        want = order[: max(1, int((before < p).sum()))]
        assert set(np.flatnonzero(kept)) == set(want)


def test_drawn_beams_keep_a_way_on(scores):
    options = Options(num_beams=2, do_sample=True, top_k=1, top_p=0.01)
    out = jnp.asarray(scores)
    for process in make_processors(options, (EOS, 4), V):
        out = process(out, HISTORY)
    assert (np.isfinite(out).sum(-1) == 3).all()


def test_best_is_the_first_of_the_highest():
    scores = np.array([[1, 3, 3, 0], [-np.inf, -np.inf, -2, -3]], np.float32)
    assert choose.best(jnp.array(scores)).tolist() == [1, 2]


def test_draws_follow_the_distribution(rng):
    """Shares of 20,000 draws over more tokens than one block, some of them impossible."""
    scores = rng.normal(size=700).astype(np.float32)
    scores[rng.permutation(700)[:300]] = -np.inf
    uniform = jax.random.uniform(jax.random.key(0), (20_000,))
    tokens = np.asarray(jax.jit(jax.vmap(choose.draw, (None, 0)))(scores, uniform))
    want = softmax(scores)
    share = np.bincount(tokens, minlength=700) / len(tokens)
    assert (share[want == 0] == 0).all()
    assert np.abs(share - want).max() < 5 * np.sqrt(want.max() / len(tokens))
    # The extremes of the random numbers are tokens too.
    ends = jax.vmap(choose.draw, (None, 0))(scores, jnp.array([0.0, 1 - 2**-24]))
    assert (want[np.asarray(ends)] > 0).all()


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(bad_words_ids=[[V]]), "bad_words_ids: 12 is no id of the 12 tokens"),
        (dict(bad_words_ids=[[]]), "bad_words_ids: a sequence is empty"),
        (dict(allowed_ids=[-1]), "allowed_ids: -1 is no id"),
        (dict(allowed_sequences=[[1] * 9], max_new_tokens=5), "has 10 tokens with its end"),
        (dict(allowed_sequences=[[1]], min_new_tokens=4), "fewer tokens than min_new_tokens 4"),
    ],
)
def test_bad_ids(options, message):
    with pytest.raises(UserError, match=message):
        make_processors(Options(**options), (EOS,), V)
