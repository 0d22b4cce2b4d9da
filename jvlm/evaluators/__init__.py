# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of a model on a data set; each evaluator is built once and run on any parameters."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jvlm import progress, sharding
from jvlm.config import construct
from jvlm.data import pipeline
from jvlm.data.sources import build_source
from jvlm.data.transforms import compose, resolve
from jvlm.errors import UserError, did_you_mean
from jvlm.evaluators.classification import Classification
from jvlm.evaluators.grounding import Grounding
from jvlm.evaluators.language import Generate, Rank
from jvlm.evaluators.linear_probe import LinearProbe
from jvlm.evaluators.loss import Loss
from jvlm.evaluators.perplexity import Perplexity
from jvlm.evaluators.predictions import Predictor, write
from jvlm.evaluators.retrieval import Retrieval
from jvlm.evaluators.zero_shot import ZeroShot

EVALUATORS = {
    "classification": Classification,
    "generate": Generate,
    "grounding": Grounding,
    "linear_probe": LinearProbe,
    "loss": Loss,
    "perplexity": Perplexity,
    "rank": Rank,
    "retrieval": Retrieval,
    "zero_shot": ZeroShot,
}


def build_evaluators(section: Mapping, **given: Any) -> dict[str, Any]:
    """Builds a config's `eval.evaluators`: name -> {kind, data, and that kind's options}.

    Args:
      section: the config section. `data` has `source`, `transforms` and `batch_size`; so have
        `train` and `validation` of the kinds that take them.
      **given: `model`, `objective`, `tokenizer`, `mesh`, `preprocess`, the model's own image
        transforms, which the step `("preprocess", {})` stands for, and `generation`, its defaults.

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
        built = construct(cls, options, where=where, batches=batches, **given)
        for other, one in evaluators.items():
            # Before the training: their metrics would have the same names.
            same = isinstance(built, Predictor) and isinstance(one, Predictor)
            if same and (built.task, built.name) == (one.task, one.name):
                raise UserError(f"{where}: {other} gives {built.name}/... too: set another name")
        evaluators[name] = built
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
      fingerprint: what says which data set it is.
      steps: the transforms, with the model's own in their place.
    """

    def __init__(self, source, transforms, batch_size, mesh, tokenizer=None, preprocess=()):
        self.batch_size = batch_size
        self._source = build_source(source, where="eval data source")
        self.class_names = getattr(self._source, "class_names", None)
        self.fingerprint = self._source.fingerprint
        where = "eval data transforms"
        self.steps = resolve(transforms, preprocess, where)
        self._transform = compose(
            self.steps, tokenizer=tokenizer, preprocess=preprocess, where=where
        )
        self._rows = sharding.host_rows(mesh, batch_size)

    def __iter__(self):
        batches = pipeline.eval_batches(self._source, self._transform, self.batch_size, self._rows)
        total = -(-len(self) // self.batch_size)
        return iter(progress.bar(batches, unit="batch", total=total))

    def examples(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Transformed examples as they are, texts among them: the same on every host."""
        found = pipeline.eval_examples(self._source, self._transform, indices, len(indices))
        return list(found)

    def __len__(self) -> int:
        """Examples, not batches."""
        return len(self._source)


def evaluate(
    evaluators: Mapping[str, Any],
    params: Any,
    folder: Path | None = None,
    about: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Runs all evaluators on one set of parameters.

    Args:
      evaluators: from `build_evaluators`.
      params: nested dict.
      folder: gets the predictions of those that make any, `<name>.jsonl`, and what gave them,
        `<name>.settings.json`.
      about: what the settings tell besides: the model, versions, `config`, of which each gets its
        own part.

    Returns:
      metric name -> value.
    """
    metrics: dict[str, float] = {}
    about = about or {}
    for name, evaluator in evaluators.items():
        if isinstance(evaluator, Predictor):
            found = evaluator.predict(params)
            values = evaluator.score(found)
            if folder is not None:
                own = {"metrics": values, "config": about.get("config", {}).get(name)}
                write(folder, name, evaluator, found.rows, {**about, **own})
        else:
            values = evaluator.run(params)
        for metric, value in values.items():
            if metric in metrics:
                raise UserError(f"eval.evaluators.{name}: another one gives {metric} too")
            metrics[metric] = value
    return metrics
