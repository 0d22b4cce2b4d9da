# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of a model on a data set; each evaluator is built once and run on any parameters."""

from collections.abc import Mapping
from typing import Any

from jvlm import sharding
from jvlm.config import construct
from jvlm.data import pipeline
from jvlm.data.sources import build_source
from jvlm.data.transforms import compose
from jvlm.errors import UserError, did_you_mean
from jvlm.evaluators.loss import Loss
from jvlm.evaluators.retrieval import Retrieval
from jvlm.evaluators.zero_shot import ZeroShot

EVALUATORS = {"loss": Loss, "retrieval": Retrieval, "zero_shot": ZeroShot}


def build_evaluators(section: Mapping, **given: Any) -> dict[str, Any]:
    """Builds a config's `eval.evaluators`: name -> {kind, data, and that kind's options}.

    Args:
      section: the config section. `data` has `source`, `transforms` and `batch_size`.
      **given: `model`, `objective`, `tokenizer`, `mesh`.

    Returns:
      name -> evaluator; `run(params)` gives metric name -> float.
    """
    evaluators = {}
    for name, options in section.items():
        where = f"eval.evaluators.{name}"
        options = dict(options)
        kind = options.pop("kind", "")
        if kind not in EVALUATORS:
            raise UserError(f"{where}.kind {kind!r} is unknown.{did_you_mean(kind, EVALUATORS)}")
        data = options.pop("data", {})
        batches = construct(Batches, data, where=f"{where}.data", **given)
        evaluators[name] = construct(
            EVALUATORS[kind], options, where=where, batches=batches, **given
        )
    return evaluators


class Batches:
    """The batches of an evaluation; every iteration runs through the data set once.

    Attributes:
      batch_size: rows of a global batch.
    """

    def __init__(self, source, transforms, batch_size, mesh, tokenizer=None):
        self.batch_size = batch_size
        self._source = build_source(source, where="eval data source")
        self._transform = compose(transforms, tokenizer=tokenizer, where="eval data transforms")
        self._rows = sharding.host_rows(mesh, batch_size)

    def __iter__(self):
        return pipeline.eval_batches(self._source, self._transform, self.batch_size, self._rows)

    def __len__(self) -> int:
        """Examples, not batches."""
        return len(self._source)


def evaluate(evaluators: Mapping[str, Any], params: Any) -> dict[str, float]:
    """Runs all evaluators on one set of parameters; metric name -> value."""
    metrics: dict[str, float] = {}
    for name, evaluator in evaluators.items():
        for metric, value in evaluator.run(params).items():
            if metric in metrics:
                raise UserError(f"eval.evaluators.{name}: another one gives {metric} too")
            metrics[metric] = value
    return metrics
