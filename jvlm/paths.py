# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Parameter trees as '/'-joined paths, and ordered (pattern, value) rule lists over them.

Freezing, decay, learning rates, initial values, sharding and starting weights are all "which
parameters, what value" questions, so all of them are answered here and in the same way: rules
are tried in order, `re.fullmatch` on the path decides, the first match wins.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jvlm.errors import UserError, did_you_mean

_LAYER_RANGE = re.compile(r"(.*)\[(\d*):(\d*)\]")


def flatten(tree: Mapping, prefix: str = "") -> dict[str, Any]:
    """{'a': {'b': 1}} -> {'a/b': 1}. Only mappings are descended into."""
    flat = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, path + "/"))
        else:
            flat[path] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict:
    """{'a/b': 1} -> {'a': {'b': 1}}."""
    tree: dict = {}
    for path, value in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    return tree


def map_with_path(fn: Callable[[str, Any], Any], tree: Mapping) -> dict:
    """Applies `fn(path, leaf)` to every leaf of a nested dict."""
    return unflatten({path: fn(path, leaf) for path, leaf in flatten(tree).items()})


def is_stacked(path: str) -> bool:
    """Whether a leaf belongs to a `Stack` and so has a leading `layers` axis.

    By convention the parameter that holds a stack is called `blocks` or `<kind>_blocks`.
    """
    return any(part.endswith("blocks") for part in path.split("/")[:-1])


def kernel_part(path: str) -> tuple[str, str | None]:
    """What belongs to a kernel: 'up/kernel/q' -> ('up/kernel', 'q').

    The parts are 'q' and 'scale' of a quantised kernel, and 'lora_a', 'lora_b', 'lora_scale' and
    'lora_dropout' beside a kernel with an adapter. Other paths are their own, with part None.
    """
    parent, _, name = path.rpartition("/")
    if parent.endswith("kernel") and name in ("q", "scale"):
        return parent, name
    return (f"{parent}/kernel", name) if name.startswith("lora_") else (path, None)


def first_match(rules: Sequence[tuple[str, Any]], path: str) -> int | None:
    """Index of the first rule whose pattern matches the whole path, or None."""
    for index, (pattern, _) in enumerate(rules):
        if re.fullmatch(pattern, path):
            return index
    return None


def resolve(
    rules: Sequence[tuple[str, Any]], params: Mapping[str, Any], *, what: str
) -> dict[str, Any]:
    """Evaluates a config's rule list on every parameter.

    A pattern may end in a layer range, `vision/blocks/mlp/.*[6:12]`: it then holds for those
    layers of a stacked leaf only, the others fall through to the next rules, and the leaf's value
    becomes a vector over its leading axis.

    Args:
      rules: ordered (pattern, value) pairs; end with ('.*', default).
      params: path -> anything with a `.shape`.
      what: the config key, for messages.

    Returns:
      path -> value, or a list of values (one per layer) where the layers of a leaf differ.

    Raises:
      UserError: a parameter without a match, a rule that is no parameter's first match, or a
        layer range that reaches past the stack. All problems are reported together.
    """
    parsed = [(*_split_range(pattern), value) for pattern, value in rules]
    used = [False] * len(rules)
    problems, values = [], {}
    for path, leaf in params.items():
        depth = leaf.shape[0] if is_stacked(path) else 1
        per_layer: list = [None] * depth
        for index, (pattern, span, value) in enumerate(parsed):
            if not _fullmatch(pattern, path, what):
                continue
            if span and not is_stacked(path):
                problems.append(f"{what}: {rules[index][0]!r} has a layer range but matches {path}")
                continue
            start, stop = _clip_range(span, depth)
            if stop > depth:
                problems.append(
                    f"{what}: {rules[index][0]!r} reaches past {depth} layers of {path}"
                )
            for layer in range(start, min(stop, depth)):
                if per_layer[layer] is None:
                    per_layer[layer] = (index, value)
                    used[index] = True
        if any(entry is None for entry in per_layer):
            problems.append(f"{what}: no rule matches {path} (end the list with ('.*', default))")
            continue
        indices = {index for index, _ in per_layer}
        values[path] = per_layer[0][1] if len(indices) == 1 else [value for _, value in per_layer]
    for (pattern, _), was_used in zip(rules, used):
        if not was_used:
            hint = did_you_mean(_split_range(pattern)[0], params)
            problems.append(f"{what}: {pattern!r} decides no parameter.{hint}")
    if problems:
        raise UserError("; ".join(dict.fromkeys(problems)))
    return values


def per_leaf(values: Any, leaf: Any) -> float | np.ndarray:
    """Turns a resolved value into something that broadcasts against its leaf.

    A list (one value per layer) becomes float32[layers, 1, ...]; a single value stays a float.
    """
    if isinstance(values, list):
        return np.asarray(values, np.float32).reshape((-1,) + (1,) * (len(leaf.shape) - 1))
    return float(values)


def count(tree: Any) -> int:
    """Number of scalars in a tree of arrays or shapes."""
    import jax  # Here: workers that read data need this file and no JAX.

    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def _split_range(pattern: str) -> tuple[str, tuple[str, str] | None]:
    match = _LAYER_RANGE.fullmatch(pattern)
    return (match[1], (match[2], match[3])) if match else (pattern, None)


def _clip_range(span: tuple[str, str] | None, depth: int) -> tuple[int, int]:
    start, stop = span or ("", "")
    return int(start or 0), int(stop or depth)


def _fullmatch(pattern: str, path: str, what: str) -> bool:
    try:
        return re.fullmatch(pattern, path) is not None
    except re.error as error:
        raise UserError(f"{what}: {pattern!r} is not a regular expression: {error}") from None
