# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Zero-shot classification with prompt ensembles (CLIP section 3.1)."""

import itertools

import numpy as np

from jvlm.errors import UserError, did_you_mean
from jvlm.evaluators.common import embed_texts, jit_on_mesh, run_rows

ENSEMBLES = ("embeddings", "probabilities")


class ZeroShot:
    """Accuracy of picking the class whose prompts fit best.

    Rows need `image` and `label` (int, the class; -1 rows do not count).

    Args:
      classes: names, in the order of the labels.
      templates: prompts with '{}' for the class name. Other '{name}' fields range over `fill`.
      fill: name -> values; the ensemble takes every combination.
      ensemble: see `class_logits`.
    """

    def __init__(
        self,
        model,
        tokenizer,
        batches,
        mesh,
        classes,
        templates,
        fill=None,
        ensemble="embeddings",
    ):
        if ensemble not in ENSEMBLES:
            raise UserError(f"ensemble {ensemble!r} is unknown.{did_you_mean(ensemble, ENSEMBLES)}")
        self._model, self._ensemble = model, ensemble
        self._tokenizer, self._batches, self._mesh = tokenizer, batches, mesh
        self._classes = list(classes)
        self._prompts = expand_templates(templates, fill or {})
        self._image, self._text = encoders(model, mesh)

    def run(self, params) -> dict[str, float]:
        """{'zero_shot/top1': ..., 'zero_shot/top5': ...}."""
        prompts = prompt_embeddings(
            lambda texts: embed_texts(self._text, params, self._tokenizer, texts, self._mesh),
            self._classes,
            self._prompts,
        )
        scale = inverse_temperature(self._model, params)
        top1, top5, count = 0, 0, 0
        rows = run_rows(self._image, params, self._batches, self._mesh, keep=("label",))
        for embeds, batch in rows:
            counted = batch["label"] >= 0
            logits = class_logits(embeds[counted], prompts, scale, self._ensemble)
            ranked = np.argsort(-logits, axis=-1, kind="stable")
            hits = ranked == batch["label"][counted, None]
            top1, top5 = top1 + hits[:, 0].sum(), top5 + hits[:, :5].sum()
            count += counted.sum()
        return {"zero_shot/top1": float(top1 / count), "zero_shot/top5": float(top5 / count)}


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


def expand_templates(templates, fill) -> list[str]:
    """Every template with every combination of its named fields; '{}' stays."""
    prompts = []
    for template in templates:
        names = [name for name in fill if f"{{{name}}}" in template]
        for values in itertools.product(*(fill[name] for name in names)):
            prompt = template
            for name, value in zip(names, values):
                prompt = prompt.replace(f"{{{name}}}", value)
            prompts.append(prompt)
    return prompts


def prompt_embeddings(embed, classes, prompts) -> np.ndarray:
    """Embeds every prompt of every class.

    Args:
      embed: list of texts -> float32[texts, E], unit norm.
      classes: C names.
      prompts: M templates with '{}'.

    Returns:
      float32[C, M, E].
    """
    texts = [prompt.replace("{}", name) for name in classes for prompt in prompts]
    return embed(texts).reshape(len(classes), len(prompts), -1)


def class_logits(
    images: np.ndarray, prompts: np.ndarray, scale: float, ensemble: str = "embeddings"
) -> np.ndarray:
    """Scores of classes that have several prompts each (CLIP section 3.1.4 knows both ways).

    Args:
      images: float32[B, E], unit norm.
      prompts: float32[C, M, E], unit norm.
      scale: inverse temperature.
      ensemble: 'embeddings' compares with the renormalised mean of a class's prompts, for
        paraphrases; 'probabilities' adds up the probabilities of its prompts, for alternatives
        ('a red seven' or 'a blue seven', never something in between).

    Returns:
      float32[B, C]; their softmax is the class probability.
    """
    if ensemble == "embeddings":
        means = prompts.mean(1)
        return scale * images @ (means / np.linalg.norm(means, axis=-1, keepdims=True)).T
    if ensemble == "probabilities":
        logits = scale * np.einsum("BE,CME->BCM", images, prompts)
        top = logits.max(-1, keepdims=True)
        return np.log(np.exp(logits - top).mean(-1)) + top[:, :, 0]
    raise UserError(f"ensemble {ensemble!r} is unknown.{did_you_mean(ensemble, ENSEMBLES)}")
