# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The decoding loop: one for greedy search, samples and beams, with and without an encoder.

    start   reads the prompts, chooses the first token
    run     while there are rows to go on: reads the last tokens, chooses the next

The n beams or samples of a row are n tokens of one row at each step. They share the prompt's cache
and the encoder's; which slots are whose is a mask, `sees`. So nothing is tiled, and a beam that
changes its parent changes its mask.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jvlm.generation import beam, choose
from jvlm.generation.processors import History
from jvlm.layers import DecodeCache


@flax.struct.dataclass
class Job:
    """What stays as it is from start to end.

    Attributes:
      begin: int32[B], first column of each prompt; see `History`.
      prompt: int32 scalar, columns of the prompts.
      limit: int32 scalar, new tokens at most.
      eos: int32[E].
      fill: int32 scalar, follows an end token.
      keys: of the sequences [B, n], from which tokens are drawn; None without.
      processors: see `processors.make_processors`.
      rules: of beam search; None without.
    """

    begin: jax.Array
    prompt: jax.Array
    limit: jax.Array
    eos: jax.Array
    fill: jax.Array
    keys: jax.Array | None
    processors: tuple
    rules: beam.Rules | None


@flax.struct.dataclass
class State:
    """What the loop carries.

    Attributes:
      tokens: int32[B, n, H], prompts and answers; see `History`.
      length: int32 scalar, columns in use.
      done: bool[B, n].
      cache: see `layers.cache`.
      sees: bool[B, n, S], slots of each sequence; None for n = 1.
      beams: None without beam search.
    """

    tokens: jax.Array
    length: jax.Array
    done: jax.Array
    cache: DecodeCache
    sees: jax.Array | None
    beams: beam.Beams | None


def start(
    model: nn.Module, params: dict, batch: dict, tokens: jax.Array, job: Job, width: int, slots: int
) -> State:
    """Reads the prompts and chooses the first token.

    Args:
      model: a language model; see `models.towers.decoder`.
      params: its weights, stacks unstacked.
      batch: of the prompts.
      tokens: int32[B, H], the prompts' ids, `job.fill` behind them.
      job: see `Job`.
      width: n.
      slots: of the cache, in all.
    """
    logits, cache = model.apply({"params": params}, batch, slots, method="prefill")
    tokens = jnp.repeat(tokens[:, None], width, axis=1)
    state = State(
        tokens=tokens,
        length=job.prompt,
        done=jnp.zeros(tokens.shape[:2], bool),
        cache=cache,
        sees=None if width == 1 else jnp.repeat(cache.valid[:, None], width, axis=1),
        beams=None if job.rules is None else beam.begin(tokens),
    )
    return _choose(state, jnp.repeat(logits[:, None], width, axis=1), job)


def run(model: nn.Module, params: dict, state: State, job: Job, until: jax.Array) -> State:
    """Goes on until every sequence is done or `until` new tokens are there.

    Args:
      model, params, job: as for `start`.
      state: from it, or from here.
      until: int32 scalar.
    """
    stop = job.prompt + jnp.minimum(job.limit, until)

    def goes_on(state: State) -> jax.Array:
        return (state.length < stop) & ~state.done.all()

    def step(state: State) -> State:
        logits, state = _read(model, params, state)
        return _choose(state, logits, job)

    return jax.lax.while_loop(goes_on, step, state)


def _read(model: nn.Module, params: dict, state: State) -> tuple[jax.Array, State]:
    """float32[B, n, V], the logits behind each sequence's last token."""
    last = jax.lax.dynamic_index_in_dim(state.tokens, state.length - 1, axis=2, keepdims=False)
    cache, sees, positions = state.cache, None, None
    if state.sees is not None:
        width = last.shape[1]
        own = jnp.arange(state.sees.shape[-1]) == cache.slot + jnp.arange(width)[:, None]
        sees = state.sees | own
        positions = jnp.repeat(cache.next_position[:, None], width, axis=1)
    logits, cache = model.apply(
        {"params": params},
        last,
        jnp.ones(last.shape, bool),
        cache,
        sees=sees,
        positions=positions,
        method="extend",
    )
    return logits, state.replace(cache=cache, sees=sees)


def _choose(state: State, logits: jax.Array, job: Job) -> State:
    history = History(state.tokens, job.begin, state.length, job.prompt)
    scores = logits if job.rules is None else jax.nn.log_softmax(logits)
    for process in job.processors:
        scores = process(scores, history)
    if job.rules is not None:
        return _next_beams(state, scores, history.generated, job)
    if job.keys is None:
        token = choose.best(scores)
    else:
        key = jax.vmap(jax.vmap(lambda key: jax.random.fold_in(key, history.generated)))(job.keys)
        token = choose.draw(scores, jax.vmap(jax.vmap(jax.random.uniform))(key))
    token = jnp.where(state.done, job.fill, token)
    tokens = jax.lax.dynamic_update_slice_in_dim(
        state.tokens, token[..., None], state.length, axis=2
    )
    done = state.done | jnp.isin(token, job.eos)
    return state.replace(tokens=tokens, length=state.length + 1, done=done)


def _next_beams(state: State, log_probs: jax.Array, generated: jax.Array, job: Job) -> State:
    beams, tokens, parents, done = beam.advance(
        state.beams, state.tokens, log_probs, state.length, generated, job.rules
    )
    keep = lambda old, new: jnp.where(
        state.done[:, 0].reshape(-1, *(1,) * (new.ndim - 1)), old, new
    )
    return state.replace(
        tokens=tokens,
        length=state.length + 1,
        done=state.done | done[:, None],
        sees=jnp.take_along_axis(state.sees, parents[..., None], axis=1),
        beams=jax.tree.map(keep, state.beams, beams),
    )
