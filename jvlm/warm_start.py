# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Starting weights: which parameters begin as which parameters of another model.

A config's `init` is an ordered list of (target, source, source path, ops):

    (r"vision/(.*)", "runs/clip", r"vision/\1", ()),
    (r"vision/pos", "runs/clip", "vision/pos", (("resize_positions", {"antialias": False}),)),
    (r"qformer/mlp_query/(.*)", "self", r"qformer/mlp/\1", ()),

The target is a pattern on parameter paths (first match wins); the source is a run directory or
'self', this model as initialised; the source path may use the pattern's groups. Parameters that no
rule matches keep their fresh values and are listed.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jvlm import paths, quantise
from jvlm.config import construct
from jvlm.errors import UserError, did_you_mean
from jvlm.layers import resize_positions
from jvlm.state import TrainState, merge


def _resize_positions(
    value: np.ndarray, fresh: np.ndarray, antialias: bool = False, align_corners: bool = False
) -> np.ndarray:
    """Bicubic resize of a square grid of positions; an extra first row (class token) is kept."""
    old, new = (_square(len(table)) for table in (value, fresh))
    kind = {"antialias": antialias, "align_corners": align_corners}
    return np.asarray(resize_positions(value, old, new, **kind))


def _extend_vocabulary(value: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """Rows beyond the source's vocabulary keep their fresh values."""
    return np.concatenate([value, fresh[len(value) :]])


def _layers(value: np.ndarray, fresh: np.ndarray, select: str) -> np.ndarray:
    """Some layers of a stack, as a slice 'start:stop:step'."""
    return value[slice(*(int(part) if part else None for part in select.split(":")))]


OPS: dict[str, Callable] = {
    "extend_vocabulary": _extend_vocabulary,
    "layers": _layers,
    "resize_positions": _resize_positions,
}


def apply(
    rules: Sequence[tuple], state: TrainState, read_source: Callable[[str], dict]
) -> tuple[TrainState, list[str]]:
    """Fills in starting weights.

    Args:
      rules: the config's `init`.
      state: freshly initialised.
      read_source: run directory -> nested dict of its parameters.

    Returns:
      (state, paths that keep their fresh values).

    Raises:
      UserError: all problems together: a rule that matches nothing, a source without the
        parameter, a shape that differs.
    """
    if not rules:
        return state, []
    for rule in rules:
        if len(rule) != 4:
            raise UserError(f"init: {rule!r}: give (target, source, source path, ops)")
    fresh = _flatten(merge(state.params, state.statistics, state.frozen))
    sources = {"self": fresh}
    used, problems, filled = [False] * len(rules), [], {}
    for path, leaf in fresh.items():
        index = paths.first_match([(rule[0], None) for rule in rules], path)
        if index is None:
            continue
        used[index] = True
        pattern, name, template, ops = rules[index]
        if name not in sources:
            sources[name] = _flatten(read_source(name))
        source_path = re.fullmatch(pattern, path).expand(template)
        if source_path not in sources[name]:
            if paths.kernel_part(path)[1]:  # An adapter, which the source need not have.
                continue
            hint = did_you_mean(source_path, sources[name])
            problems.append(f"init: {name} has no {source_path} for {path}.{hint}")
            continue
        value = _run_ops(_fetch(sources[name][source_path]), leaf, ops)
        if value.shape != (shape := _shape(leaf)):
            problems.append(f"init: {path} is {shape}, {source_path} of {name} {value.shape}")
            continue
        filled[path] = _like(value, path, leaf)
    for rule, was_used in zip(rules, used):
        if not was_used:
            problems.append(
                f"init: {rule[0]!r} decides no parameter.{did_you_mean(rule[0], fresh)}"
            )
    if problems:
        raise UserError("; ".join(problems))

    pieces = paths.flatten(filled)

    def update(tree: Any) -> Any:
        return paths.map_with_path(lambda path, leaf: pieces.get(path, leaf), tree)

    # The average starts with the weights, in buffers of its own: both are donated to the step.
    ema = None if state.ema is None else jax.jit(_copy)(update(state.ema))
    state = state.replace(
        params=update(state.params),
        statistics=update(state.statistics),
        frozen=update(state.frozen),
        ema=ema,
    )
    return state, [path for path in fresh if path not in filled]


def _run_ops(value: np.ndarray, leaf: jax.Array, ops: Sequence[tuple]) -> np.ndarray:
    for name, options in ops:
        if name not in OPS:
            raise UserError(f"init: op {name!r} is unknown.{did_you_mean(name, OPS)}")
        where = f"init op {name}"
        value = construct(OPS[name], options, where=where, value=value, fresh=_fetch(leaf))
    return value


def _copy(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


def _flatten(tree: Any) -> dict[str, Any]:
    return quantise.collapse(paths.flatten(tree))


def _fetch(leaf: Any) -> np.ndarray:
    """A leaf as a numpy array on every host, also where its pieces lie on several."""
    if quantise.is_quantised(leaf):
        return np.asarray(quantise.dequantise({name: _fetch(x) for name, x in leaf.items()}))
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        everywhere = jax.sharding.NamedSharding(leaf.sharding.mesh, jax.sharding.PartitionSpec())
        leaf = jax.jit(lambda x: x, out_shardings=everywhere)(leaf)
    return np.asarray(leaf)


def _shape(leaf: Any) -> tuple[int, ...]:
    is_quantised = quantise.is_quantised(leaf)
    return (jax.eval_shape(quantise.dequantise, leaf) if is_quantised else leaf).shape


def _like(value: np.ndarray, path: str, leaf: Any) -> Any:
    """Values on the devices in a leaf's form, dtype and sharding."""
    if quantise.is_quantised(leaf):
        axes = quantise.input_axes(path, value.ndim)
        made = quantise.quantise(value, quantise.kind_of(leaf["q"]), axes)
        return {name: _like(x, path, leaf[name]) for name, x in made.items()}
    value = value.astype(leaf.dtype)
    return jax.make_array_from_callback(leaf.shape, leaf.sharding, value.__getitem__)


def _square(length: int) -> tuple[int, int]:
    side = int(length**0.5)
    return side, side
