# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Zero-shot classification with prompt ensembles (CLIP section 3.1)."""

import itertools

import numpy as np

from jvlm.evaluators.common import embed_texts, jit_on_mesh, run_rows


class ZeroShot:
    """Accuracy of picking the class whose prompts are nearest.

    Rows need `image` and `label` (int, the class; -1 rows do not count).

    Args:
      classes: names, in the order of the labels.
      templates: prompts with '{}' for the class name. Other '{name}' fields range over `fill`.
      fill: name -> values; the ensemble takes every combination.
    """

    def __init__(self, model, tokenizer, batches, mesh, classes, templates, fill=None):
        self._tokenizer, self._batches, self._mesh = tokenizer, batches, mesh
        self._classes = list(classes)
        self._prompts = expand_templates(templates, fill or {})
        self._image, self._text = encoders(model, mesh)

    def run(self, params) -> dict[str, float]:
        """{'zero_shot/top1': ..., 'zero_shot/top5': ...}."""
        weights = class_embeddings(
            lambda texts: embed_texts(self._text, params, self._tokenizer, texts, self._mesh),
            self._classes,
            self._prompts,
        )
        top1, top5, count = 0, 0, 0
        for embeds, batch in run_rows(self._image, params, self._batches, self._mesh):
            counted = batch["label"] >= 0
            ranked = np.argsort(-embeds[counted] @ weights.T, axis=-1, kind="stable")
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


def class_embeddings(embed, classes, prompts) -> np.ndarray:
    """Mean of the unit embeddings of a class's prompts, brought back to unit length.

    Args:
      embed: list of C * M texts -> float32[C * M, E].
      classes: C names.
      prompts: M templates with '{}'.

    Returns:
      float32[C, E].
    """
    texts = [prompt.replace("{}", name) for name in classes for prompt in prompts]
    means = embed(texts).reshape(len(classes), len(prompts), -1).mean(1)
    return means / np.linalg.norm(means, axis=-1, keepdims=True)
