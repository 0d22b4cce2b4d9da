# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What all reference checkpoints share: their record, random weights, batches."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch


@dataclasses.dataclass(frozen=True)
class Reference:
    """A checkpoint as published, and what the published code makes of a batch.

    Attributes:
      path: what `jvlm.load` is given, a folder or a file.
      batch: `image` float32[B, H, W, 3], normalised, `text` int32[B, T] and, where the reference
        reads it or the text is padded, `text_mask` bool[B, T].
      image_embeds, text_embeds: float32[B, E], unit norm.
      logits_per_image: float32[B, B], images in rows, with temperature and bias.
      image_tokens: float32[B, P (+1), D], output of the image tower before pooling, or None.
      text_tokens: float32[B, T, D], output of the text tower before pooling, or None; compare
        where `text_mask` is true.
      other_size: (images, their embeddings) of another resolution than trained, the position
        embeddings resized by the reference, or None.
      kwargs: for `jvlm.load`, where the file says too little.
    """

    path: Path
    batch: Mapping[str, np.ndarray]
    image_embeds: np.ndarray
    text_embeds: np.ndarray
    logits_per_image: np.ndarray
    image_tokens: np.ndarray | None = None
    text_tokens: np.ndarray | None = None
    other_size: tuple[np.ndarray, np.ndarray] | None = None
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def randomize(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Gives every parameter a random value; activations stay of order 1.

    As made, biases are 0, norms 1, and most weights so small that mistakes would not show.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        noise = torch.randn(value.shape, generator=generator)
        value.data.copy_(_random_value(name, noise))
    return model.eval()


@torch.no_grad()
def calibrate(visual: torch.nn.Module, image_size: int) -> None:
    """Sets a ResNet's running statistics to those of random images, and disturbs them a little.

    With any other statistics the images' differences are lost layer by layer. Towers without
    BatchNorm are left alone.
    """
    norms = [m for m in visual.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    if not norms:
        return
    for norm in norms:
        norm.momentum = 1.0
    visual.train()
    visual(image_to_torch(make_image((image_size, image_size), rows=16, seed=2)))
    visual.eval()
    generator = torch.Generator().manual_seed(1)
    for norm in norms:
        noise = torch.randn(2, norm.num_features, generator=generator) / 5
        norm.running_mean.add_(noise[0] * norm.running_var.sqrt())
        norm.running_var.mul_(noise[1].exp())


def _random_value(name, noise):
    parent, _, last = name.rpartition(".")
    if last == "logit_scale":
        return torch.full_like(noise, 3.0)
    if last == "logit_bias":
        return torch.full_like(noise, -4.0)
    # Small, as in trained models: the first norm's epsilon must be right.
    if parent.endswith("patch_embedding") or name == "visual.conv1.weight":
        return noise / 30 * noise[0].numel() ** -0.5
    if "embedding" in name and "LayerNorm" not in name:
        return noise / 30
    if last in ("bias", "in_proj_bias"):
        return noise / 10
    if noise.ndim == 1:
        return 1 + noise / 5
    # OpenAI's projections are [in, out], all else [out, in, ...].
    fan_in = noise.shape[0] if last in ("proj", "text_projection") else noise[0].numel()
    return noise * 1.5 * fan_in**-0.5


def make_image(size: tuple[int, int], rows: int = 5, seed: int = 0) -> np.ndarray:
    """float32[B, H, W, 3], as if normalised: squares of 8 px, and noise.

    Noise alone would be averaged away, and all images look the same to a ResNet.
    """
    rng = np.random.default_rng(seed)
    height, width = size
    squares = rng.normal(size=(rows, -(-height // 8), -(-width // 8), 3))
    squares = squares.repeat(8, 1).repeat(8, 2)[:, :height, :width]
    return (squares + rng.normal(size=squares.shape) / 4).astype(np.float32)


def make_text(length: int, ids: tuple[int, int], end: int, pad: int, start: int | None = None):
    """Five texts of different lengths.

    Args:
      length: T.
      ids: lowest id of the words, and the first one beyond them.
      end: last token of each text.
      pad: what follows.
      start: first token of each text.

    Returns:
      (int32[5, T], bool[5, T], True up to the end-of-text token).
    """
    text = np.random.default_rng(1).integers(*ids, (5, length)).astype(np.int32)
    last = np.linspace(2, length - 1, 5).astype(int)
    for row, at in zip(text, last):
        row[at], row[at + 1 :] = end, pad
    if start is not None:
        text[:, 0] = start
    return text, np.arange(length) <= last[:, None]


def to_torch(batch: Mapping[str, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """(images NCHW, ids int64) of a batch."""
    return image_to_torch(batch["image"]), torch.tensor(batch["text"]).long()


def image_to_torch(image: np.ndarray) -> torch.Tensor:
    """NHWC to NCHW."""
    return torch.tensor(image.transpose(0, 3, 1, 2))


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """float32."""
    return tensor.detach().float().numpy()


def unit(x: torch.Tensor) -> np.ndarray:
    """L2-normalised rows."""
    return to_numpy(x / x.norm(dim=-1, keepdim=True))


def write_json(path: Path, value: Mapping) -> None:
    path.write_text(json.dumps(value, indent=2))
