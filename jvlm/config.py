# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Config files: loading, command-line overrides, and building objects from their sections.

A config is a Python file with `get_config(arg='')` that returns an ml_collections ConfigDict. Every
section is handed to one constructor, which is how unknown keys are found: what nobody takes is an
error, with the nearest known key.
"""

import ast
import dataclasses
import hashlib
import inspect
import json
import runpy
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from jvlm.errors import UserError, did_you_mean

SECTIONS = [
    "steps",
    "seed",
    "init",
    "model",
    "compute",
    "tokenizer",
    "preprocess",
    "data",
    "objective",
    "trainable",
    "optim",
    "ema",
    "mesh",
    "checkpoint",
    "log",
    "eval",
]
# Sections that a config need not have.
OPTIONAL = ("quantise", "lora")

# What a resumed run may change: how long, how often and on what machine, never what is computed.
CHANGEABLE = (
    "steps",
    "checkpoint.",
    "log.",
    "eval.every_steps",
    "mesh.",
    "compute.remat",
    "compute.query_chunk",
    "compute.unroll",
    "data.workers",
)


def load(spec: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
    """Loads a config file.

    Args:
      spec: 'path/to/file.py' or 'path/to/file.py:args'; without '.py' a name below `configs/`,
        such as 'clip/digits'.
      overrides: 'key.path=value' strings; values are Python literals or plain text.

    Raises:
      UserError: missing file, no `get_config`, unknown key, or a value of another type.
    """
    name, _, arg = spec.partition(":")
    config = call(name, "get_config", arg)
    for override in overrides:
        _override(config, override)
    check_keys(config, [*SECTIONS, *OPTIONAL], where=name)
    return config


def call(name: str, function: str, *arguments: Any, hint: str = "") -> Any:
    """What a function of a config file gives; a generator's items as a list.

    Args:
      name: of the file, as for `load`.
      function: such as 'get_config'.
      *arguments: handed to it.
      hint: what else to do where the file lacks it.

    Raises:
      UserError: missing file or function, or whatever the file raises, in a line.
    """
    path = _find(name)
    # Config files import configs.common; the folder above `configs/` makes that work anywhere.
    root = next((str(p.parent) for p in path.resolve().parents if p.name == "configs"), None)
    if root and root not in sys.path:
        sys.path.append(root)
    try:
        namespace = runpy.run_path(str(path))
        if function not in namespace:
            raise UserError(f"{path}: has no {function}({'arg' if arguments else ''}){hint}")
        value = namespace[function](*arguments)
        return list(value) if inspect.isgenerator(value) else value
    except UserError:
        raise
    except Exception as error:  # A config is the user's code: whatever it raises is said in a line.
        raise UserError(f"{path}: {type(error).__name__}: {error}") from error


def check_keys(section: Mapping, known: Sequence[str], *, where: str) -> None:
    """Raises UserError for keys that are not known."""
    for key in section:
        if key not in known:
            raise UserError(f"{where}: unknown key {key!r}.{did_you_mean(key, known)}")


def check_sections(config: ml_collections.ConfigDict) -> None:
    """Every section is there, none is unknown, and numbers of steps are at least one."""
    check_keys(config, [*SECTIONS, *OPTIONAL], where="config")
    missing = [name for name in SECTIONS if name not in config]
    if missing:
        raise UserError(f"config: missing {', '.join(missing)} (configs/common.py has them all)")
    known = ("every_steps", "evaluators", "picture", "texts")
    check_keys(config.eval, known, where="eval")
    for key in ("steps", "log.every_steps", "eval.every_steps", "checkpoint.every_steps"):
        value = config
        for part in key.split("."):
            value = value.get(part)
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{key} is {value}: give a number of steps, at least 1")


def construct(target: Callable, section: Mapping, *, where: str, **given: Any) -> Any:
    """Calls `target` with a section's entries as keywords, refusing keys that it does not take.

    Args:
      target: class or function.
      section: keyword arguments from the config.
      where: the config key, for messages.
      **given: keywords that code provides; those that `target` does not take are left out.
    """
    check_call(target, section, where=where, given=given)
    parameters = inspect.signature(target).parameters
    return target(**{k: v for k, v in given.items() if k in parameters}, **section)


def check_call(target: Callable, section: Mapping, *, where: str, given: Iterable[str]) -> None:
    """Raises UserError unless `target` takes exactly a section's entries besides `given`."""
    parameters = inspect.signature(target).parameters
    fields = [name for name in parameters if name not in given and name != "self"]
    check_keys(section, fields, where=where)
    missing = [
        name
        for name in fields
        if parameters[name].default is inspect.Parameter.empty and name not in section
    ]
    if missing:
        raise UserError(f"{where}: missing {', '.join(missing)}")


