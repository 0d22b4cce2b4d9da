# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The two models: one writes captions, one says whether captions match."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jvlm import embeddings, sharding
from jvlm.errors import UserError
from jvlm.evaluators.common import jit_on_mesh
from jvlm.generation import make_options
from jvlm.generation.options import with_defaults
from jvlm.generation.weights import is_unstacked, stack_all

NUCLEUS = {"do_sample": True, "top_p": 0.9, "top_k": 50, "repetition_penalty": 1.1}
"""What the paper prefers to beams; the numbers are those of BLIP's `generate(sample=True)`, whose
`top_k` is transformers' default."""


class Captioner:
    """Writes captions.

    Args:
      pretrained: from `jvlm.load`; a model with `captioning`, such as a finetuned `blip_captioner`.
      prompt: what captions go on from; default the model's own.
      options: fields of `generation.Options`. Beams, or `temperature=0`, in place of `NUCLEUS`.

    Attributes:
      facts: what decides the captions, JSON-ready.

    Raises:
      UserError: the model writes no captions, or a bad option.
    """

    def __init__(self, pretrained: Any, prompt: str | None, options: Mapping[str, Any]):
        model = pretrained.model
        text = getattr(model.cfg, "text", None)  # BLIP for retrieval has no decoder.
        if not hasattr(model, "captioning") or not getattr(text, "decoder", True):
            raise UserError(f"--captioner: this {pretrained.name} writes no captions")
        self._pretrained = pretrained
        prompt = pretrained.config.prompt if prompt is None else prompt
        self._prompt = pretrained.prompt_ids([prompt])
        self._options = decoding(model.captioning, options)
        pretrained.check_batch(self._prompt, **self._options)
        texts = self._options.get("allowed_texts", ())
        chosen = {k: v for k, v in self._options.items() if k != "allowed_texts"}
        settings = make_options(chosen, pretrained.generation)
        self._each = settings.num_return_sequences
        decoded = {**dataclasses.asdict(settings), "allowed_texts": list(texts)}
        self.facts = {**_facts(pretrained), "prompt": prompt, "decoding": decoded}

    def __call__(self, image: np.ndarray, first: int) -> list[list[str]]:
        """Captions of uint8[B, H, W, 3], of which the first is image number `first`."""
        rows = len(image)
        batch = {key: np.repeat(value, rows, axis=0) for key, value in self._prompt.items()}
        batch["image"] = image
        texts = self._pretrained.generate_batch(batch, first=first, **self._options)
        texts = [" ".join(text.split()) for text in texts]
        return [texts[row * self._each : (row + 1) * self._each] for row in range(rows)]


class Filter:
    """Says how likely captions match their image.

    Args:
      pretrained: from `jvlm.load`; a model with a matching head.

    Attributes:
      facts: what decides the probabilities, JSON-ready.

    Raises:
      UserError: the model has no such head.
    """

    def __init__(self, pretrained: Any):
        try:
            pretrained.check_match()
        except UserError as error:
            raise UserError(f"--filter: {error}") from None
        self._pretrained, self.facts = pretrained, _facts(pretrained)
        self._states, self._match = _programs(pretrained.model, pretrained.mesh)

    def see(self, image: np.ndarray) -> jax.Array:
        """uint8[B, H, W, 3] -> what `match` reads of the images, once for all their captions."""
        m = self._pretrained
        with jax.set_mesh(m.mesh):
            return self._states(m.params, sharding.put_whole_batch({"image": image}, m.mesh))

    def match(self, states: jax.Array, texts: Sequence[Sequence[str]]) -> list[jax.Array]:
        """Probabilities of captions, any number for each of B images.

        Returns:
          float32[B] of each image's first caption, second caption, ..., still on the device;
          arbitrary where an image has fewer.
        """
        m, found = self._pretrained, []
        for column in range(max(map(len, texts), default=0)):
            row = [own[column] if column < len(own) else "" for own in texts]
            with jax.set_mesh(m.mesh):
                batch = sharding.put_whole_batch(m.processor(text=row), m.mesh)
                found.append(self._match(m.params, {**batch, "states": states}))
        return found


def decoding(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Generation options: the captioner's own, nucleus sampling unless others are asked for."""
    plain = given.get("do_sample") is False or given.get("temperature") == 0
    beams = plain or given.get("num_beams", 1) > 1
    return with_defaults({**({} if beams else NUCLEUS), **given}, defaults)


@functools.cache
def _programs(model: nn.Module, mesh: jax.sharding.Mesh) -> tuple[Callable, Callable]:
    """Compiled (images -> states), (states and texts -> probability of a match)."""

    def states(params, batch):
        return model.apply({"params": params}, batch["image"], method="image_states")

    def match(params, batch):
        inputs = batch["states"], batch["text"], batch["text_mask"]
        logits = model.apply({"params": params}, *inputs, method="pair_logits")
        return jax.nn.softmax(logits, axis=-1)[:, 1]

    return jax.jit(states), jit_on_mesh(match, mesh)


def _facts(pretrained: Any) -> dict[str, Any]:
    if is_unstacked(pretrained.params):  # It has written before.
        pretrained = dataclasses.replace(pretrained, params=stack_all(pretrained.params))
    return {
        "model": pretrained.name,
        "step": pretrained.step,
        "weights": embeddings.fingerprint(pretrained),
    }
