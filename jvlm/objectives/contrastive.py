# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""CLIP's objective: softmax contrast over the global batch, one learned temperature."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jvlm.errors import UserError
from jvlm.losses.contrastive import SAME, softmax_contrastive
from jvlm.objectives.base import LossOutput, Objective
from jvlm.sharding import BATCH_AXES
from jvlm.state import purpose_rng


@dataclasses.dataclass(frozen=True)
class Contrastive(Objective):
    """Symmetric softmax over all pairs of the batch (CLIP section 2.3).

    Attributes:
      gather_grad, same: see `losses.contrastive.softmax_contrastive`.
      negatives: 'global', or an int: contrast within consecutive groups of so many rows.
      max_scale: the inverse temperature is brought back to [1, max_scale] after each step (100 in
        the paper; open_clip train.py clamps its log to [0, ln 100]).
    """

    gather_grad: bool = True
    negatives: str | int = "global"
    same: str = "negative"
    max_scale: float = 100.0

    def __post_init__(self):
        if self.same not in SAME:
            raise UserError(f"objective.same {self.same!r} is unknown, choose from {SAME}")
        if self.negatives != "global" and not isinstance(self.negatives, int):
            raise UserError(f"objective.negatives {self.negatives!r}: 'global' or a number of rows")

    def loss(self, params, batch, *, teacher, extra, rng, step) -> LossOutput:
        rngs = None if rng is None else {"dropout": purpose_rng(rng, "dropout")}
        image, text = self.model.apply({"params": params}, batch, rngs=rngs, method=_embed)
        scale = self.model.apply({"params": params}, method="inverse_temperature")
        identity = batch.get("image_id")
        if self.same != "negative" and identity is None:
            raise UserError(f"objective.same={self.same!r} needs image_id in the batch")
        if self.negatives != "global" and image.shape[0] % self.negatives:
            raise UserError(
                f"objective.negatives {self.negatives} does not divide {image.shape[0]} rows"
            )
        loss, metrics = self._contrast(image, text, scale, identity)
        return LossOutput(loss, {**metrics, "scale": scale}, extra)

    def project(self, params):
        if "logit_scale" not in params:  # Frozen.
            return params
        clamped = jnp.clip(params["logit_scale"], 0.0, math.log(self.max_scale))
        return {**params, "logit_scale": clamped}

    def _contrast(self, image, text, scale, identity):
        def contrast(image, text, scale, identity, axes=()):
            return softmax_contrastive(
                image,
                text,
                scale,
                axes=axes,
                gather_grad=self.gather_grad,
                group=None if self.negatives == "global" else self.negatives,
                identity=identity,
                same=self.same,
            )

        mesh = jax.sharding.get_abstract_mesh()
        if mesh.empty:
            return contrast(image, text, scale, identity)
        rows = P(BATCH_AXES)
        return jax.shard_map(
            lambda *args: contrast(*args, axes=BATCH_AXES),
            in_specs=(rows, rows, P(), None if identity is None else rows),
            out_specs=P(),
        )(image, text, scale, identity)


def _embed(model, batch):
    return model.encode_image(batch["image"]), model.encode_text(
        batch["text"], batch.get("text_mask")
    )
