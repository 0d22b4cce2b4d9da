# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""CLIP's objective: contrast over the global batch, one learned temperature."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jvlm.errors import UserError, did_you_mean
from jvlm.losses.contrastive import SAME, sigmoid_contrastive, softmax_contrastive
from jvlm.losses.nce import noise_contrastive, sample_noise
from jvlm.losses.pairs import WAYS
from jvlm.objectives.base import LossOutput, Objective, mean_over_micro_batches, whole_batch
from jvlm.sharding import BATCH_AXES
from jvlm.state import merge, purpose_rng

KINDS = ("softmax", "sigmoid", "nce")
ACCUMULATE = ("cached", "average")


@dataclasses.dataclass(frozen=True)
class Contrastive(Objective):
    """Images against texts, all pairs of the batch.

    Attributes:
      kind: 'softmax' (CLIP section 2.3), 'sigmoid' (SigLIP; set `model.logit_bias_init`), or 'nce',
        noise-contrastive estimation against `noise` sampled items.
      way: how the pairs of the global batch are run through, 'gather', 'chunked' or 'ring'; one
        result, see `losses.pairs` for the memory.
      chunk: columns at a time, of the ways 'chunked' and 'ring'.
      gather_grad, same: see `losses.contrastive`.
      negatives: 'global', or an int: contrast within consecutive groups of so many rows.
      noise: items per row, of the kind 'nce'.
      max_scale: the inverse temperature is brought back to [1, max_scale] after each step (100 in
        the paper; open_clip train.py clamps its log to [0, ln 100]). None leaves it alone (SigLIP).
      accumulate: what micro-batches are for. 'cached': memory only, the gradient is that of the
        whole batch, at the price of a second forward (GradCache, arXiv:2101.06983). 'average': each
        is contrasted within itself.
    """

    kind: str = "softmax"
    way: str = "gather"
    chunk: int = 1024
    gather_grad: bool = True
    negatives: str | int = "global"
    same: str = "negative"
    noise: int = 64
    max_scale: float | None = 100.0
    accumulate: str = "cached"

    def __post_init__(self):
        choices = dict(kind=KINDS, way=WAYS, same=SAME, accumulate=ACCUMULATE)
        for name, options in choices.items():
            value = getattr(self, name)
            if value not in options:
                hint = did_you_mean(str(value), options)
                raise UserError(f"objective.{name} {value!r} is unknown.{hint}")
        if self.negatives != "global" and (
            not isinstance(self.negatives, int) or self.negatives < 2
        ):
            raise UserError(
                f"objective.negatives {self.negatives!r}: 'global' or a number of rows, at least 2"
            )
        for name in ("chunk", "noise"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise UserError(f"objective.{name} is {getattr(self, name)!r}: at least 1")
        if self.max_scale is not None and self.max_scale < 1:
            raise UserError(f"objective.max_scale is {self.max_scale}: at least 1, or None")
        if self.kind != "softmax" and not self.gather_grad:
            raise UserError(f"objective.gather_grad=False: kind={self.kind!r} does not have it")
        if self.kind == "nce" and (self.way != "gather" or self.same == "soft"):
            raise UserError("objective.kind='nce' takes way='gather' and same='negative' or 'mask'")

    def loss(self, params, batch, *, teacher, extra, rng, step) -> LossOutput:
        embeds, statistics = self.embed(params, batch, rng=rng)
        targets = self.targets(teacher, batch)
        identity = batch.get("image_id")
        loss, metrics = self.contrast(params, embeds, identity, targets, teacher=teacher, rng=rng)
        return LossOutput(loss, metrics, extra, statistics)

    def project(self, params):
        if "logit_scale" not in params or self.max_scale is None:  # Frozen, or free.
            return params
        clamped = jnp.clip(params["logit_scale"], 0.0, math.log(self.max_scale))
        return {**params, "logit_scale": clamped}

    def value_and_grad(self, params, micro_batches, *, frozen, teacher, extra, rng, step):
        """As the base class; with 'cached' accumulation, of the whole batch.

        The embeddings of all micro-batches first, without what a backward needs; then the loss and
        its gradient with respect to them; then each micro-batch again, pulling its share back.
        """
        count = jax.tree.leaves(micro_batches)[0].shape[0]
        if count == 1 or self.accumulate == "average":
            given = dict(frozen=frozen, teacher=teacher, extra=extra, rng=rng, step=step)
            return super().value_and_grad(params, micro_batches, **given)
        numbered = (jnp.arange(count), micro_batches)
        key = lambda index: jax.random.fold_in(rng, index)

        def embed(_, xs):
            index, batch = xs
            embeds, _ = self.embed(merge(params, frozen), batch, rng=key(index))
            return None, (embeds, self.targets(teacher, batch))

        _, (embeds, targets) = jax.lax.scan(embed, None, numbered)

        def contrast(params, embeds):
            return self.contrast(
                merge(params, frozen),
                *whole_batch((embeds, micro_batches.get("image_id"), targets)),
                teacher=teacher,
                rng=key(0),
            )

        # The gradient with respect to parameters is that of the temperature alone.
        value_and_grad = jax.value_and_grad(contrast, argnums=(0, 1), has_aux=True)
        (loss, metrics), (grads, cotangents) = value_and_grad(params, embeds)

        def pull_back(grads, xs):
            (index, batch), cotangent = xs
            forward = lambda params: self.embed(merge(params, frozen), batch, rng=key(index))
            _, pull, statistics = jax.vjp(forward, params, has_aux=True)
            return jax.tree.map(jnp.add, grads, *pull(cotangent)), statistics

        grads, statistics = jax.lax.scan(pull_back, grads, (numbered, cotangents))
        return LossOutput(loss, metrics, extra, mean_over_micro_batches(statistics)), grads

    def embed(self, params, batch, *, rng):
        """({'image', 'text'} float32[B, E], new running statistics)."""
        image, of_vision = self.forward(
            params, batch["image"], method="encode_image", part="vision", rng=rng
        )
        text, of_text = self.forward(
            *(params, batch["text"], batch.get("text_mask")),
            method="encode_text",
            part="text",
            rng=rng,
        )
        return {"image": image, "text": text}, {**of_vision, **of_text}

    def targets(self, teacher, batch):
        """What a teacher says to the batch: pytree of [B, ...]. Nothing here."""
        return {}

    def contrast(self, params, embeds, identity, targets, *, teacher, rng):
        """(loss, metrics) of a whole batch of embeddings.

        Args:
          params: the whole parameter tree.
          embeds, targets: from `embed` and `targets`.
          identity: int32[B] or None.
          teacher, rng: see `loss`.
        """
        rows = len(embeds["image"])
        group = None if self.negatives == "global" else self.negatives
        if self.same != "negative" and identity is None:
            raise UserError(f"objective.same={self.same!r} needs image_id in the batch")
        if group and rows % group:
            raise UserError(f"objective.negatives {group} does not divide {rows} rows")
        scale, bias = (self.scalar(params, name) for name in ("inverse_temperature", "logit_bias"))
        pairs = dict(way=self.way, chunk=self.chunk)
        options = dict(group=group, same=self.same)
        noise = None
        if self.kind == "nce":
            key = purpose_rng(jax.random.key(0) if rng is None else rng, "noise")
            draw = lambda key: sample_noise(key, rows, self.noise, group)
            noise = tuple(draw(key) for key in jax.random.split(key))

        def local(rows, scalars, axes):
            (image, text, identity, noise), (scale, bias) = rows, scalars
            given = dict(options, axes=axes, identity=identity)
            if self.kind == "softmax":
                given = dict(given, **pairs, gather_grad=self.gather_grad)
                return softmax_contrastive(image, text, scale, **given)
            if self.kind == "sigmoid":
                return sigmoid_contrastive(image, text, scale, bias, **given, **pairs)
            return noise_contrastive(image, text, scale, bias, *noise, **given)

        sides = (embeds["image"], embeds["text"], identity, noise)
        loss, metrics = on_rows(local, sides, (scale, bias))
        metrics = {**metrics, "scale": scale}
        return loss, metrics if self.kind == "softmax" else {**metrics, "bias": bias}

    def scalar(self, params, method: str):
        """A scalar that the model computes from its parameters alone."""
        return self.model.apply({"params": params}, method=method)


def on_rows(fn, rows, scalars):
    """fn(rows, scalars, axes) on each device's rows of a batch; on all of them outside a mesh.

    Args:
      fn: gives scalars that are the same on all devices.
      rows: pytree of [B, ...].
      scalars: pytree of scalars.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return fn(rows, scalars, ())
    return jax.shard_map(
        lambda rows, scalars: fn(rows, scalars, BATCH_AXES),
        in_specs=(P(BATCH_AXES), P()),
        out_specs=P(),
    )(rows, scalars)
