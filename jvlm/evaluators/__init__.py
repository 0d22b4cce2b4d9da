# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of a model on a data set; each evaluator is built once and run on any parameters."""

import inspect
from collections.abc import Mapping
from typing import Any

from jvlm import progress, sharding
from jvlm.config import construct
from jvlm.data import pipeline
from jvlm.data.sources import build_source
from jvlm.data.transforms import compose
from jvlm.errors import UserError, did_you_mean
from jvlm.evaluators.linear_probe import LinearProbe
from jvlm.evaluators.loss import Loss
from jvlm.evaluators.perplexity import Perplexity
from jvlm.evaluators.retrieval import Retrieval
from jvlm.evaluators.zero_shot import ZeroShot

EVALUATORS = {
    "linear_probe": LinearProbe,
    "loss": Loss,
    "perplexity": Perplexity,
    "retrieval": Retrieval,
    "zero_shot": ZeroShot,
}


def build_evaluators(section: Mapping, **given: Any) -> dict[str, Any]:
    """Builds a config's `eval.evaluators`: name -> {kind, data, and that kind's options}.

    Args:
      section: the config section. `data` has `source`, `transforms` and `batch_size`; so have
        `train` and `validation` of the kinds that take them.
      **given: `model`, `objective`, `tokenizer`, `mesh`, and `preprocess`, the model's own image
        transforms, which the step `("preprocess", {})` stands for.

    Returns:
      name -> evaluator; `run(params)` gives metric name -> float.
    """
    evaluators = {}
    for name, options in section.items():
        where = f"eval.evaluators.{name}"
        options = dict(options)
        cls = _kind(options.pop("kind", ""), where)
        batches = construct(Batches, options.pop("data", {}), where=f"{where}.data", **given)
        for key in {"train", "validation"} & set(options) & _parameters(cls):
            options[key] = construct(Batches, options[key], where=f"{where}.{key}", **given)
        evaluators[name] = construct(cls, options, where=where, batches=batches, **given)
    return evaluators


def need(section: Mapping, what: str) -> bool:
    """Whether an evaluator of `eval.evaluators` asks for `what`, such as the objective."""
    return any(
        what in _parameters(_kind(options.get("kind", ""), f"eval.evaluators.{name}"))
        for name, options in section.items()
    )


def _kind(kind: str, where: str) -> type:
    if kind not in EVALUATORS:
        raise UserError(f"{where}.kind {kind!r} is unknown.{did_you_mean(kind, EVALUATORS)}")
    return EVALUATORS[kind]


def _parameters(cls: type) -> set[str]:
    return set(inspect.signature(cls).parameters)


class Batches:
    """The batches of an evaluation; every iteration runs through the data set once.

    Attributes:
      batch_size: rows of a global batch.
      class_names: the data set's own, in the order of its labels, or None.
    """

    def __init__(self, source, transforms, batch_size, mesh, tokenizer=None, preprocess=()):
        self.batch_size = batch_size
        self._source = build_source(source, where="eval data source")
        self.class_names = getattr(self._source, "class_names", None)
        self._transform = compose(
            transforms, tokenizer=tokenizer, preprocess=preprocess, where="eval data transforms"
        )
        self._rows = sharding.host_rows(mesh, batch_size)

    def __iter__(self):
        batches = pipeline.eval_batches(self._source, self._transform, self.batch_size, self._rows)
        total = -(-len(self) // self.batch_size)
        return iter(progress.bar(batches, unit="batch", total=total))

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
