# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What models share that say which class holds of image, or images, and text (NLVR2, SNLI-VE)."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jvlm.layers.image import dummy_image, normalize_image
from jvlm.precision import Compute


@flax.struct.dataclass
class ClassifierOutput:
    """Attributes:
    logits: float32[B, C].
    """

    logits: jax.Array


class Classifier(nn.Module):
    """A model says in `setup` what its tower `vision` is, and in `classify` how it decides."""

    cfg: Any
    compute: Compute = Compute()

    def __call__(self, batch: Mapping[str, jax.Array]) -> ClassifierOutput:
        """`image` [B, H, W, 3] or [B, 2, H, W, 3], `text` and optionally `text_mask`."""
        states = self.image_states(batch["image"])
        return ClassifierOutput(self.classify(batch["text"], batch.get("text_mask"), states))

    def image_states(self, image: jax.Array) -> jax.Array:
        """uint8 or normalised float[B, (I,) H, W, 3] -> [B, (I,) P + 1, D]."""
        image = normalize_image(image, self.cfg.image_mean, self.cfg.image_std)
        tokens = self.vision(image.reshape(-1, *image.shape[-3:])).tokens
        return tokens.reshape(*image.shape[:-3], *tokens.shape[1:])

    def classify(
        self, text: jax.Array, text_mask: jax.Array | None, images: jax.Array
    ) -> jax.Array:
        """int32[B, T], bool[B, T], states of images [B, (I,) P + 1, D] -> float32[B, C]."""
        raise NotImplementedError

    @property
    def vocab_size(self) -> int:
        """Rows of the token table."""
        return self.cfg.text.vocab_size

    def dummy_batch(self, rows: int) -> dict[str, jax.Array]:
        """The smallest batch that `__call__` takes, for initialisation."""
        several = () if self.cfg.num_images == 1 else (self.cfg.num_images,)
        image = dummy_image(self.cfg.vision.image_size, rows, *several)
        return {"image": image, "text": jnp.zeros((rows, 2), jnp.int32)}
