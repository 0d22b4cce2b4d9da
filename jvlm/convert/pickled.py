# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""A system's file as its own code writes it (ALBEF, BLIP): whole, so that it loads `strict=True`.

Such models hold more than their weights: a moving average (`_m`), queues, the numbers of positions,
and what two modules share under both names. The average is that of the run; without one it is the
weights, as at the beginning of the official training. Queues are the run's, or random as at the
beginning. What jvlm does not have because nothing reads it is zero.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jvlm import paths
from jvlm.config import from_dataclass
from jvlm.convert import engine, torch_file
from jvlm.convert.engine import Rule
from jvlm.convert.files import Shapes, Tensors
from jvlm.errors import UserError

NOBODY = -100  # `idx_queue` of both codes at the beginning; any negative number of ours.
# Fields that are no shapes, and that the official code is told or does not need.
FREE = re.compile(
    r".*(num_heads|head_dim|dropout|drop_path|_id|num_types|temperature_init|image_mean|image_std)"
    r"|(text|decoder)/(norm_eps|activation)|prompt"
)


class Reading(NamedTuple):
    """How a code reads a file.

    Attributes:
      config: the model's.
      code: whose tokenizer reads texts, see `opening.Published`.
      max_len: tokens of a text.
      cleaning: text transforms of evaluation.
    """

    config: Any
    code: str
    max_len: int
    cleaning: tuple


class PickledFamily(NamedTuple):
    """A system's own files.

    Attributes:
      name: of the format, for `export`; files are written as `<name>.pth`.
      title: what messages call the system.
      kinds: name of a model -> its config class.
      config_from_tensors: a file -> the config of what it was trained as.
      variants: other ways to read a file.
      read_as: (config, one of `variants` or None) -> `Reading`.
      rules: (config, `momentum`) -> the table of a model, or of its average in the same file.
      skip: config -> patterns of keys that hold nothing to load.
      copies: (config, keys) -> key -> the one whose values it must have.
      averaged: config -> first parts of the keys that have an average.
      absent: (config, shapes) -> shapes of what the official models hold and jvlm does not.
      queues: config -> our name of a queue -> the file's, which has features as columns.
      queue_size: of a queue where there is none.
      config_files: config -> name -> content of what the official code reads besides.
      untied: what to do about a file whose copies are none.
    """

    name: str
    title: str
    kinds: Mapping[str, type]
    config_from_tensors: Callable[[Tensors], Any]
    variants: tuple[str, ...]
    read_as: Callable[[Any, str | None], Reading]
    rules: Callable[..., tuple[Rule, ...]]
    skip: Callable[[Any], tuple[str, ...]]
    copies: Callable[[Any, Iterable[str]], dict[str, str]]
    averaged: Callable[[Any], Collection[str]]
    absent: Callable[[Any, Mapping[str, Sequence[int]]], dict[str, Sequence[int]]]
    queues: Callable[[Any], Mapping[str, str]]
    queue_size: int
    config_files: Callable[[Any], dict[str, dict]]
    untied: str = ""

    @property
    def file(self) -> str:
        """What a file of ours is called."""
        return f"{self.name}.pth"


class Entry(NamedTuple):
    """A tensor that is written."""

    shape: Sequence[int]
    dtype: Any
    make: Callable[[], np.ndarray]


