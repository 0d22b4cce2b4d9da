# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Logistic regression on frozen image features (CLIP section 3.2, appendix A.3)."""

import warnings
from collections.abc import Callable, Mapping

import numpy as np

from jvlm.errors import UserError, did_you_mean
from jvlm.evaluators.common import jit_on_mesh, run_rows
from jvlm.evaluators.predictions import Predictions, Predictor

FEATURES = ("embedding", "pooled")
_STEPS_PER_DECADE, _DECADES = 8, 6


class LinearProbe(Predictor):
    """Accuracy of scikit-learn's L-BFGS logistic regression: linear_probe/top1, mean_per_class, C.

    Rows of `data`, `train` and `validation` need `image` and `label` (int; -1 rows do not count).

    Args:
      train: what is fitted.
      validation: where `C='sweep'` looks for the best C; it is fitted too in the end, as in the
        paper. Default a fifth of `train`.
      features: 'embedding' as in openai/CLIP README.md, projected and not normalised; 'pooled' as
        in the paper, before the projection.
      C: inverse strength of the L2 regularisation; 0.316 is openai/CLIP README.md's, for CIFAR-100.
        'sweep' determines it as the paper does.
      max_iter: the README's and the paper's 1,000.
      name: first part of the metrics' names.
    """

    task = "classification"

    def __init__(
        self,
        model,
        batches,
        mesh,
        train,
        validation=None,
        features="embedding",
        C=0.316,
        max_iter=1000,
        name="linear_probe",
    ):
        if features not in FEATURES:
            raise UserError(f"features {features!r} are unknown.{did_you_mean(features, FEATURES)}")
        if C != "sweep" and (isinstance(C, str) or not C > 0):
            raise UserError(f"linear_probe: C is {C!r}: give a positive number or 'sweep'")
        self._test, self._train, self._validation = batches, train, validation
        self._mesh, self._C, self._max_iter, self.name = mesh, C, max_iter, name

        def encode(params, batch):
            args = (batch["image"], features == "embedding")
            return model.apply({"params": params}, *args, method="image_features")

        self._encode = jit_on_mesh(encode, mesh)

    def predict(self, params) -> Predictions:
        """Of each labelled test image the class."""
        train, test = self._examples(params, self._train), self._examples(params, self._test)
        C, known = self._C, train
        if self._validation is not None:
            held_out = self._examples(params, self._validation)
            known = tuple(np.concatenate(pair) for pair in zip(train, held_out))
        if C == "sweep":
            if self._validation is None:
                train, held_out = _hold_out(*train)
            C = sweep(lambda C: self._fit(*train, C).score(*held_out))
        predicted = self._fit(*known, C).predict(test[0])
        rows = [
            {"id": place, "prediction": [int(guess)], "label": int(label)}
            for place, (guess, label) in enumerate(zip(predicted, test[1]))
        ]
        return Predictions(rows, {"C": float(C)})

    def settings(self):
        sets = {"data": self._test, "train": self._train, "validation": self._validation}
        return {key: getattr(batches, "fingerprint", None) for key, batches in sets.items()}

    def _examples(self, params, batches) -> tuple[np.ndarray, np.ndarray]:
        """(features float32[N, D], labels int[N]) of a data set."""
        rows = run_rows(self._encode, params, batches, self._mesh, keep=("label",))
        features, labels = zip(*((out.astype(np.float32), kept["label"]) for out, kept in rows))
        features, labels = np.concatenate(features), np.concatenate(labels)
        if len(np.unique(labels[labels >= 0])) < 1 + (batches is self._train):
            raise UserError("linear_probe: fewer than two classes among the labels")
        return features[labels >= 0], labels[labels >= 0]

    def _fit(self, features, labels, C):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        with warnings.catch_warnings():
            # The protocol stops at so many iterations, converged or not.
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe = LogisticRegression(C=C, max_iter=self._max_iter, random_state=0)
            return probe.fit(features, labels)


def sweep(score: Callable[[float], float]) -> float:
    """The C with the best score, by the paper's search over 10^-6 ... 10^6, 8 steps a decade.

    It starts with every second decade and halves the step around the peak until the resolution is
    reached: 15 fits instead of 97. Of equal scores the smaller C counts, the simpler model.

    Args:
      score: C -> accuracy on the validation split.
    """
    end = _DECADES * _STEPS_PER_DECADE
    scores: dict[int, float] = {}
    step, candidates = 2 * _STEPS_PER_DECADE, range(-end, end + 1, 2 * _STEPS_PER_DECADE)
    while step:
        for place in candidates:
            if abs(place) <= end and place not in scores:
                scores[place] = score(10.0 ** (place / _STEPS_PER_DECADE))
        peak = _peak(scores)
        step //= 2
        candidates = (peak - step, peak + step)
    return 10.0 ** (peak / _STEPS_PER_DECADE)


def _peak(scores: Mapping[int, float]) -> int:
    return max(sorted(scores), key=scores.__getitem__)


def _hold_out(features: np.ndarray, labels: np.ndarray):
    """(train, validation), a fixed random fifth held out; the paper does not say how it splits."""
    order = np.random.RandomState(0).permutation(len(labels))
    held = order[: -(-len(labels) // 5)]
    left = np.setdiff1d(order, held)
    return (features[left], labels[left]), (features[held], labels[held])
