# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Weight-only quantisation: a kernel is kept as small integers and scales, in place of its array.

    kernel/q      int8: int8, shaped as the kernel
                  int4: uint8, two per byte along the last input axis, which is half as long
    kernel/scale  int8: float32, one per output channel; input axes have length 1
                  int4: float32, one per group of at most 64 along the last input axis

Symmetric, by the largest magnitude (127 and 7 are the largest integers). The byte i of a group of
2n holds the values i (low half) and n + i (high half), each plus 8. Why bytes and not JAX's int4:
decoding eight layers of 2048 x 2048 on two CPU cores at batch 1 took 4 times as long with those.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jvlm import paths
from jvlm.errors import UserError, did_you_mean

LARGEST = {"int8": 127, "int4": 7}
GROUPS = range(64, 15, -2)  # Sizes of an int4 group, the first that divides the axis.
# Largest piece of a kernel that a CPU dequantises at a time: what stays in its cache.
PIECE_BYTES = 4 * 2**20

Rules = str | Sequence[tuple[str, str | None]]


def resolve(rules: Rules | None, params: Mapping[str, Any]) -> dict[str, str]:
    """Which kernels are quantised, and how.

    Args:
      rules: a rule list onto 'int8', 'int4' or None; one of the two words quantises the kernels of
        all layers and leaves embeddings and output layers; None quantises nothing.
      params: path -> shaped leaf, none of them quantised.

    Returns:
      path of a kernel -> 'int8' or 'int4'.

    Raises:
      UserError: an unknown word, a rule that decides nothing, something else than a kernel, or one
        that has no int4 form.
    """
    if not rules:
        return {}
    if isinstance(rules, str):
        rules = ((".*blocks/.*kernel", rules), (".*", None))
    for _, kind in rules:
        if kind is not None and kind not in LARGEST:
            raise UserError(f"quantise {kind!r} is unknown.{did_you_mean(str(kind), LARGEST)}")
    kinds = paths.resolve(rules, params, what="quantise")
    for path, kind in kinds.items():
        if isinstance(kind, list):
            raise UserError(f"quantise: {path}: all layers of a stack have one form")
        if kind is not None:
            _check(path, tuple(params[path].shape), kind)
    return {path: kind for path, kind in kinds.items() if kind is not None}


def quantise_tree(params: Mapping, kinds: Mapping[str, str]) -> dict:
    """Quantises the kernels that `kinds` (from `resolve`) names."""

    def one(path: str, leaf: Any) -> Any:
        kind = kinds.get(path)
        return leaf if kind is None else quantise(leaf, kind, input_axes(path, leaf.ndim))

    return paths.map_with_path(one, params)


def input_axes(path: str, ndim: int) -> tuple[int, ...]:
    """Axes of a kernel that are contracted: all but the last where heads are joined, else one."""
    first = int(paths.is_stacked(path))
    joins = path.endswith("attn/out/kernel") or ndim - first == 4  # Or a convolution.
    return tuple(range(first, ndim - 1)) if joins else (first,)


