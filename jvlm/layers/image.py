# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Pixels on the device: images travel as uint8 and become floats where they are used."""

import jax
import jax.numpy as jnp

from jvlm.errors import UserError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def dummy_image(size: int | tuple[int, int], *rows: int) -> jax.Array:
    """Zeros float32[*rows, H, W, 3]; `size` is a side, or (height, width)."""
    height, width = (size, size) if isinstance(size, int) else size
    return jnp.zeros((*rows, height, width, 3), jnp.float32)


def normalize_image(image: jax.Array, mean: tuple | None, std: tuple | None) -> jax.Array:
    """uint8[..., 3] -> float32 (image / 255 - mean) / std; floats count as already normalised."""
    if image.dtype != jnp.uint8:
        return image
    if mean is None or std is None:
        raise UserError(
            "the checkpoint does not say how pixels are normalised: put its "
            "preprocessor_config.json beside it, or give normalised floats"
        )
    mean, std = jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)
    return (image.astype(jnp.float32) / 255 - mean) / std
