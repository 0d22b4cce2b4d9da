# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Beam search, as transformers 5.23 does it (generation/utils.py, `_beam_search`).

A row stops for itself, where that search goes on until the whole batch has ended: a prompt's answer
is that of the prompt alone.
"""

import flax.struct
import jax
import jax.numpy as jnp

from jvlm.generation import choose

OUT = -jnp.inf  # Score of what is not there. There -1e9, divided by the length penalty.


@flax.struct.dataclass
class Rules:
    """What is asked of the search.

    Attributes:
      length_penalty: float32 scalar.
      at_once: bool scalar, `early_stopping=True`.
      never: bool scalar, `early_stopping='never'`.
      limit: int32 scalar, new tokens at most.
      eos: int32[E].
      keys: of the rows [B], from which samples are drawn; None without.
    """

    length_penalty: jax.Array
    at_once: jax.Array
    never: jax.Array
    limit: jax.Array
    eos: jax.Array
    keys: jax.Array | None


@flax.struct.dataclass
class Beams:
    """n running sequences of each row and the n best that have ended, best first.

    Attributes:
      scores: float32[B, n], log-probabilities of the running ones.
      ended: int32[B, n, H], tokens of the others.
      ended_scores: float32[B, n], theirs over length ** penalty.
      ended_lengths: int32[B, n], their new tokens; 0 where fewer than n have ended.
      improvable: bool[B], whether a running sequence may yet come among them.
    """

    scores: jax.Array
    ended: jax.Array
    ended_scores: jax.Array
    ended_lengths: jax.Array
    improvable: jax.Array


def begin(tokens: jax.Array) -> Beams:
    """Before the first token; only the first beam counts, since all are the prompt.

    Args:
      tokens: int32[B, n, H].
    """
    rows, width = tokens.shape[:2]
    return Beams(
        scores=jnp.full((rows, width), OUT).at[:, 0].set(0),
        ended=tokens,
        ended_scores=jnp.full((rows, width), OUT),
        ended_lengths=jnp.zeros((rows, width), jnp.int32),
        improvable=jnp.ones(rows, bool),
    )


def advance(
    beams: Beams,
    tokens: jax.Array,
    log_probs: jax.Array,
    column: jax.Array,
    generated: jax.Array,
    rules: Rules,
) -> tuple[Beams, jax.Array, jax.Array, jax.Array]:
    """One token for every beam.

    Args:
      beams: so far.
      tokens: int32[B, n, H] of the running beams.
      log_probs: float32[B, n, V] of the next token, processed.
      column: int32 scalar, where the token goes.
      generated: int32 scalar, tokens that a beam has without it.
      rules: see `Rules`.

    Returns:
      (beams, tokens, parents int32[B, n]: of which beam each goes on, bool[B]: rows that are done).
    """
    rows, width, size = log_probs.shape
    length = generated + 1
    total = (log_probs + beams.scores[:, :, None]).reshape(rows, -1)
    # So many that `width` are left if all others end.
    count = min(max(2, 1 + len(rules.eos)) * width, width * size)
    scores, flat = (
        _sample(total, count, generated, rules)
        if rules.keys is not None
        else (choose.top_k(total, count))
    )
    parents, ids = flat // size, (flat % size).astype(jnp.int32)
    candidates = _take(tokens, parents)
    candidates = jax.lax.dynamic_update_slice_in_dim(candidates, ids[..., None], column, axis=2)
    ends = jnp.isin(ids, rules.eos) | (length >= rules.limit)

    running, chosen = choose.top_k(jnp.where(ends, OUT, scores), width)
    next_tokens, parents = _take(candidates, chosen), _take(parents, chosen)

    # Only the first `width` may end: the others stand by to go on.
    has_ended = ends & (jnp.arange(count) < width)
    full = (beams.ended_lengths > 0).all(1)
    power = length.astype(jnp.float32) ** rules.length_penalty
    closed = (full & rules.at_once) | ~beams.improvable
    final = jnp.where(has_ended & ~closed[:, None], scores / power, OUT)
    merged = jnp.concatenate([beams.ended_scores, final], 1)
    lengths = jnp.concatenate([beams.ended_lengths, jnp.where(has_ended, length, 0)], 1)
    ended_scores, kept = choose.top_k(merged, width)
    ended = _take(jnp.concatenate([beams.ended, candidates], 1), kept)
    ended_lengths = _take(lengths, kept)

    hopeful = jnp.where(rules.never & (rules.length_penalty > 0), rules.limit, length)
    most = running[:, 0] / hopeful.astype(jnp.float32) ** rules.length_penalty
    least = jnp.where(ended_lengths > 0, ended_scores.min(1, keepdims=True), OUT)
    improvable = beams.improvable & (most[:, None] > least).any(1)
    full = (ended_lengths > 0).all(1)
    done = ~improvable | (full & rules.at_once) | ends.all(1)
    new = Beams(running, ended, ended_scores, ended_lengths, improvable)
    return new, next_tokens, parents, done


def _sample(
    total: jax.Array, count: int, generated: jax.Array, rules: Rules
) -> tuple[jax.Array, jax.Array]:
    """`count` of a row without replacement, by Gumbel's trick (arXiv:1903.06059), in drawn order.

    The order of torch.multinomial: the first is drawn first, whatever its probability.
    """
    draw = lambda key: jax.random.gumbel(jax.random.fold_in(key, generated), total.shape[1:])
    _, flat = choose.top_k(total + jax.vmap(draw)(rules.keys), count)
    return jnp.take_along_axis(total, flat, axis=1), flat


def _take(x: jax.Array, index: jax.Array) -> jax.Array:
    """x [B, n, ...] at int32[B, m] -> [B, m, ...]."""
    return jnp.take_along_axis(x, index.reshape(*index.shape, *(1,) * (x.ndim - 2)), axis=1)
