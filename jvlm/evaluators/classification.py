# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which of a few classes a model sees in image and text (SNLI-VE, NLVR2)."""

from collections.abc import Sequence

import jax
import numpy as np

from jvlm.errors import UserError
from jvlm.evaluators.common import jit_on_mesh, run_rows
from jvlm.evaluators.predictions import Predictions, Predictor, plain
from jvlm.metrics.tasks import TASKS, find_task

_INPUTS = ("image", "text", "text_mask")


class Classification(Predictor):
    """The likeliest class of each row, scored by a task.

    Rows need what the model reads and `label` (int, the class; -1 rows do not count).

    Args:
      task: of `metrics.tasks.TASKS`: 'snli_ve', 'nlvr2', or 'classification' for all others.
      classes: names of the classes; default the data set's own, or else their numbers.
      fields: further entries of the rows, numbers, that the task looks at, such as `sentence`.
      name: first part of the metrics' names; default the task.
    """

    def __init__(
        self,
        model,
        batches,
        mesh,
        task: str,
        classes: Sequence[str] | None = None,
        fields: Sequence[str] = (),
        name: str | None = None,
    ):
        if {"prediction", "label"} != find_task(task).needs.keys():
            raise UserError(f"{name or task}: {task} is no task of labels")
        count = getattr(model.cfg, "num_classes", None)
        if count is None:
            raise UserError(f"{name or task}: the model has no classes: take one that classifies")
        names = classes or getattr(batches, "class_names", None) or range(count)
        if len(names) != count:
            raise UserError(f"{name or task}: {len(names)} names, the model has {count} classes")
        self.task, self.name = task, name or task
        self._names, self._fields = list(names), tuple(fields)
        self._batches, self._mesh = batches, mesh

        def scores(params, batch):
            inputs = {key: batch[key] for key in _INPUTS if key in batch}
            return jax.nn.log_softmax(model.apply({"params": params}, inputs).logits)

        self._scores = jit_on_mesh(scores, mesh)

    def predict(self, params) -> Predictions:
        """Of each labelled row the class, or all from the likeliest on, and their log-odds."""
        keep = ("label", *self._fields)
        results = list(run_rows(self._scores, params, self._batches, self._mesh, keep=keep))
        scores = np.concatenate([out for out, _ in results])
        columns = {key: np.concatenate([kept[key] for _, kept in results]) for key in keep}
        labels = columns.pop("label")
        if not np.isfinite(scores).all():
            raise UserError(f"{self.name}: scores are not finite, nor are the weights then")
        if labels.max() < 0:
            raise UserError(f"{self.name}: no row has a label: take a split that has them")
        if labels.max() >= len(self._names):
            raise UserError(
                f"{self.name}: labels up to {labels.max()}, but {len(self._names)} classes"
            )
        ranked = np.argsort(-scores, axis=1, kind="stable")
        several = TASKS[self.task].needs["prediction"].startswith("a list")
        rows = []
        for place in np.flatnonzero(labels >= 0).tolist():
            order = [self._names[number] for number in ranked[place]]
            row = {"id": place, "prediction": order if several else order[0]}
            row |= {"label": self._names[labels[place]], "scores": scores[place].tolist()}
            rows.append(row | {key: plain(column[place]) for key, column in columns.items()})
        return Predictions(rows)

    def settings(self):
        return {"data": getattr(self._batches, "fingerprint", None), "classes": self._names}
