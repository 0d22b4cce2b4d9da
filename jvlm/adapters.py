# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""LoRA (arXiv:2106.09685): low-rank adapters beside kernels, which may be quantised (QLoRA).

    attn/q/kernel         [*in, *out], an array or {q, scale}
    attn/q/lora_a         [*in, r]
    attn/q/lora_b         [r, *out], initially zero
    attn/q/lora_scale     alpha / r
    attn/q/lora_dropout   rate, where it is not zero

A model knows nothing of this: a parameter tree is extended, and `layers.Linear` uses what it finds.
The last two leaves are settings and never trained. In a stack all leaves have the `layers` axis.
"""

import dataclasses
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jvlm import config as config_lib
from jvlm import paths, quantise
from jvlm.errors import UserError, did_you_mean


@dataclasses.dataclass(frozen=True)
class LoRA:
    """A config's `lora` section.

    Attributes:
      targets: patterns on the paths of linear layers, such as '.*attn/(q|v)'; each must match.
      rank: r.
      alpha: the product of the two factors counts alpha / r.
      dropout: rate on the adapter's input in training.
      rank_stabilised: alpha / sqrt(r) instead (arXiv:2312.03732; PEFT's use_rslora).
    """

    targets: Sequence[str]
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    rank_stabilised: bool = False

    def __post_init__(self):
        if not isinstance(self.rank, int) or self.rank < 1:
            raise UserError(f"lora.rank {self.rank!r}: a whole number, at least 1")
        if not 0 <= self.dropout < 1:
            raise UserError(f"lora.dropout {self.dropout!r}: a rate from 0 to below 1")
        if isinstance(self.targets, str) or not self.targets:
            raise UserError("lora.targets: give a list of patterns, such as ['.*attn/(q|v)']")

    @property
    def scale(self) -> float:
        """Factor on the product of A and B."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)


def extend(params: Mapping, rng: jax.Array, quantised: Any = None, lora: Any = None) -> dict:
    """A model's fresh parameters in the form that a config says.

    Args:
      params: nested dict; shapes only under `jax.eval_shape`.
      rng: key for the adapters' values.
      quantised: the config's `quantise`, see `quantise.resolve`; None for none.
      lora: the config's `lora`, None for none.

    Raises:
      UserError: a bad section.
    """
    flat = paths.flatten(params)
    if lora:
        lora = config_lib.construct(LoRA, lora, where="lora")
        params = add(params, lora, rng)
    kinds = quantise.resolve(quantised, flat)
    return quantise.quantise_tree(params, kinds)


def add(params: Mapping, lora: LoRA, rng: jax.Array) -> dict:
    """Puts fresh adapters beside the kernels that `lora.targets` names.

    A is uniform as PEFT's (kaiming_uniform with a = sqrt(5): +-1 / sqrt(fan-in)), B zero, so that
    the model is unchanged.

    Raises:
      UserError: a pattern that matches no linear layer.
    """
    flat = paths.flatten(params)
    kernels = {path.removesuffix("/kernel"): path for path in flat if path.endswith("/kernel")}
    try:
        patterns = [re.compile(pattern) for pattern in lora.targets]
    except re.error as error:
        raise UserError(f"lora.targets: not a regular expression: {error}") from None
    for pattern in patterns:
        if not any(map(pattern.fullmatch, kernels)):
            hint = did_you_mean(pattern.pattern, kernels)
            raise UserError(f"lora.targets: {pattern.pattern!r} is no layer with a kernel.{hint}")
    for layer, path in kernels.items():
        if any(pattern.fullmatch(layer) for pattern in patterns):
            key = jax.random.fold_in(rng, zlib.crc32(layer.encode()))
            flat |= _fresh(layer, path, flat[path], lora, key)
    return paths.unflatten(flat)


def merge(params: Mapping) -> dict:
    """Adds every adapter to its kernel and drops it.

    Raises:
      UserError: a quantised kernel, which cannot hold the sum.
    """
    flat = paths.flatten(params)
    merged = {path: leaf for path, leaf in flat.items() if "lora_" not in path.rpartition("/")[2]}
    for layer in layers(flat):
        path = f"{layer}/kernel"
        if path not in flat:
            raise UserError(
                f"merge_adapters: {path} is quantised, which has no room for the adapter: load the "
                "model without quantise="
            )
        scale, a, b = (flat[f"{layer}/lora_{name}"] for name in ("scale", "a", "b"))
        merged[path] = _sum(flat[path], a, b, scale)
    return paths.unflatten(merged)


def layers(flat: Mapping[str, Any]) -> list[str]:
    """Paths of the linear layers with an adapter, of a flat tree."""
    return [path.removesuffix("/lora_a") for path in flat if path.endswith("/lora_a")]


def forms(params: Mapping) -> dict[str, Any]:
    """How a tree differs from the model's own, so that `like` can say its shapes again."""
    flat = paths.flatten(params)
    quantised = [p.removesuffix("/q") for p in flat if paths.kernel_part(p)[1] == "q"]
    return {
        "quantise": {p: quantise.kind_of(flat[f"{p}/q"]) for p in quantised},
        "lora": {
            layer: {
                "rank": flat[f"{layer}/lora_a"].shape[-1],
                "dropout": f"{layer}/lora_dropout" in flat,
            }
            for layer in layers(flat)
        },
    }


def like(shapes: Mapping, saved: Mapping[str, Any]) -> dict:
    """The abstract tree of a model's own shapes in the form that `forms` gave."""

    def make(params):
        flat = paths.flatten(params)
        for layer, options in saved["lora"].items():
            path = f"{layer}/kernel"
            lora = LoRA((layer,), options["rank"], dropout=0.5 if options["dropout"] else 0.0)
            flat |= _fresh(layer, path, flat[path], lora, jax.random.key(0))
        return quantise.quantise_tree(paths.unflatten(flat), saved["quantise"])

    return jax.eval_shape(make, shapes)


def _fresh(layer: str, path: str, kernel: Any, lora: LoRA, rng: jax.Array) -> dict[str, jax.Array]:
    axes = quantise.input_axes(path, kernel.ndim)
    stack = kernel.shape[: axes[0]]
    ins, outs = kernel.shape[axes[0] : axes[-1] + 1], kernel.shape[axes[-1] + 1 :]
    bound = 1 / math.sqrt(math.prod(ins))
    leaves = {
        "a": jax.random.uniform(rng, (*stack, *ins, lora.rank), jnp.float32, -bound, bound),
        "b": jnp.zeros((*stack, lora.rank, *outs)),
        "scale": jnp.full(stack, lora.scale),
    }
    if lora.dropout:
        leaves["dropout"] = jnp.full(stack, lora.dropout)
    return {f"{layer}/lora_{name}": leaf for name, leaf in leaves.items()}


@jax.jit
def _sum(kernel: jax.Array, a: jax.Array, b: jax.Array, scale: jax.Array) -> jax.Array:
    """kernel + scale A B, in float32, then in the kernel's dtype."""

    def one(kernel, a, b, scale):
        product = jnp.tensordot(
            a.astype(jnp.float32), b.astype(jnp.float32), 1, precision=jax.lax.Precision.HIGHEST
        )
        return (kernel.astype(jnp.float32) + scale * product).astype(kernel.dtype)

    return (jax.vmap(one) if scale.ndim else one)(kernel, a, b, scale)