def quantise(kernel: Any, kind: str, axes: Sequence[int]) -> dict[str, Any]:
    """A kernel as `{'q', 'scale'}`.

    Args:
      kernel: float array of JAX or numpy, and so are the results.
      kind: 'int8' or 'int4'.
      axes: input axes, see `input_axes`.
    """
    xp = kernel.__array_namespace__()
    x, shape = kernel.astype(xp.float32), kernel.shape
    if kind == "int4":
        axis = axes[-1]
        group = _group(shape[axis])
        x = x.reshape(*shape[:axis], -1, group, *shape[axis + 1 :])
        axes = (axis + 1,)
    # Not a quotient: XLA would make it this product, and numpy not.
    scale = xp.max(xp.abs(x), axis=tuple(axes), keepdims=True) * xp.float32(1 / LARGEST[kind])
    scale = xp.where(scale > 0, scale, xp.float32(1))
    q = xp.round(x / scale)
    if kind == "int8":
        return {"q": q.astype(xp.int8), "scale": scale}
    low, high = xp.split((q + 8).astype(xp.uint8), 2, axis=axis + 1)
    packed = (low | (high << 4)).reshape(*shape[:axis], shape[axis] // 2, *shape[axis + 1 :])
    return {"q": packed, "scale": xp.squeeze(scale, axis=axis + 1)}


def is_quantised(leaf: Any) -> bool:
    """Whether a leaf of a parameter tree is a quantised kernel and not an array."""
    return isinstance(leaf, Mapping) and leaf.keys() == {"q", "scale"}


def collapse(flat: Mapping[str, Any]) -> dict[str, Any]:
    """A flat tree in which a quantised kernel is one entry, `{'q', 'scale'}`, by its own path."""
    whole: dict[str, Any] = {}
    for path, leaf in flat.items():
        kernel, part = paths.kernel_part(path)
        if part in ("q", "scale"):
            whole.setdefault(kernel, {})[part] = leaf
        else:
            whole[path] = leaf
    return whole


def kind_of(q: Any) -> str:
    """'int8' or 'int4', by the integers of a quantised kernel."""
    return "int8" if _is_int8(q) else "int4"


def dequantise(leaf: Mapping[str, Any], dtype: Any = jnp.float32) -> jax.Array:
    """`{'q', 'scale'}` -> dtype, the kernel's shape."""
    q, scale = leaf["q"], leaf["scale"]
    if _is_int8(q):
        return (q.astype(jnp.float32) * scale).astype(dtype)
    # The one axis in which they differ. (A group has 16 entries at least.)
    axis = next(i for i, sizes in enumerate(zip(q.shape, scale.shape)) if sizes[0] != sizes[1])
    before, groups, behind = q.shape[:axis], scale.shape[axis], q.shape[axis + 1 :]
    packed = q.astype(jnp.int32).reshape(*before, groups, 1, -1, *behind)
    shifts = jnp.array([0, 4], jnp.int32).reshape(2, 1, *(1,) * len(behind))
    x = (((packed >> shifts) & 15) - 8).astype(jnp.float32)
    x = x * jnp.expand_dims(scale, (axis + 1, axis + 2))
    return x.astype(dtype).reshape(*before, -1, *behind)


def contract(
    x: jax.Array, leaf: Mapping[str, jax.Array], rank: int, out_dtype: str | None = None
) -> jax.Array:
    """x [..., *in] times a quantised kernel [*in, *out] -> out_dtype[..., *out].

    No float copy of the kernel is written to memory: the conversion belongs to the matmul's operand
    where the compiler fuses it (GPU, TPU); a CPU works on one piece after another. The backward
    keeps the integers, and gives the kernel no gradient.

    Args:
      x: compute dtype.
      leaf: of one layer.
      rank: number of input axes.
      out_dtype: default x's.
    """
    dtypes = (x.dtype, x.dtype if out_dtype is None else jnp.dtype(out_dtype))
    return _contract(x, leaf["q"], leaf["scale"], rank, dtypes)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _contract(x, q, scale, rank, dtypes):
    mesh = jax.sharding.get_abstract_mesh()
    pieces = _pieces(q, scale)
    whole = functools.partial(_partial, rank=rank)
    if pieces == 1 or not (mesh.empty or mesh.size == 1):
        y = whole(x, q, scale)
    else:
        piecewise = functools.partial(_piecewise, rank=rank, pieces=pieces)
        y = jax.lax.platform_dependent(x, q, scale, cpu=piecewise, default=whole)
    if _is_int8(q):
        y = y * scale.reshape(scale.shape[rank:])
    return y.astype(dtypes[1])


def _contract_forward(x, q, scale, rank, dtypes):
    return _contract(x, q, scale, rank, dtypes), (q, scale)


def _contract_backward(rank, dtypes, kept, dy):
    kernel = dequantise(dict(zip(("q", "scale"), kept)), dtypes[0])
    outs = kernel.ndim - rank
    axes = tuple(range(dy.ndim - outs, dy.ndim)), tuple(range(rank, kernel.ndim))
    return jax.lax.dot_general(dy.astype(dtypes[0]), kernel, (axes, ((), ()))), None, None


_contract.defvjp(_contract_forward, _contract_backward)


def _piecewise(x, q, scale, rank, pieces):
    """The same in a loop over pieces of the first input axis.

    XLA takes the conversion of a whole kernel out of the decoding loop, since it does not change
    there, and so keeps a float32 copy of the model.
    """
    axis = x.ndim - rank
    xs = x.reshape(*x.shape[:axis], pieces, -1, *x.shape[axis + 1 :])
    cut = lambda leaf: leaf.reshape(pieces, -1, *leaf.shape[1:])
    scales = jnp.broadcast_to(scale, (pieces, *scale.shape)) if _is_int8(q) else cut(scale)
    add = lambda total, piece: (total + _partial(*piece, rank), None)
    total = jnp.zeros((*x.shape[:axis], *q.shape[rank:]), jnp.float32)
    total, _ = jax.lax.scan(add, total, (jnp.moveaxis(xs, axis, 0), cut(q), scales))
    return total


def _partial(x, q, scale, rank):
    """float32[..., *out], before the scales of output channels."""
    kernel = q.astype(x.dtype) if _is_int8(q) else dequantise({"q": q, "scale": scale}, x.dtype)
    axes = tuple(range(x.ndim - rank, x.ndim)), tuple(range(rank))
    return jax.lax.dot_general(x, kernel, (axes, ((), ())), preferred_element_type=jnp.float32)


def _pieces(q, scale) -> int:
    """The least number of equal pieces, of whole groups each, that fit `PIECE_BYTES`."""
    units, per_byte = (q.shape[0], 1) if _is_int8(q) else (scale.shape[0], 2)
    least = min(units, math.ceil(4 * per_byte * q.size / PIECE_BYTES))
    return next(n for n in range(max(1, least), units + 1) if units % n == 0)


def _is_int8(q) -> bool:
    return q.dtype == jnp.int8


def _group(size: int) -> int | None:
    return next((group for group in GROUPS if size % group == 0), None)


def _check(path: str, shape: tuple[int, ...], kind: str) -> None:
    if not path.endswith("kernel"):
        raise UserError(f"quantise: {path} is no kernel: give it None")
    axis = input_axes(path, len(shape))[-1]
    if kind == "int4" and _group(shape[axis]) is None:
        raise UserError(
            f"quantise: {path} {shape}: no even number from 16 to 64 divides its input axis of "
            f"{shape[axis]}: give it 'int8'"
        )
