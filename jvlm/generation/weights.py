# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The weights' two forms: stacked, as they are trained and stored, and layer by layer to decode."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jvlm import paths


def is_unstacked(params: dict) -> bool:
    """Whether stacks are tuples of layers."""
    return any(isinstance(leaf, tuple) for leaf in paths.flatten(params).values())


def unstack_all(params: dict) -> dict:
    """Every stack as a tuple of layers.

    Leaf by leaf, and `params` is taken apart, so that no more than one leaf exists in both forms
    where nobody else holds them.
    """
    result = {}
    for name in list(params):
        value = params.pop(name)
        if name.endswith("blocks") and isinstance(value, dict):
            flat = paths.flatten(value)
            value.clear()
            result[name] = _layers(flat)
        else:
            result[name] = unstack_all(value) if isinstance(value, dict) else value
    return result


def unstack_shapes(params: dict) -> dict:
    """The same of shapes with shardings, of which nothing is allocated."""

    def layer(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype, sharding=_inner(leaf))

    result = {}
    for name, value in params.items():
        if name.endswith("blocks") and isinstance(value, dict):
            result[name] = (jax.tree.map(layer, value),) * jax.tree.leaves(value)[0].shape[0]
        else:
            result[name] = unstack_shapes(value) if isinstance(value, dict) else value
    return result


def stack_all(params: dict) -> dict:
    """What `unstack_all` took apart, put together; `params` stay as they are."""
    result = {}
    for name, value in params.items():
        if isinstance(value, tuple):
            flat = [paths.flatten(layer) for layer in value]
            leaves = {path: _stack([layer[path] for layer in flat]) for path in flat[0]}
            result[name] = paths.unflatten(leaves)
        else:
            result[name] = stack_all(value) if isinstance(value, dict) else value
    return result


def _layers(flat: dict[str, Any]) -> tuple:
    """Path -> stacked leaf, taken apart, as a tuple of trees."""
    layers: list[dict] = []
    for path in list(flat):
        leaves, tree = jax.tree.flatten(flat.pop(path))
        pieces = [_splitter(leaf.shape[0], _inner(leaf))(leaf) for leaf in leaves]
        leaves.clear()
        for index, piece in enumerate(zip(*pieces)):
            if index == len(layers):
                layers.append({})
            layers[index][path] = jax.tree.unflatten(tree, piece)
    return tuple(paths.unflatten(layer) for layer in layers)


def _stack(layers: list) -> Any:
    leaves = [jax.tree.leaves(layer) for layer in layers]
    tree = jax.tree.structure(layers[0])
    return jax.tree.unflatten(tree, [_joiner(_outer(of[0]))(of) for of in zip(*leaves)])


@functools.lru_cache
def _splitter(depth: int, sharding: NamedSharding | None) -> Callable:
    places = None if sharding is None else (sharding,) * depth
    return jax.jit(tuple, out_shardings=places)


@functools.lru_cache
def _joiner(sharding: NamedSharding | None) -> Callable:
    return jax.jit(jnp.stack, out_shardings=sharding)


def _inner(leaf: Any) -> NamedSharding | None:
    """Where a layer of a stacked leaf lies; None is up to the compiler."""
    place = getattr(leaf, "sharding", None)
    if not isinstance(place, NamedSharding):
        return None
    return NamedSharding(place.mesh, PartitionSpec(*place.spec[1:]))


def _outer(leaf: Any) -> NamedSharding | None:
    place = getattr(leaf, "sharding", None)
    if not isinstance(place, NamedSharding):
        return None
    return NamedSharding(place.mesh, PartitionSpec(None, *place.spec))
