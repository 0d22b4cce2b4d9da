# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The feed-forward layer and the activations of the family."""

from collections.abc import Callable

import flax.linen as nn
import jax

from jvlm.layers.linear import Linear
from jvlm.sharding import constrain


def quick_gelu(x: jax.Array) -> jax.Array:
    """x * sigmoid(1.702 x): OpenAI CLIP (clip/model.py QuickGELU)."""
    return x * jax.nn.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "quick_gelu": quick_gelu,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}


class Mlp(nn.Module):
    """down(act(up(x))), or gated: down(act(gate(x)) * up(x)) (arXiv:2002.05202).

    Attributes:
      width: D.
      mlp_dim: F.
      activation: a key of `ACTIVATIONS`; never a default, the kinds differ by model.
      gated: adds the gate.
      use_bias: biases in every projection.
      std: initial standard deviations of (up and gate, down).
      dtype: compute dtype.
    """

    width: int
    mlp_dim: int
    activation: str
    gated: bool = False
    use_bias: bool = True
    std: tuple[float | None, float | None] = (None, None)
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, T, D] -> dtype[B, T, D]."""
        act = ACTIVATIONS[self.activation]
        up_std, down_std = self.std
        wide = {"std": up_std, "use_bias": self.use_bias, "dtype": self.dtype}
        up = Linear((self.width,), (self.mlp_dim,), name="up", **wide)(x)
        if self.gated:
            h = act(Linear((self.width,), (self.mlp_dim,), name="gate", **wide)(x)) * up
        else:
            h = act(up)
        h = constrain(h, "batch", None, "mlp")
        narrow = {"std": down_std, "use_bias": self.use_bias, "dtype": self.dtype}
        return Linear((self.mlp_dim,), (self.width,), name="down", **narrow)(h)
