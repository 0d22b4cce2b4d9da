# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Next-token prediction: decoders, encoder-decoders, and decoders behind soft prompts."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jvlm.errors import UserError, did_you_mean
from jvlm.losses.cross_entropy import IGNORED, TokenSums, chunked_cross_entropy
from jvlm.objectives.base import LossOutput, Objective, check_smoothing
from jvlm.sharding import BATCH_AXES

PER = ("token", "row")


@dataclasses.dataclass(frozen=True)
class Language(Objective):
    """Cross-entropy of `batch["labels"]` int32[B, T], aligned with the decoder's text; -1: ignored.

    A decoder's label is predicted at the token before, so that of the first token counts behind a
    prefix only; an encoder-decoder's, or a masked model's, where it stands. The mean is over the
    global batch, whatever the micro-batches and devices that share it.

    Attributes:
      label_smoothing: torch's; see `losses.cross_entropy`.
      z_loss: weight of the squared log normaliser.
      chunk: positions whose logits are held at a time; 0 is all.
      per: what the sum of all tokens' losses is divided by: 'token', those that count, or 'row',
        the rows of the batch (BLIP's answers).
    """

    label_smoothing: float = 0.0
    z_loss: float = 0.0
    chunk: int = 256
    per: str = "token"

    def __post_init__(self):
        if self.per not in PER:
            hint = did_you_mean(self.per, PER)
            raise UserError(f"objective.per {self.per!r} is unknown.{hint}")
        check_smoothing(self.label_smoothing)
        if not isinstance(self.chunk, int) or self.chunk < 0:
            raise UserError(f"objective.chunk {self.chunk!r}: a number of positions, or 0 for all")
        if not hasattr(self.model, "head"):
            raise UserError(
                f"objective 'language': {type(self.model).__name__} is no language model"
            )

    def loss(self, params, batch, *, teacher, extra, rng, step) -> LossOutput:
        sums, statistics = self.token_sums(params, batch, rng=rng)
        tokens = batch.get("_tokens", sums.count)  # A fraction, where micro-batches have few.
        tokens = jnp.where(tokens > 0, tokens, 1.0)
        share = tokens if self.per == "token" else len(batch["labels"])
        metrics = {"accuracy": sums.correct / tokens, "tokens": sums.count}
        return LossOutput(sums.loss / share, metrics, extra, statistics)

    def value_and_grad(self, params, micro_batches, **given):
        # A micro-batch's mean counts by its tokens: each divides its sum by what all have on
        # average, known from the labels alone.
        counts = jax.vmap(lambda batch: jnp.sum(self.targets(batch) >= 0, dtype=jnp.float32))(
            micro_batches
        )
        mean = jnp.broadcast_to(counts.mean(), counts.shape)
        out, grads = super().value_and_grad(params, {**micro_batches, "_tokens": mean}, **given)
        return out.replace(metrics={**out.metrics, "tokens": counts.sum()}), grads

    def token_sums(self, params, batch, *, rng=None) -> tuple[TokenSums, Any]:
        """(sums over the batch's tokens, new running statistics)."""
        batch = {key: value for key, value in batch.items() if key != "_tokens"}
        states, statistics = self.forward(params, batch, method="hidden", rng=rng)

        def local(rows, params, axes=()):
            # As this device's own, the weights' gradients are summed over devices once, not after
            # every piece.
            params = jax.lax.pcast(params, axes, to="varying") if axes else params
            sums = chunked_cross_entropy(
                rows[0],
                lambda x: self.model.apply({"params": params}, x, method="head"),
                rows[1],
                chunk=self.chunk,
                label_smoothing=self.label_smoothing,
                z_loss=self.z_loss,
            )
            return jax.lax.psum(sums, axes) if axes else sums

        rows = states, self.targets(batch)
        if jax.sharding.get_abstract_mesh().empty:
            return local(rows, params), statistics
        on_rows = jax.shard_map(
            lambda rows, params: local(rows, params, BATCH_AXES),
            in_specs=(P(BATCH_AXES), P()),
            out_specs=P(),
            axis_names=set(BATCH_AXES),
        )
        return on_rows(rows, params), statistics

    def targets(self, batch) -> jax.Array:
        """What each final state predicts, int32[B, L]."""
        labels = batch["labels"]
        if self.model.encoder_decoder:
            return labels
        mask = batch.get("text_mask")
        if "prefix" in batch:
            shape = batch["prefix"].shape[:2]
            prefix_mask = batch.get("prefix_mask")
            prefix_mask = jnp.ones(shape, bool) if prefix_mask is None else prefix_mask
            mask = jnp.ones(labels.shape, bool) if mask is None else mask
            mask = jnp.concatenate([prefix_mask, mask], 1)
            labels = jnp.concatenate([jnp.full(shape, IGNORED, labels.dtype), labels], 1)
        if self.model.predicts_next:
            behind = jnp.pad(labels, ((0, 0), (0, 1)), constant_values=IGNORED)
            places = jnp.broadcast_to(jnp.arange(1, behind.shape[1]), labels.shape)
            if mask is not None:  # The next token may lie behind padding.
                real = jnp.where(mask[:, 1:], places[:, :-1], places[:, -1:])
                places = jax.lax.cummin(jnp.concatenate([real, places[:, -1:]], 1), 1, reverse=True)
            labels = jnp.take_along_axis(behind, places, axis=1)
        # Padding predicts nothing.
        return labels if mask is None else jnp.where(mask, labels, IGNORED)
