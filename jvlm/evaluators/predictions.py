# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Predictions sample by sample: what is scored, and what is written for others to score again."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jvlm import whole
from jvlm.data.examples import entry
from jvlm.errors import UserError
from jvlm.metrics.tasks import score


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What an evaluator found.

    Attributes:
      rows: of each sample, JSON values with the fields that the task needs.
      extra: metrics that are no matter of the rows, such as a fitted constant.
    """

    rows: Sequence[Mapping[str, Any]]
    extra: Mapping[str, float] = dataclasses.field(default_factory=dict)


class Predictor:
    """An evaluator whose metrics follow from its predictions.

    Attributes:
      task: of `metrics.tasks.TASKS`, by which they are scored.
      name: first part of the metrics' names.
    """

    task: str
    name: str

    def predict(self, params: Any) -> Predictions:
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """What its options came to: prompts, decoding, the data's fingerprint."""
        return {}

    def results(self, rows: Sequence[Mapping[str, Any]]) -> list | None:
        """The rows as a benchmark's server takes them; None where none is asked for."""
        return None

    def run(self, params: Any) -> dict[str, float]:
        """Metric name -> value."""
        return self.score(self.predict(params))

    def score(self, found: Predictions) -> dict[str, float]:
        """The metrics of `predict`'s result."""
        metrics = score(self.task, found.rows, self.name).metrics
        return metrics | {f"{self.name}/{key}": value for key, value in found.extra.items()}


def write(
    folder: Path,
    name: str,
    evaluator: Predictor,
    rows: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
) -> None:
    """Writes `<name>.jsonl`, `<name>.settings.json` and, if asked for, `<name>.results.json`.

    From the first process.

    Raises:
      UserError: the folder cannot be written.
    """
    if jax.process_index():
        return
    settings = {"task": evaluator.task, **about, **evaluator.settings()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        whole.write_lines(folder / f"{name}.jsonl", rows)
        whole.write_json(folder / f"{name}.settings.json", settings)
        results = evaluator.results(rows)
        if results is not None:
            whole.write_json(folder / f"{name}.results.json", results)
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror}") from None


def read_entry(example: Mapping, key: str) -> Any:
    """An entry of an example; 'a/b' is entry b of entry a. Raises UserError if there is none."""
    try:
        return entry(example, key)
    except KeyError:
        raise UserError(f"evaluation: no entry {key!r} in {sorted(example)}") from None


def plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
