# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Every tensor of every published checkpoint: `tests/golden/shapes/<source>.tsv`.

One column per model. The first rows are its name, where its config is known from, the config as
JSON, and the number of parameters; then its tensors, `-` where a model has none. In
`layers.{0..}.fc1.bias` the braces stand for consecutive numbers from 0 on, `12*3072` for twelve
tensors of that shape; `ln.{bias,weight}` are two tensors.

`python -m tests.parity.make_shapes` writes these files anew.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Iterable, Mapping

FOLDER = pathlib.Path(__file__).parent / "golden" / "shapes"


@dataclasses.dataclass(frozen=True)
class Published:
    """A published checkpoint.

    Attributes:
      origin: where `config` was read, or 'memory'.
      config: as its config file says it; for files without one, what the official code knows by
        the model's name.
      parameters: number of trained values, statistics and buffers not counted.
      tensors: key -> shape, of all that the file holds.
    """

    origin: str
    config: dict
    parameters: int
    tensors: dict[str, tuple[int, ...]]


def read(source: str) -> dict[str, Published]:
    """The models of one source: 'hf_clip', 'openai', 'open_clip', ...

    Returns:
      Model name -> what was published.
    """
    lines = (FOLDER / f"{source}.tsv").read_text(encoding="utf-8").splitlines()
    (_, *names), (_, *origins), (_, *configs), (_, *counts), *rows = (x.split("\t") for x in lines)
    models = {}
    for i, name in enumerate(names):
        tensors = {}
        for pattern, *cells in rows:
            tensors.update(_expand(pattern, cells[i]))
        models[name] = Published(origins[i], json.loads(configs[i]), int(counts[i]), tensors)
    return models


def table(models: Mapping[str, Published]) -> str:
    """The text of a source's file."""
    columns = [_collapse(m.tensors) for m in models.values()]
    keys = sorted({key for column in columns for key in column}, key=_natural)
    alike = {}  # Bias, weight and statistics of a norm share a row.
    for key in keys:
        stem, dot, last = key.rpartition(".")
        cells = tuple(column.get(key, "-") for column in columns)
        alike.setdefault((stem + dot, cells), []).append(last)
    rows = [
        ["model", *models],
        ["origin", *(m.origin for m in models.values())],
        ["config", *(json.dumps(m.config, separators=(",", ":")) for m in models.values())],
        ["parameters", *(str(m.parameters) for m in models.values())],
        *(
            [stem + (last[0] if len(last) == 1 else f"{{{','.join(last)}}}"), *cells]
            for (stem, cells), last in alike.items()
        ),
    ]
    return "".join("\t".join(row) + "\n" for row in rows)


def _expand(pattern: str, cell: str) -> Iterable[tuple[str, tuple[int, ...]]]:
    if cell == "-":
        return
    count, _, shape = cell.rpartition("*")
    shape = tuple(int(size) for size in shape.split(",")) if shape != "scalar" else ()
    stem, alike = re.fullmatch(r"(.*?)(?:\{([\w,]+)\})?", pattern).groups()
    for last in alike.split(",") if alike else [""]:
        if not count:
            yield stem + last, shape
            continue
        head, first, tail = re.fullmatch(r"(.*)\{(\d+)\.\.\}(.*)", stem + last).groups()
        for i in range(int(first), int(first) + int(count)):
            yield f"{head}{i}{tail}", shape


def _collapse(tensors: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Joins tensors that differ in a layer's number only."""
    groups = {}
    for key, shape in tensors.items():
        head, number, tail = re.fullmatch(r"(.*?\.)(\d+)(\..*)|.*", key).groups()
        # Not a layer: the two halves of a ResNet's `downsample`.
        if number is None or head.endswith("downsample."):
            groups[key] = [(None, shape)]
        else:
            groups.setdefault((head, tail), []).append((int(number), shape))
    cells = {}
    for group, members in groups.items():
        while members:
            first, shape = members[0]
            text = ",".join(map(str, shape)) or "scalar"
            if first is None:
                cells[group], members = text, []
                continue
            run = 0
            while run < len(members) and members[run] == (first + run, shape):
                run += 1
            cells[f"{group[0]}{{{first}..}}{group[1]}"] = f"{run}*{text}"
            members = members[run:]
    return cells


def _natural(key: str) -> list:
    return [part.zfill(3) if part.isdigit() else part for part in re.split(r"(\d+)", key)]
