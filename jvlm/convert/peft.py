# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""LoRA adapters in PEFT's format: adapter_config.json and adapter_model.safetensors.

    base_model.model.<module>.lora_A.weight  [r, in]
    base_model.model.<module>.lora_B.weight  [out, r]

Modules are those of transformers' model, which the family's import table names: the rule that makes
a kernel says its tensor, `<module>.weight`. Source: peft tuners/lora, utils/save_and_load.py.

Fused projections (GPT-2's c_attn) have one adapter there and one per part here. Inwards the parts
share A. Outwards the parts' factors are stacked, block-diagonal in B, unless they share A: the same
function at the sum of their ranks.
"""

import collections
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jvlm import adapters, paths, quantise, sharding
from jvlm.convert import engine
from jvlm.convert.engine import OPS, Piece, Rule
from jvlm.convert.files import Pickled, Safetensors, malformed, read_json, write_safetensors
from jvlm.errors import UserError

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
PREFIX = "base_model.model."
_KEY = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_(A|B)(?:\.default)?\.weight")
# Options that change what an adapter computes, and the values with which they do not.
NEUTRAL = {
    "bias": ("none",),
    "lora_bias": (False,),
    "modules_to_save": (None, []),
    "use_dora": (False,),
    "use_qalora": (False,),
    "layer_replication": (None,),
    "trainable_token_indices": (None,),
    "target_parameters": (None, []),
}


class Place(NamedTuple):
    """Where a module's weight goes: a kernel, or a layer of a stacked one, or its part of n."""

    path: str
    layer: int | None
    part: tuple[int, int]


class Factors(NamedTuple):
    """An adapter of one layer: [r, in], [out, r], and the factor on their product."""

    a: np.ndarray
    b: np.ndarray
    scale: float


def load(
    folder: str | Path,
    rules: Sequence[Rule],
    params: Mapping,
    shapes: Mapping,
    mesh: jax.sharding.Mesh,
) -> dict:
    """Puts an adapter beside the kernels of a model.

    Args:
      folder: of the adapter.
      rules: the import table of the model's family.
      params: the model's parameters, without adapters; kernels may be quantised.
      shapes: the model's own, of arrays.
      mesh: where they lie.

    Raises:
      UserError: the adapter is no LoRA, does more than one, or does not fit the model; all that is
        missing or left over.
    """
    folder = Path(folder)
    flat = paths.flatten(params)
    if adapters.layers(flat):
        raise UserError(f"{folder}: the model has an adapter already: merge_adapters() first")
    where = folder / CONFIG
    config = read_json(where)
    if config.get("peft_type") != "LORA":
        raise UserError(f"{where}: peft_type {config.get('peft_type')!r}: jvlm reads LORA")
    for option, values in NEUTRAL.items():
        if option in config and config[option] not in values:
            raise UserError(f"{where}: {option} {config[option]!r}: jvlm reads plain LoRA only")
    kernels = {p: leaf for p, leaf in paths.flatten(shapes).items() if p.endswith("/kernel")}
    with malformed(folder, "not an adapter of PEFT"):
        found = _read(folder, config, _modules(rules, kernels, strict=False))
        made = _assemble(folder, found, kernels, config.get("lora_dropout") or 0.0)
    tree = paths.unflatten(made)
    tree = jax.device_put(tree, sharding.tree_shardings(tree, mesh))
    return paths.unflatten(flat | paths.flatten(tree))


def export(folder: Path, rules: Sequence[Rule], params: Mapping) -> None:
    """Writes a model's adapters.

    Args:
      folder: to write into.
      rules: the import table of the model's family.
      params: the model's.

    Raises:
      UserError: no adapters, or one of a layer that the format does not have.
    """
    flat = paths.flatten(params)
    layers = adapters.layers(flat)
    if not layers:
        raise UserError("export: the model has no adapters to write as PEFT's")
    kernels = {f"{layer}/kernel": _kernel_of(flat, layer) for layer in layers}
    everything = [path for path in flat if path.endswith(("/kernel", "/kernel/q"))]
    everything = {path.removesuffix("/q"): flat[path] for path in everything}
    known = _modules(rules, everything, strict=False)
    modules = {
        module: _join([(place.part, _factors(flat, place)) for place in places])
        for module, places in _modules(rules, kernels).items()
    }
    sizes = {m: (f.a.shape[0], _alpha(f)) for m, f in modules.items()}
    (rank, alpha), _ = collections.Counter(sizes.values()).most_common(1)[0]
    rates = [_decimal(np.max(flat[p])) for p in flat if p.endswith("/lora_dropout")]
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": max(rates, default=0.0),
        "rank_pattern": {re.escape(m): r for m, (r, _) in sizes.items() if r != rank},
        "alpha_pattern": {re.escape(m): a for m, (_, a) in sizes.items() if a != alpha},
        "target_modules": _targets(modules, known),
        "fan_in_fan_out": any(_is_conv1d(p.rule) for p in engine.plan(rules, kernels).values()),
        "use_rslora": False,
        "use_dora": False,
        "bias": "none",
        "modules_to_save": None,
        "init_lora_weights": True,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    tensors = [
        (f"{PREFIX}{module}.lora_{name}.weight", x.shape, lambda x=x: np.ascontiguousarray(x))
        for module, factors in sorted(modules.items())
        for name, x in (("A", factors.a), ("B", factors.b))
    ]
    write_safetensors(folder / WEIGHTS, tensors, np.float32)


def _modules(
    rules: Sequence[Rule], kernels: Mapping[str, Any], strict: bool = True
) -> dict[str, list[Place]]:
    """Names of transformers' modules -> what their weights become; those that are linear."""
    pieces: dict[str, Piece] = {}
    for path, leaf in kernels.items():
        try:
            pieces |= engine.plan(rules, {path: leaf})
        except UserError:
            if strict:
                raise
    modules: dict[str, list[Place]] = {}
    for path, (rule, stacked, keys) in pieces.items():
        axes = len(kernels[path].shape) - stacked
        if len(OPS[rule.op].source_shape((2,) * axes)) != 2:
            continue  # A convolution.
        for layer, key in enumerate(keys):
            place = Place(path, layer if stacked else None, rule.part)
            modules.setdefault(key.removesuffix(".weight"), []).append(place)
    return modules


def _read(
    folder: Path, config: Mapping[str, Any], known: Mapping[str, list[Place]]
) -> dict[Place, Factors]:
    """Every place's share of the adapter."""
    if (folder / WEIGHTS).is_file():
        tensors = Safetensors([folder / WEIGHTS])
    elif (folder / PICKLED).is_file():
        tensors = Pickled([folder / PICKLED])
    else:
        raise UserError(f"{folder}: no {WEIGHTS}")
    pairs: dict[str, dict[str, str]] = {}
    strange = []
    for key in tensors.shapes:
        match = _KEY.fullmatch(key)
        if match and _known_as(match[1], known):
            pairs.setdefault(match[1], {})[match[2]] = key
        else:
            strange.append(key)
    halves = [next(iter(pair.values())) for pair in pairs.values() if len(pair) < 2]
    for what, names in (("has no place in the model for", strange), ("has half of", halves)):
        if names:
            raise UserError(f"{folder}: the adapter {what} {engine.summary(names)}")
    if not pairs:
        raise UserError(f"{folder}: the adapter is empty")
    found = {}
    for module, pair in pairs.items():
        a, b = (np.asarray(tensors.read(pair[name]), np.float32) for name in "AB")
        alpha = _by_pattern(config.get("alpha_pattern") or {}, module, config["lora_alpha"])
        scale = alpha / (math.sqrt(len(a)) if config.get("use_rslora") else len(a))
        for place in known[_known_as(module, known)]:
            index, count = place.part
            found[place] = Factors(a, np.split(b, count)[index], scale)
    return found


def _known_as(module: str, known: Iterable[str]) -> str | None:
    """The table's name of a module: files differ in what stands before it."""
    if module in known:
        return module
    same = [n for n in known if module.endswith(f".{n}") or n.endswith(f".{module}")]
    return same[0] if len(same) == 1 else None


def _by_pattern(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """PEFT's rule (get_pattern_key): the first pattern that matches the end of the name."""
    matches = (v for key, v in patterns.items() if re.match(rf"(.*\.)?({key})$", module))
    return next(matches, default)


def _assemble(
    folder: Path,
    found: Mapping[Place, Factors],
    kernels: Mapping[str, Any],
    rate: float,
) -> dict[str, np.ndarray]:
    """Leaves by path."""
    by_path: dict[str, dict[int | None, Factors]] = {}
    for place, factors in found.items():
        by_path.setdefault(place.path, {})[place.layer] = factors
    made = {}
    for path, layers in by_path.items():
        layer, shape = path.removesuffix("/kernel"), tuple(kernels[path].shape)
        axes = quantise.input_axes(path, len(shape))
        ins, outs = shape[axes[0] : axes[-1] + 1], shape[axes[-1] + 1 :]
        depth = shape[0] if paths.is_stacked(path) else None
        if depth is not None and len(layers) < depth:
            raise UserError(
                f"{folder}: the adapter has {len(layers)} of {depth} layers of {layer}: jvlm "
                "adapts all layers of a stack"
            )
        ranks = {len(factors.a) for factors in layers.values()}
        wrong = [
            factors
            for factors in layers.values()
            if factors.a.shape[1:] != (math.prod(ins),)
            or factors.b.shape != (math.prod(outs), len(factors.a))
        ]
        if len(ranks) > 1 or wrong:
            is_what = f"ranks {sorted(ranks)}" if len(ranks) > 1 else "another shape"
            raise UserError(f"{folder}: the adapter of {layer} {list(shape)} has {is_what}")
        in_order = [layers[index] for index in sorted(layers, key=lambda index: index or 0)]
        leaves = {
            "a": [f.a.T.reshape(*ins, -1) for f in in_order],
            "b": [f.b.T.reshape(-1, *outs) for f in in_order],
            "scale": [np.float32(f.scale) for f in in_order],
        }
        if rate:
            leaves["dropout"] = [np.float32(rate)] * len(in_order)
        for name, values in leaves.items():
            made[f"{layer}/lora_{name}"] = values[0] if depth is None else np.stack(values)
    return made


def _kernel_of(flat: Mapping[str, Any], layer: str) -> jax.ShapeDtypeStruct:
    """Shape of the kernel beside an adapter."""
    a, b = (flat[f"{layer}/lora_{name}"] for name in "ab")
    first = int(paths.is_stacked(f"{layer}/kernel"))
    return jax.ShapeDtypeStruct((*a.shape[:-1], *b.shape[first + 1 :]), a.dtype)


def _factors(flat: Mapping[str, Any], place: Place) -> Factors:
    layer = place.path.removesuffix("/kernel")
    a, b, scale = (
        np.asarray(leaf if place.layer is None else leaf[place.layer], np.float32)
        for leaf in (flat[f"{layer}/lora_{name}"] for name in ("a", "b", "scale"))
    )
    return Factors(a.reshape(-1, a.shape[-1]).T, b.reshape(len(b), -1).T, float(scale))


def _join(parts: Sequence[tuple[tuple[int, int], Factors]]) -> Factors:
    """One adapter for a fused projection of equal parts, some of which may have none."""
    count, (_, first) = parts[0][0][1], parts[0]
    if count == 1:
        return first
    by_index = {index: factors for (index, _), factors in parts}
    alike = lambda f: f.scale == first.scale and np.array_equal(f.a, first.a)
    if len(by_index) == count and all(map(alike, by_index.values())):
        return Factors(first.a, np.concatenate([by_index[i].b for i in range(count)]), first.scale)
    rank, size = sum(len(f.a) for f in by_index.values()), len(first.b)
    b, column = np.zeros((count * size, rank), np.float32), 0
    for index, factors in sorted(by_index.items()):
        columns = slice(column, column + len(factors.a))
        b[index * size : (index + 1) * size, columns] = factors.b * (factors.scale / first.scale)
        column = columns.stop
    return Factors(np.concatenate([f.a for _, f in sorted(by_index.items())]), b, first.scale)


def _decimal(value: float) -> float:
    """A float32 as somebody may have written it."""
    return float(f"{value:.7g}")


def _alpha(factors: Factors) -> float:
    """What PEFT divides by the rank."""
    return _decimal(factors.scale * len(factors.a))


def _targets(modules: Iterable[str], known: Iterable[str]) -> list[str]:
    """The last words of the modules' names, where they name no others; else the names."""
    modules = set(modules)
    words = {module.rpartition(".")[2] for module in modules}
    named = {module for module in known if module.rpartition(".")[2] in words}
    return sorted(words if named == modules else modules)


def _is_conv1d(rule: Rule) -> bool:
    """Whether a weight lies as the kernel does: [in, out]."""
    return OPS[rule.op].source_shape((2, 3)) == (2, 3)
