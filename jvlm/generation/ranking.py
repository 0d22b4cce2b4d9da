# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""How likely given answers are.

A prompt is read once. The candidates of a row are branches of one tree of tokens behind it, of
which each sees the prompt and itself; they are read some at a time, so that logits are held for
those only.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from jvlm.errors import UserError, did_you_mean
from jvlm.generation import choose

LENGTHS = ("sum", "mean", "padded")
_LOGITS_BYTES = 256 << 20
_TREE = 512  # Tokens of a tree at most: attention inside it grows with the square.


def check(length: str | float, preselect: int) -> None:
    """Raises UserError where these options of `generation.Generator.rank` make no sense."""
    if length not in LENGTHS and not isinstance(length, float | int):
        hint = did_you_mean(str(length), LENGTHS)
        raise UserError(f"rank: length {length!r} is unknown.{hint}")
    if not isinstance(preselect, int) or preselect < 0:
        raise UserError(f"rank: preselect {preselect!r}: a number of candidates, 0 for all")


def candidates_at_once(rows: int, count: int, length: int, vocab_size: int) -> int:
    """How many candidates of `length` tokens are read at a time."""
    width = max(1, length - 1)
    memory = _LOGITS_BYTES // (4 * rows * width * vocab_size)
    return max(1, min(count, memory, _TREE // width))


def score(
    model: nn.Module,
    params: dict,
    batch: Mapping[str, jax.Array],
    candidates: jax.Array,
    mask: jax.Array,
    label_smoothing: jax.Array,
    *,
    slots: int,
    at_once: int,
    preselect: int = 0,
    first_weight: float = 1.0,
) -> jax.Array:
    """Sum of the log-likelihoods of each candidate's tokens.

    Args:
      model: a language model; see `models.towers.decoder`.
      params: its weights, stacks unstacked.
      batch: of the prompts.
      candidates: int32[B, C, T], padded on the right.
      mask: bool[B, C, T].
      label_smoothing: float32 scalar e: the score of a token is (1 - e) log p(token) + e times the
        mean of log p over the vocabulary, minus torch's smoothed cross-entropy (BLIP ranks by it).
      slots: that `prefill` fills.
      at_once: candidates in a tree.
      preselect: score only the k candidates of a row whose first token is likeliest, as ALBEF and
        BLIP do (models/*_vqa.py, `rank_answer`); 0 is all.
      first_weight: how often the first token counts: twice in ALBEF's code, where its probability
        among all words is multiplied to that of the whole answer.

    Returns:
      float32[B, C]; -inf for candidates that were not selected.
    """
    rows, count, length = candidates.shape
    call = lambda *args, **options: model.apply({"params": params}, *args, **options)
    logits, cache = call(batch, slots + at_once * (length - 1), method="prefill")
    chosen = None
    if preselect and preselect < count:
        first = jnp.take_along_axis(logits, candidates[:, :, 0], axis=1)
        chosen = choose.top_k(jnp.where(mask[:, :, 0], first, -jnp.inf), preselect)[1]
        candidates = jnp.take_along_axis(candidates, chosen[..., None], axis=1)
        mask = jnp.take_along_axis(mask, chosen[..., None], axis=1)

    def token_scores(logits, ids):
        """Of tokens int32[B, M] under float32[B, M, V], or under the same float32[B, 1, V]."""
        total = jax.nn.logsumexp(logits, axis=-1)
        one = logits.shape[1] == 1
        at = ids[:, None] if one else ids[..., None]
        likely = jnp.take_along_axis(logits, at, axis=-1)
        likely = (likely[:, 0] if one else likely[..., 0]) - total
        return (1 - label_smoothing) * likely + label_smoothing * (logits.mean(-1) - total)

    scores = first_weight * token_scores(logits[:, None], candidates[:, :, 0])
    scores = jnp.where(mask[:, :, 0], scores, 0)
    if length > 1:
        scores += _rest(call, cache, candidates, mask, token_scores, at_once)
    if chosen is None:
        return scores
    lost = jnp.full((rows, count), -jnp.inf)
    return jax.vmap(lambda row, at, new: row.at[at].set(new))(lost, chosen, scores)


def _rest(call, cache, candidates, mask, token_scores, at_once: int) -> jax.Array:
    """float32[B, C], the sum of the scores of all tokens but the first."""
    rows, count, length = candidates.shape
    width, size = length - 1, at_once * (length - 1)
    more = ((0, 0), (0, -count % at_once), (0, 0))
    candidates, mask = jnp.pad(candidates, more), jnp.pad(mask, more)
    token = jnp.arange(size)
    branch = (token[:, None] // width == token // width) & (token[:, None] >= token)
    before = jnp.broadcast_to(cache.valid[:, None], (rows, size, cache.valid.shape[1]))
    sees = jax.lax.dynamic_update_slice(
        before, jnp.broadcast_to(branch, (rows, size, size)), (0, 0, cache.slot)
    )
    positions = cache.next_position[:, None] + token % width

    def piece(xs):
        ids, real = xs
        flat = lambda x: x[..., :-1].reshape(rows, size)
        states, _ = call(
            flat(ids), flat(real), cache, sees=sees, positions=positions, method="advance"
        )
        scores = token_scores(call(states, method="head"), ids[..., 1:].reshape(rows, size))
        return jnp.where(real[..., 1:], scores.reshape(rows, at_once, width), 0).sum(-1)

    cut = lambda x: x.reshape(rows, -1, at_once, length).swapaxes(0, 1)
    scores = jax.lax.map(piece, (cut(candidates), cut(mask)))
    return scores.swapaxes(0, 1).reshape(rows, -1)[:, :count]
