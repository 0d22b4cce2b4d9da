# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm.load`: a model with its weights, its processor and its task methods."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np

from jvlm import paths, sharding
from jvlm.checkpoint import Checkpoints
from jvlm.config import construct
from jvlm.data import images as images_lib
from jvlm.data.pipeline import collate
from jvlm.data.transforms import compose
from jvlm.errors import UserError
from jvlm.evaluators.common import embed_all, embed_ids, embed_texts
from jvlm.evaluators.templates import expand_templates
from jvlm.evaluators.zero_shot import (
    class_logits,
    class_prompts,
    encoders,
    inverse_temperature,
    prompt_embeddings,
)
from jvlm.models import build_model
from jvlm.precision import Compute, cast_weights, is_matmul_weight
from jvlm.state import split
from jvlm.tokenizers import TOKENIZERS


class Processor:
    """Images and texts to a batch, as the model was trained.

    Args:
      steps: the config's `preprocess`, image transforms.
      tokenizer: or None.

    Attributes:
      steps, tokenizer: as given.
    """

    def __init__(self, steps: Sequence, tokenizer: Any):
        self.steps, self.tokenizer = steps, tokenizer
        self._transform = compose(steps, where="preprocess")

    def __call__(self, images: Sequence | None = None, text: Sequence[str] | None = None) -> dict:
        """Makes a numpy batch.

        Args:
          images: paths, Pillow images or uint8[H, W, 3] arrays.
          text: strings.

        Returns:
          `image` uint8[B, size, size, 3], `text` int32[B, T] and `text_mask` bool[B, T], of what
          was given.
        """
        batch = {}
        if images is not None:
            rng = np.random.default_rng(0)
            rows = [self._transform({"image": images_lib.to_array(i)}, rng) for i in images]
            batch.update(collate(rows))
        if text is not None:
            if self.tokenizer is None or isinstance(text, str):
                reason = "no tokenizer" if self.tokenizer is None else "text: give a list of str"
                raise UserError(f"processor: {reason}")
            batch["text"], batch["text_mask"] = self.tokenizer(text)
        return batch


@dataclasses.dataclass
class Pretrained:
    """A model ready for use.

    Attributes:
      model: Linen module; `model.apply({'params': params}, batch)`.
      params: nested dict.
      config: of the run.
      processor: images and texts -> batch.
      mesh: where it lives.
    """

    model: nn.Module
    params: dict
    config: ml_collections.ConfigDict
    processor: Processor
    mesh: jax.sharding.Mesh

    def embed_images(self, images: Sequence) -> np.ndarray:
        """Images (paths, Pillow images or arrays) -> float32[B, E], unit norm."""
        if isinstance(images, str) or not len(images):
            raise UserError("give a list of images, at least one")
        make = lambda part: self.processor(images=[images[i] for i in part])
        with jax.set_mesh(self.mesh):
            return embed_all(
                self._encoders[0], self.params, make, len(images), self.mesh, batch_size=64
            )

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Strings -> float32[B, E], unit norm."""
        tokenizer = self.processor.tokenizer
        with jax.set_mesh(self.mesh):
            return embed_texts(self._encoders[1], self.params, tokenizer, texts, self.mesh)

    def classify(
        self,
        images: Sequence,
        labels: Sequence[str],
        templates: str | Sequence[str] = ("{}",),
        fill: Mapping[str, Sequence[str]] | None = None,
        ensemble: str = "embeddings",
    ) -> np.ndarray:
        """Zero-shot class probabilities.

        Args:
          images: B paths, Pillow images or arrays.
          labels: C class names.
          templates, fill: prompts, see `evaluators.templates.expand_templates`.
          ensemble: how several prompts count, see `evaluators.zero_shot.class_logits`.

        Returns:
          float32[B, C].
        """
        templates = expand_templates(templates, fill)
        ids = self.processor.tokenizer(class_prompts(labels, templates))
        with jax.set_mesh(self.mesh):
            embed = lambda part: embed_ids(self._encoders[1], self.params, part, self.mesh)
            prompts = prompt_embeddings(embed, ids, len(templates), ensemble)
        scale = inverse_temperature(self.model, self.params)
        logits = class_logits(self.embed_images(images), prompts, scale, ensemble)
        return np.asarray(jax.nn.softmax(logits, axis=-1))

    @functools.cached_property
    def _encoders(self):
        return encoders(self.model, self.mesh)


def load(
    path: str | Path,
    *,
    step: int | str = "best",
    mesh: jax.sharding.Mesh | None = None,
    dtype: str | None = None,
) -> Pretrained:
    """Loads a model for use.

    Args:
      path: a jvlm run directory.
      step: a checkpoint's step, 'best' (by the run's metric) or 'latest'.
      mesh: default one device.
      dtype: of weights and compute; default as trained, float32 weights.

    Raises:
      UserError: not a run, no complete checkpoint, no such step.
    """
    path = Path(path)
    if not (path / "config.json").is_file():
        raise UserError(f"{path}: not a jvlm run (no config.json)")
    config = ml_collections.ConfigDict(json.loads((path / "config.json").read_text()))
    mesh = mesh or sharding.make_mesh(devices=jax.devices()[:1])
    compute = construct(Compute, config.compute, where="compute")
    if dtype is not None:
        compute = dataclasses.replace(compute, dtype=dtype)
    model = build_model(config.model.to_dict(), compute)
    tokenizer = None
    if config.tokenizer:
        if not (path / "tokenizer").is_dir():
            raise UserError(f"{path}: the run's tokenizer/ is missing: copy runs whole")
        tokenizer = TOKENIZERS[config.tokenizer.kind].load(path / "tokenizer")

    with jax.set_mesh(mesh):
        shapes = abstract_params(model, mesh)
        trainable = paths.resolve(config.trainable, paths.flatten(shapes), what="trainable")
        keeping = {k: config.checkpoint[k] for k in ("best", "best_mode") if k in config.checkpoint}
        checkpoints = Checkpoints(path, read_only=True, **keeping)
        step = choose_step(checkpoints, step, path)
        params, frozen = split(shapes, trainable)
        frozen = paths.map_with_path(
            lambda p, s: s.update(dtype=config.compute.dtype) if is_matmul_weight(p) else s, frozen
        )
        params = checkpoints.restore_params(step, params, frozen, ema=bool(config.ema.decay))
        checkpoints.close()
        if dtype is not None:
            params = cast_weights(params, dtype)
    return Pretrained(model, params, config, Processor(config.preprocess, tokenizer), mesh)


def choose_step(checkpoints: Checkpoints, step: int | str, path: Path) -> int:
    """Resolves 'best', 'latest' or a number to a checkpoint that exists."""
    steps = checkpoints.steps()
    if not steps:
        raise UserError(f"{path}: no complete checkpoint")
    if step in ("best", "latest"):
        return checkpoints.best() if step == "best" else checkpoints.latest()
    if step not in steps:
        raise UserError(f"{path}: no checkpoint of step {step}, only of {steps}")
    return step


def abstract_params(model: nn.Module, mesh: jax.sharding.Mesh) -> dict:
    """Shapes and shardings of the parameters, without making any."""
    batch = model.dummy_batch(sharding.batch_shards(mesh))
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
    return jax.tree.map(
        lambda s, place: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place),
        shapes,
        sharding.tree_shardings(shapes, mesh),
    )