def replace(cls: type, base: Any, fields: Mapping, *, where: str) -> Any:
    """A config dataclass: `base` (or none) with `fields` changed, nested dataclasses included.

    Where a field may hold one of several dataclasses, its section's `kind` says which (their class
    attribute of that name); by default the base's own, or the first.
    """
    fields = dict(fields)
    if "kind" in fields and fields["kind"] == getattr(cls, "kind", None):
        del fields["kind"]
    hints = typing.get_type_hints(cls)
    check_keys(fields, list(hints), where=where)
    values = {}
    for name, value in fields.items():
        options = _dataclasses_of(hints[name])
        if options and isinstance(value, Mapping):
            inner = getattr(base, name) if base is not None else None
            value = dict(value)
            nested = type(inner) if type(inner) in options else options[0]
            if "kind" in value and len(options) > 1:
                kinds = {option.kind: option for option in options}
                kind = value.pop("kind")
                if kind not in kinds:
                    hint = did_you_mean(kind, kinds)
                    raise UserError(f"{where}.{name}.kind {kind!r} is unknown.{hint}")
                nested = kinds[kind]
            inner = inner if type(inner) is nested else None
            value = replace(nested, inner, value, where=f"{where}.{name}")
        values[name] = tuple(value) if isinstance(value, list) else value
    if base is not None:
        return dataclasses.replace(base, **values)
    return construct(cls, values, where=where)


def from_dataclass(config: Any) -> dict[str, Any]:
    """The section from which `replace` makes a config dataclass anew."""
    section = {"kind": config.kind} if hasattr(config, "kind") else {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        section[field.name] = from_dataclass(value) if dataclasses.is_dataclass(value) else value
    return section


def to_dict(config: Any) -> Any:
    """ConfigDict -> plain, JSON-ready dicts and lists."""
    if isinstance(config, Mapping | ml_collections.ConfigDict):
        return {key: to_dict(value) for key, value in config.items()}
    return [to_dict(v) for v in config] if isinstance(config, list | tuple) else config


def digest(config: Any) -> str:
    """A short name of a config's content."""
    text = json.dumps(to_dict(config), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def differing_keys(old: Mapping, new: Mapping) -> list[str]:
    """Keys in which a run's recorded config and a new one differ and may not."""
    old, new = (_flat(to_dict(config)) for config in (old, new))
    changed = [key for key in sorted(old | new) if old.get(key) != new.get(key)]
    return [key for key in changed if not key.startswith(CHANGEABLE)]


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    flat = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}.{key}" if prefix else key))
    return flat


def _find(name: str) -> Path:
    path = Path(name)
    if path.is_file():
        return path
    if path.suffix != ".py":
        here = Path(__file__).resolve().parent
        for folder in (here.parent, here):  # A checkout; an installed wheel.
            if (folder / "configs" / f"{name}.py").is_file():
                return folder / "configs" / f"{name}.py"
    raise UserError(f"config {name}: no such file; give a path, or a name below configs/")


def _override(config: ml_collections.ConfigDict, override: str) -> None:
    key, equals, text = override.partition("=")
    *parents, last = key.split(".")
    node = config
    for parent in parents:
        node = _child(node, parent, key)
    if not equals:
        raise UserError(f"--config.{key}: give a value, --config.{key}=VALUE")
    old = _child(node, last, key)
    if isinstance(old, ml_collections.ConfigDict):
        raise UserError(f"--config.{key} is a section.{did_you_mean('', old)}")
    node[last] = _parse(key, text, old)


def _child(node: Any, name: str, key: str) -> Any:
    if not isinstance(node, ml_collections.ConfigDict) or name not in node:
        options = node if isinstance(node, ml_collections.ConfigDict) else ()
        raise UserError(f"--config.{key}: unknown key {name!r}.{did_you_mean(name, options)}")
    return node[name]


def _parse(key: str, text: str, old: Any) -> Any:
    if isinstance(old, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if isinstance(old, bool) and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if old is not None and type(value) is not type(old):
        raise UserError(f"--config.{key}={text}: expected {type(old).__name__}, like {old!r}")
    return value


def _dataclasses_of(hint: Any) -> list[type]:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return [option for option in options if dataclasses.is_dataclass(option)]