def export(
    folder: Path,
    family: PickledFamily,
    cfg: Any,
    params: Mapping,
    dtype: Any,
    average: Mapping | None,
    queues: Mapping,
    **about: Any,
) -> None:
    """Writes the .pth; config files for the official code, config.json for jvlm.

    Args:
      folder: to write into.
      family: the format.
      cfg: the model's config.
      params: nested dict.
      dtype: of the tensors.
      average: moving averages of some or all of the parameters, or None.
      queues: as the objective keeps them; empty for none.
      about: what config.json says besides.

    Raises:
      UserError: the official code has no such model.
    """
    weights, same = lay_out(family, cfg, params, dtype, average, queues)
    torch_file.write(folder / family.file, ((key, *entry) for key, entry in weights.items()), same)
    files = family.config_files(cfg) | {"config.json": {"model_type": cfg.kind, **about}}
    files["config.json"]["model"] = from_dataclass(cfg)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def lay_out(
    family: PickledFamily,
    cfg: Any,
    params: Mapping,
    dtype: Any,
    average: Mapping | None,
    queues: Mapping,
) -> tuple[dict[str, Entry], dict[str, str]]:
    """(key -> what is written, further key -> the one whose values it has); see `export`."""
    weights = _tensors(family, cfg, params, dtype)
    _check(family, cfg, weights)
    same = family.copies(cfg, weights)
    averaged = family.averaged(cfg)
    twins = {key: _twin(key) for key in (*weights, *same) if key.split(".")[0] in averaged}
    if average is None:
        same |= {twin: same.get(key, key) for key, twin in twins.items()}
    else:
        whole = paths.unflatten(paths.flatten(params) | paths.flatten(average))
        averages = _tensors(family, cfg, whole, dtype)
        same |= {twins[key]: twins[original] for key, original in same.items() if key in twins}
        weights |= {twin: averages[key] for key, twin in twins.items() if key in averages}
    return weights | _queues(family, cfg, queues, dtype), same


def _check(family: PickledFamily, cfg: Any, weights: Mapping[str, Entry]) -> None:
    """Raises UserError where the official code would make another model of the weights."""
    shapes = {key: tuple(entry.shape) for key, entry in weights.items()}
    theirs = family.config_from_tensors(Shapes("the model", shapes))
    ours, theirs = (paths.flatten(from_dataclass(config)) for config in (cfg, theirs))
    lost = [
        f"{key}={ours[key]!r} (only {theirs.get(key)!r})"
        for key in ours
        if ours[key] != theirs.get(key) and not FREE.fullmatch(key)
    ]
    if lost:
        raise UserError(f"{family.title}'s own code cannot express {', '.join(lost)}")


def _tensors(family: PickledFamily, cfg: Any, params: Mapping, dtype: Any) -> dict[str, Entry]:
    """The weights, and what the official models hold besides."""
    table = engine.store(family.rules(cfg), params, dtype)
    entries = {key: Entry(shape, dtype, make) for key, shape, make in table}
    for key in list(entries):
        stem, found, _ = key.partition(".position_embeddings.")
        if found:
            count = entries[key].shape[0]
            numbers = Entry((1, count), np.int64, lambda count=count: np.arange(count))
            entries[f"{stem}.position_ids"] = numbers
    absent = family.absent(cfg, {key: entry.shape for key, entry in entries.items()})
    zeros = lambda shape: Entry(shape, dtype, lambda: np.zeros(shape))
    return entries | {key: zeros(shape) for key, shape in absent.items()}


def _twin(key: str) -> str:
    """What a tensor's average is called."""
    first, _, rest = key.partition(".")
    return f"{first}_m.{rest}"


def _queues(family: PickledFamily, cfg: Any, queues: Mapping, dtype: Any) -> dict[str, Entry]:
    """Features of earlier batches; retrieval keeps whose they are too."""
    names = family.queues(cfg)
    if not names:
        return {}
    size = len(queues["image"]) if queues else family.queue_size

    def features(seed: int) -> np.ndarray:
        drawn = np.random.default_rng(seed).standard_normal((size, cfg.embed_dim), np.float32)
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

    def ids() -> np.ndarray:
        ids = np.asarray(queues.get("image_id", np.full((size, 1), NOBODY)))
        return np.where(ids < 0, NOBODY, ids)

    has = lambda name: name in queues
    columns = (cfg.embed_dim, size)
    entries = {
        "image": Entry(columns, dtype, lambda: queues["image"] if has("image") else features(0)),
        "text": Entry(columns, dtype, lambda: queues["text"] if has("text") else features(1)),
        "image_id": Entry((1, size), np.int64, ids),
        "pointer": Entry((1,), np.int64, lambda: queues.get("pointer", 0)),
    }
    turned = lambda make: lambda: np.asarray(make()).T
    return {
        key: entries[name]._replace(make=turned(entries[name].make)) for name, key in names.items()
    }
