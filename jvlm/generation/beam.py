# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Beam search, as transformers 5.23 does it (generation/utils.py, `_beam_search`).

Before 4.36 it did otherwise (generation_beam_search.py), and captions of that time were chosen so:
a beam's length counted the prompt and not the end token, hope was measured by the best of all
candidates, and what still ran at the last token was added to what had ended (`Rules.early`).

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
      early: bool scalar, search as transformers did before 4.36.
      prompts: int32[B], tokens of the prompts; read where `early`.
    """

    length_penalty: jax.Array
    at_once: jax.Array
    never: jax.Array
    limit: jax.Array
    eos: jax.Array
    keys: jax.Array | None
    early: jax.Array
    prompts: jax.Array


@flax.struct.dataclass
class Beams:
    """n running sequences of each row and the n best that have ended, best first.

    Attributes:
      scores: float32[B, n], log-probabilities of the running ones.
      ended: int32[B, n, H], tokens of the others.
      ended_scores: float32[B, n], theirs over length ** penalty; see `Rules.early`.
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
    last = length >= rules.limit
    ends = jnp.isin(ids, rules.eos) | (last & ~rules.early)

    running, chosen = choose.top_k(jnp.where(ends, OUT, scores), width)
    next_tokens, parents = _take(candidates, chosen), _take(parents, chosen)

    # Only the first `width` may end: the others stand by to go on.
    has_ended = ends & (jnp.arange(count) < width)
    full = (beams.ended_lengths > 0).all(1)
    closed = (full & rules.at_once) | ~beams.improvable
    before = jnp.where(rules.early, rules.prompts - 1, 0)[:, None]  # Counts beside the new tokens.
    by_length = lambda scores, tokens: scores / tokens.astype(jnp.float32) ** rules.length_penalty
    final = by_length(scores, length + before)
    beams = _close(beams, candidates, final, has_ended & ~closed[:, None], length)

    hopeful = jnp.where(rules.never & (rules.length_penalty > 0), rules.limit, length)
    best = jnp.where(rules.early, scores.max(1), running[:, 0])
    most = by_length(best[:, None], hopeful + before)
    least = jnp.where(beams.ended_lengths > 0, beams.ended_scores.min(1, keepdims=True), OUT)
    improvable = beams.improvable & (most > least).any(1)
    full = (beams.ended_lengths > 0).all(1)
    done = ~improvable | (full & rules.at_once) | ends.all(1)

    remain = jnp.broadcast_to((last & rules.early & ~done)[:, None], running.shape)
    final = by_length(running, length + before + 1)
    beams = _close(beams, next_tokens, final, remain, length)
    return beams.replace(scores=running, improvable=improvable), next_tokens, parents, done


def _close(
    beams: Beams, tokens: jax.Array, scores: jax.Array, has_ended: jax.Array, length: jax.Array
) -> Beams:
    """Puts what has ended of sequences [B, m, H] among the best of theirs."""
    scores = jnp.concatenate([beams.ended_scores, jnp.where(has_ended, scores, OUT)], 1)
    lengths = jnp.concatenate([beams.ended_lengths, jnp.where(has_ended, length, 0)], 1)
    scores, kept = choose.top_k(scores, beams.ended_scores.shape[1])
    ended = _take(jnp.concatenate([beams.ended, tokens], 1), kept)
    return beams.replace(ended=ended, ended_scores=scores, ended_lengths=_take(lengths, kept))


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
