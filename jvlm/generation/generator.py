# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Generation and ranking by one model: from a batch of prompts to ids."""

import functools
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jvlm import sharding
from jvlm.errors import UserError
from jvlm.generation import beam, loop, ranking
from jvlm.generation.options import Options, make_options
from jvlm.generation.processors import check_ids, make_processors
from jvlm.generation.prompts import bucket, check_prompts, make_prompts

EVERY = 4  # Steps between two looks at what has come: each costs a round trip to the device.


class Generator:
    """A model's compiled programs.

    They depend on the number of prompts, on the bucket of the longest and of `max_new_tokens`, on
    the number of sequences and on which options are in use: new prompts and other values compile
    nothing.
    """

    def __init__(
        self, model: nn.Module, mesh: jax.sharding.Mesh, defaults: Mapping[str, Any] | None = None
    ):
        """Compiles nothing yet.

        Args:
          model: a language model; see `models.towers.decoder`.
          mesh: where its weights are.
          defaults: content of the checkpoint's generation_config.json; see `make_options`.
        """
        self.model, self.mesh, self.defaults = model, mesh, dict(defaults or {})
        self._start = jax.jit(functools.partial(loop.start, model), static_argnums=(4, 5))
        self._run = jax.jit(functools.partial(loop.run, model), donate_argnums=1)
        static = ("slots", "at_once", "preselect", "first_weight")
        self._score = jax.jit(functools.partial(ranking.score, model), static_argnames=static)
        self._fetch = jax.jit(lambda x: x, out_shardings=sharding.replicated(mesh))

    def ids(
        self,
        params: dict,
        batch: Mapping[str, Any],
        options: Mapping[str, Any],
        rows: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Continues prompts.

        Args:
          params: weights with stacks unstacked; see `layers.unstack_all`.
          batch: B prompts; see `models.towers.decoder`.
          options: fields of `Options`.
          rows: B numbers of the prompts, from which samples are drawn; default 0, 1, 2, ...

        Returns:
          int32[B * n, T], new ids only, the n sequences of a prompt one after the other, best
          first: the end token kept, padding behind it, T as the longest needs. Where constraints
          leave fewer than n beams the last are padding only.

        Raises:
          UserError: an option or a prompt that does not do.
        """
        options = make_options(options, self.defaults)
        with jax.set_mesh(self.mesh):
            state, job, count = self._begin(params, batch, options, rows)
            if options.max_new_tokens > 1:
                state = self._run(params, state, job, job.limit)
            prompt = int(job.prompt)
            if state.beams is None:
                tokens, length = jax.device_get(self._fetch((state.tokens, state.length)))
                new = length - prompt
            else:
                beams = (state.beams.ended, state.beams.ended_lengths)
                tokens, lengths = jax.device_get(self._fetch(beams))
                tokens = tokens[:, : options.num_return_sequences]
                new = lengths[:count, : options.num_return_sequences].max()
        answers = tokens[:count, :, prompt : prompt + new]
        return answers.reshape(-1, answers.shape[-1])

    def check(self, batch: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        """Raises what `ids` would raise, before it does anything."""
        options = make_options(options, self.defaults)
        eos, _ = self._special_ids(options)
        make_processors(options, eos, self.model.vocab_size)
        check_prompts(self.model, batch, options.max_new_tokens)

    def stream(
        self,
        params: dict,
        batch: Mapping[str, Any],
        options: Mapping[str, Any],
        rows: Sequence[int] | None = None,
    ) -> Iterator[np.ndarray]:
        """The same ids as they come, one sequence per prompt.

        Yields:
          int32[B, k]: side by side they are what `ids` returns.
        """
        options = make_options(options, self.defaults)
        if options.width > 1:
            raise UserError("generate: only one sequence per prompt can be streamed, without beams")
        with jax.set_mesh(self.mesh):
            state, job, count = self._begin(params, batch, options, rows)
        prompt = sent = int(job.prompt)
        while True:
            watched = (state.tokens[:, 0], state.length, state.done)
            tokens, length, done = jax.device_get(self._fetch(watched))
            yield tokens[:count, sent:length]
            sent = int(length)
            if done.all() or sent == prompt + options.max_new_tokens:
                return
            with jax.set_mesh(self.mesh):
                state = self._run(params, state, job, jnp.int32(sent - prompt + EVERY))

    def rank(
        self,
        params: dict,
        batch: Mapping[str, Any],
        candidates: np.ndarray,
        mask: np.ndarray,
        *,
        length: str | float = "sum",
        label_smoothing: float = 0.0,
        preselect: int = 0,
        first_weight: float = 1.0,
        rows: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Scores given answers by their log-likelihood.

        Args:
          params, batch: as for `ids`.
          candidates: int32[B, C, T], or [C, T] for all prompts; the end token counts if it is in.
          mask: bool, as `candidates`.
          length: 'sum'; 'mean' over a candidate's tokens; 'padded', over the T columns (LLaMA's
            class scores in LAVIS); a number a divides by tokens ** a.
          label_smoothing, preselect, first_weight: see `ranking.score`.
          rows: numbers of the prompts, for messages.

        Returns:
          float32[B, C], higher is likelier.

        Raises:
          UserError: wrong arguments, or candidates that do not fit the model.
        """
        ranking.check(length, preselect)
        candidates, mask = np.asarray(candidates, np.int32), np.asarray(mask, bool)
        if candidates.shape != mask.shape or not mask.size or not mask.any(-1).all():
            raise UserError("rank: give at least one candidate, and every one at least one token")
        if (mask[..., 1:] & ~mask[..., :-1]).any():
            raise UserError("rank: candidates are padded on the right")
        check_ids(np.unique(candidates[mask]), self.model.vocab_size, "candidates")
        prompts = make_prompts(self.model, batch, candidates.shape[-1], self.mesh, rows)
        size = len(prompts.tokens)
        if candidates.ndim == 2:
            candidates, mask = (np.stack([x] * prompts.rows) for x in (candidates, mask))
        if len(candidates) != prompts.rows:
            raise UserError(f"rank: {len(candidates)} lists of candidates, {prompts.rows} prompts")
        count, columns = candidates.shape[1:]
        wide = -(-columns // 4) * 4 if columns > 1 else 1  # Few shapes.
        at_once = ranking.candidates_at_once(
            size, min(preselect or count, count), wide, self.model.vocab_size
        )
        pads = (0, size - prompts.rows), (0, 0), (0, wide - columns)
        place = sharding.batch_sharding(self.mesh)
        with jax.set_mesh(self.mesh):
            ids, real = (jax.device_put(np.pad(x, pads), place) for x in (candidates, mask))
            scores = self._score(
                params,
                prompts.batch,
                ids,
                real,
                jnp.float32(label_smoothing),
                slots=prompts.slots,
                at_once=at_once,
                preselect=preselect,
                first_weight=float(first_weight),
            )
            scores = jax.device_get(self._fetch(scores))[: prompts.rows]
        tokens = mask.sum(-1).astype(np.float32)
        powers = {"sum": np.ones_like(tokens), "mean": tokens, "padded": np.float32(columns)}
        return scores / (powers[length] if length in powers else tokens**length)

    def _begin(
        self, params: dict, batch: Mapping, options: Options, rows: Sequence[int] | None
    ) -> tuple[loop.State, loop.Job, int]:
        """(state after the first token, job, prompts)."""
        model, width = self.model, options.width
        eos, fill = self._special_ids(options)
        prompts = make_prompts(model, batch, options.max_new_tokens, self.mesh, rows)
        count, columns = prompts.tokens.shape
        steps = bucket(options.max_new_tokens)
        numbers = np.arange(prompts.rows) if rows is None else np.asarray(rows)
        if numbers.shape != (prompts.rows,):
            raise UserError(f"generate: rows: give one number for each of {prompts.rows} prompts")
        numbers = np.pad(numbers, (0, count - prompts.rows), mode="edge")  # As the prompts.
        keys = _keys(np.uint32(options.seed), numbers, width) if options.samples else None
        limit = jnp.int32(options.max_new_tokens)
        ends = jnp.array(eos, jnp.int32)
        rules = None
        if options.num_beams > 1:
            rules = beam.Rules(
                length_penalty=jnp.float32(options.length_penalty),
                at_once=jnp.bool_(options.early_stopping is True),
                never=jnp.bool_(options.early_stopping == "never"),
                limit=limit,
                eos=ends,
                keys=None if keys is None else keys[:, 0],
                early=jnp.bool_(options.beam_search == "early"),
                prompts=jnp.asarray(columns - prompts.begin),
            )
        job = loop.Job(
            begin=jnp.asarray(prompts.begin),
            prompt=jnp.int32(columns),
            limit=limit,
            eos=ends,
            fill=jnp.int32(fill),
            keys=keys,
            processors=make_processors(options, eos, model.vocab_size),
            rules=rules,
        )
        tokens = np.pad(prompts.tokens, ((0, 0), (0, steps)), constant_values=fill)
        tokens = jax.device_put(tokens, sharding.batch_sharding(self.mesh))
        slots = prompts.slots + width * (steps - 1)
        return self._start(params, prompts.batch, tokens, job, width, slots), job, prompts.rows

    def special_ids(self, options: Mapping[str, Any]) -> tuple[tuple[int, ...], int]:
        """(end tokens, what follows them) under these options."""
        return self._special_ids(make_options(options, self.defaults))

    def _special_ids(self, options: Options) -> tuple[tuple[int, ...], int]:
        cfg, size = self.model.cfg, self.model.vocab_size
        eos = cfg.eos_id if options.eos_token_id is None else options.eos_token_id
        eos = () if eos is None else (eos,) if isinstance(eos, numbers.Integral) else tuple(eos)
        pad = cfg.pad_id if options.pad_token_id is None else options.pad_token_id
        check_ids(eos, size, "eos_token_id")
        if pad is None:
            return eos, eos[0] if eos else 0
        check_ids([pad], size, "pad_token_id")
        # transformers' beam search takes a pad id of 0 for none.
        return eos, eos[0] if eos and options.num_beams > 1 and pad == 0 else pad


@functools.partial(jax.jit, static_argnums=2)
def _keys(seed: jax.Array, rows: jax.Array, width: int) -> jax.Array:
    """Random keys [B, n], each from the seed, a row's number and a sequence's."""
    fold = jax.random.fold_in
    one = lambda row, sequence: fold(fold(jax.random.key(seed), row), sequence)
    return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(rows, jnp.arange(width))
