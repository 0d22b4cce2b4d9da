# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Zero-shot classification with prompt ensembles (CLIP section 3.1)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jvlm.errors import UserError, did_you_mean
from jvlm.evaluators.common import embed_ids, jit_on_mesh, run_rows
from jvlm.evaluators.predictions import Predictions, Predictor
from jvlm.evaluators.templates import expand_templates, resolve_classes

ENSEMBLES = ("embeddings", "probabilities")


class ZeroShot(Predictor):
    """Accuracy of picking the class whose prompts fit best: zero_shot/top1, top5, mean_per_class.

    Rows need `image` and `label` (int, the class; -1 rows do not count).

    Args:
      classes: see `templates.resolve_classes`.
      templates, fill: see `templates.expand_templates`.
      ensemble: see `class_logits`.
      name: first part of the metrics' names.
    """

    task = "classification"

    def __init__(
        self,
        model,
        tokenizer,
        batches,
        mesh,
        classes="dataset",
        templates=("{}",),
        fill=None,
        ensemble="embeddings",
        name="zero_shot",
    ):
        check_ensemble(ensemble)
        if tokenizer is None:
            raise UserError("zero_shot: the model has no tokenizer")
        self._model, self._ensemble, self.name = model, ensemble, name
        self._tokenizer, self._batches, self._mesh = tokenizer, batches, mesh
        self._classes = resolve_classes(classes, batches.class_names)
        self._templates = expand_templates(templates, fill)
        self._text = encoders(model, mesh)[1]

        def predict(inputs, batch):
            params, prompts, scale = inputs
            images = model.apply({"params": params}, batch["image"], method="encode_image")
            logits = class_logits(images, prompts, scale, ensemble)
            return jax.lax.top_k(logits, min(5, len(self._classes)))[1]

        self._predict = jit_on_mesh(predict, mesh)

    def predict(self, params) -> Predictions:
        """Of each labelled image the five likeliest classes."""
        prompts = prompt_embeddings(
            lambda ids: embed_ids(self._text, params, ids, self._mesh),
            self._ids,
            len(self._templates),
            self._ensemble,
        )
        inputs = (params, prompts, inverse_temperature(self._model, params))
        rows = run_rows(self._predict, inputs, self._batches, self._mesh, keep=("label",))
        predicted, labels = zip(*((out, batch["label"]) for out, batch in rows))
        predicted, labels = np.concatenate(predicted), np.concatenate(labels)
        if not -1 < labels.max() < len(self._classes):
            raise UserError(
                f"zero_shot: labels up to {labels.max()}, but {len(self._classes)} class names"
            )
        return Predictions(
            [
                {
                    "id": place,
                    "prediction": predicted[place].tolist(),
                    "label": int(labels[place]),
                    "predicted_class": self._classes[predicted[place, 0]],
                    "class": self._classes[labels[place]],
                }
                for place in np.flatnonzero(labels >= 0).tolist()
            ]
        )

    def settings(self):
        return {
            "data": getattr(self._batches, "fingerprint", None),
            "classes": self._classes,
            "templates": self._templates,
            "ensemble": self._ensemble,
        }

    @functools.cached_property
    def _ids(self):
        """Every prompt's token ids: 80,000 of ImageNet, made once however often a run evaluates."""
        return self._tokenizer(class_prompts(self._classes, self._templates))


def encoders(model, mesh):
    """Compiled (image, text) encoders of a two-tower model, as `fn(params, batch)`."""

    def image(params, batch):
        return model.apply({"params": params}, batch["image"], method="encode_image")

    def text(params, batch):
        args = (batch["text"], batch["text_mask"])
        return model.apply({"params": params}, *args, method="encode_text")

    return jit_on_mesh(image, mesh), jit_on_mesh(text, mesh)


def inverse_temperature(model, params) -> float:
    """What multiplies the model's cosine similarities."""
    return float(model.apply({"params": params}, method="inverse_temperature"))


def check_ensemble(ensemble: str) -> None:
    """Raises UserError unless it is one of `ENSEMBLES`."""
    if ensemble not in ENSEMBLES:
        raise UserError(f"ensemble {ensemble!r} is unknown.{did_you_mean(ensemble, ENSEMBLES)}")


def class_prompts(classes, templates) -> list[str]:
    """Every class name in every template, class by class."""
    return [template.replace("{}", name) for name in classes for template in templates]


def prompt_embeddings(embed, ids, per_class: int, ensemble: str) -> np.ndarray:
    """Embeds the prompts of all classes, some thousand at a time.

    Args:
      embed: (ids, masks) -> float32[N, E], unit norm.
      ids: (int32[C * M, T], bool[C * M, T]), from `class_prompts`.
      per_class: M.
      ensemble: see `class_logits`.

    Returns:
      What `class_logits` takes: float32[C, E], the renormalised means of a class's prompts, for
      'embeddings', float32[C, M, E] for 'probabilities'.
    """
    step = per_class * max(1, 8192 // per_class)
    classes = []
    for start in range(0, len(ids[0]), step):
        embeds = embed(tuple(array[start : start + step] for array in ids))
        embeds = embeds.reshape(-1, per_class, embeds.shape[-1])
        if ensemble == "embeddings":
            embeds = embeds.mean(axis=1)
            embeds /= np.linalg.norm(embeds, axis=-1, keepdims=True)
        classes.append(embeds)
    return np.concatenate(classes)


def class_logits(images, prompts, scale, ensemble: str = "embeddings") -> jax.Array:
    """Scores of classes that have several prompts each (CLIP section 3.1.4 knows both ways).

    Args:
      images: float32[B, E], unit norm.
      prompts: from `prompt_embeddings`.
      scale: inverse temperature.
      ensemble: 'embeddings' compares with the renormalised mean of a class's prompts, for
        paraphrases; 'probabilities' adds up the probabilities of its prompts, for alternatives
        ('a red seven' or 'a blue seven', never something in between).

    Returns:
      float32[B, C]; their softmax is the class probability.
    """
    check_ensemble(ensemble)
    highest = jax.lax.Precision.HIGHEST
    if ensemble == "embeddings":
        return scale * jnp.matmul(images, prompts.T, precision=highest)
    logits = scale * jnp.einsum("BE,CME->BCM", images, prompts, precision=highest)
    return jax.nn.logsumexp(logits, axis=-1) - np.log(prompts.shape[1])
