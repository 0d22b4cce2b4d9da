# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""How numbers are stored and computed: one policy object, and one way to read a weight."""

import dataclasses
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from jvlm import paths
from jvlm.errors import UserError, did_you_mean
from jvlm.quantise import dequantise, is_quantised


@dataclasses.dataclass(frozen=True)
class Compute:
    """How a model is run. Nothing here changes its parameters or, beyond rounding, its output.

    Attributes:
      dtype: matmul and activation dtype. Parameters are stored in float32; softmax, norm
        statistics, rotary angles, temperatures and loss logits are float32 whatever this says.
      attention: back end of `layers.attend`: 'auto', 'xla' or 'cudnn'.
      query_chunk: queries at a time on the back end 'xla', which bounds the logits that are held;
        0 is all.
      remat: a key of `layers.stack.REMAT_POLICIES`.
      unroll: layers per iteration of the scan over a stack.
    """

    dtype: str = "float32"
    attention: str = "auto"
    query_chunk: int = 0
    remat: str = "none"
    unroll: int = 1

    def __post_init__(self):
        backends = ("auto", "xla", "cudnn")
        if self.attention not in backends:
            hint = did_you_mean(self.attention, backends)
            raise UserError(f"compute.attention {self.attention!r} is unknown.{hint}")
        if not isinstance(self.query_chunk, int) or self.query_chunk < 0:
            raise UserError(
                f"compute.query_chunk {self.query_chunk!r}: a number of queries, or 0 for all"
            )
        if self.dtype not in ("float32", "bfloat16", "float16"):
            options = ("float32", "bfloat16", "float16")
            raise UserError(
                f"compute.dtype {self.dtype!r} is unknown.{did_you_mean(self.dtype, options)}"
            )


def read_weight(
    module: nn.Module, name: str, init: Callable, shape: tuple[int, ...], dtype: str | None = None
) -> jax.Array:
    """Declares a float32 weight of `module`, or reads it if it exists. All weights come this way.

    Args:
      module: the owner.
      name: leaf name, such as 'kernel'.
      init: `init(rng, shape, dtype)`.
      shape: expected shape.
      dtype: compute dtype to cast to; None keeps the stored one.

    Returns:
      dtype[shape].

    Raises:
      UserError: the weight has an adapter, which only `layers.Linear` adds.
    """
    value = stored_weight(module, name, init, shape)
    if name == "kernel" and module.has_variable("params", "lora_a"):
        raise UserError(
            f"lora: {'/'.join(module.path)} is no linear layer that takes an adapter: leave it out "
            "of lora.targets"
        )
    if is_quantised(value):
        value = dequantise(value)
    return value if dtype is None else value.astype(dtype)


def stored_weight(
    module: nn.Module, name: str, init: Callable, shape: tuple[int, ...]
) -> jax.Array | Mapping:
    """The same in the form in which it is stored: an array, or a quantised leaf."""
    if module.has_variable("params", name):
        value = module.get_variable("params", name)
        if is_quantised(value):
            return value
    return module.param(name, init, shape, jnp.float32)


def is_statistic(path: str) -> bool:
    """Whether a leaf is a running mean or variance of a `BatchNorm`.

    Those get no gradient, no decay and no optimizer slot, and are always float32.
    """
    return path.rpartition("/")[2] in ("mean", "var")


def is_constant(path: str) -> bool:
    """Whether a leaf is never trained, whatever a config says: what quantised kernels consist of,
    and the settings of adapters.
    """
    return paths.kernel_part(path)[1] in ("q", "scale", "lora_scale", "lora_dropout")


def is_matmul_weight(path: str) -> bool:
    """Whether a leaf only ever enters a matmul or a lookup, in compute dtype.

    Those may be stored in it. Norms, biases, positions and temperatures stay float32: bfloat16
    would turn an inverse temperature of 100 into 99.
    """
    return path.rpartition("/")[2] in ("kernel", "embedding", "lora_a", "lora_b")


def cast_weights(params: Mapping, dtype: str) -> dict:
    """Casts the matmul weights of a parameter tree; all other leaves stay as they are."""
    return paths.map_with_path(
        lambda path, leaf: leaf.astype(dtype) if is_matmul_weight(path) else leaf, params
    )
