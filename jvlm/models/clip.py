# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""CLIP (arXiv:2103.00020): an image tower and a text tower with one embedding space."""

import dataclasses
import math
from collections.abc import Mapping

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jvlm.layers import l2_normalize
from jvlm.layers.image import CLIP_MEAN, CLIP_STD, normalize_image
from jvlm.layers.linear import project
from jvlm.models.towers.text_transformer import TextConfig, TextTransformer
from jvlm.models.towers.vit import ViT, ViTConfig
from jvlm.precision import Compute, read_weight


@dataclasses.dataclass(frozen=True)
class CLIPConfig:
    """Shape of a CLIP.

    Attributes:
      vision, text: the towers.
      embed_dim: E.
      image_mean, image_std: per channel, of pixels in [0, 1]; used for uint8 images.
      logit_scale_init: natural log of the initial inverse temperature.
      logit_bias_init: initial bias of the logits (SigLIP, arXiv:2303.15343); None has no bias.
    """

    vision: ViTConfig
    text: TextConfig
    embed_dim: int
    image_mean: tuple[float, float, float] = CLIP_MEAN
    image_std: tuple[float, float, float] = CLIP_STD
    logit_scale_init: float = math.log(1 / 0.07)
    logit_bias_init: float | None = None


@flax.struct.dataclass
class CLIPOutput:
    """Attributes:
    image_embeds: float32[B, E], unit norm.
    text_embeds: float32[B, E], unit norm.
    logits_per_image: float32[B, B], images in rows, scaled by the temperature.
    """

    image_embeds: jax.Array
    text_embeds: jax.Array
    logits_per_image: jax.Array


class CLIP(nn.Module):
    """Two towers, two projections, one temperature."""

    cfg: CLIPConfig
    compute: Compute = Compute()

    def setup(self):
        cfg = self.cfg
        self.vision = ViT(cfg.vision, self.compute)
        self.text = TextTransformer(cfg.text, self.compute)
        self.vision_proj = Projection(cfg.vision.width, cfg.embed_dim)
        self.text_proj = Projection(cfg.text.width, cfg.embed_dim)
        init = nn.initializers.constant(cfg.logit_scale_init)
        self.logit_scale = read_weight(self, "logit_scale", init, ())
        self._logit_bias = None
        if cfg.logit_bias_init is not None:
            init = nn.initializers.constant(cfg.logit_bias_init)
            self._logit_bias = read_weight(self, "logit_bias", init, ())

    def __call__(self, batch: Mapping[str, jax.Array]) -> CLIPOutput:
        """Embeds both sides of a batch with `image`, `text` and optionally `text_mask`."""
        image = self.encode_image(batch["image"])
        text = self.encode_text(batch["text"], batch.get("text_mask"))
        return CLIPOutput(image, text, self.inverse_temperature() * image @ text.T)

    def encode_image(self, image: jax.Array) -> jax.Array:
        """image uint8 or normalised float[B, H, W, 3] -> float32[B, E], unit norm."""
        image = normalize_image(image, self.cfg.image_mean, self.cfg.image_std)
        return l2_normalize(self.vision_proj(self.vision(image).pooled))

    def encode_text(self, text: jax.Array, text_mask: jax.Array | None = None) -> jax.Array:
        """text int32[B, T], text_mask bool[B, T] -> float32[B, E], unit norm."""
        return l2_normalize(self.text_proj(self.text(text, text_mask).pooled))

    @property
    def vocab_size(self) -> int:
        """Rows of the token table."""
        return self.cfg.text.vocab_size

    def dummy_batch(self, rows: int) -> dict[str, jax.Array]:
        """The smallest batch that `__call__` takes, for initialisation."""
        size = self.cfg.vision.image_size
        height, width = (size, size) if isinstance(size, int) else size
        return {
            "image": jnp.zeros((rows, height, width, 3), jnp.uint8),
            "text": jnp.zeros((rows, self.cfg.text.max_len), jnp.int32),
        }

    def inverse_temperature(self) -> jax.Array:
        """float32 scalar that multiplies cosine similarities."""
        return jnp.exp(self.logit_scale)

    def logit_bias(self) -> jax.Array:
        """float32 scalar that is added to the scaled similarities; 0 where the model has none."""
        return jnp.zeros((), jnp.float32) if self._logit_bias is None else self._logit_bias


class Projection(nn.Module):
    """Linear map into the shared space, without bias; float32 result."""

    in_dim: int
    out_dim: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, D] -> float32[B, E]."""
        init = nn.initializers.normal(self.in_dim**-0.5)
        kernel = read_weight(self, "kernel", init, (self.in_dim, self.out_dim), x.dtype)
        return project(x, kernel)


def _variant(embed_dim: int, vision: tuple, text: tuple, activation: str, head_dim=None, mlp=None):
    size, patch, width, depth = vision
    text_width, text_heads, text_depth = text
    return CLIPConfig(
        ViTConfig(
            size,
            patch,
            width,
            depth,
            width // (head_dim or 64),
            mlp or 4 * width,
            activation=activation,
        ),
        TextConfig(
            49408, 77, text_width, text_depth, text_heads, 4 * text_width, activation=activation
        ),
        embed_dim,
    )


# openai/CLIP clip/model.py and open_clip's model_configs/*.json. The quick gelu belongs to OpenAI's
# weights and to whatever was trained after them; LAION's models have the exact one.
VARIANTS: dict[str, CLIPConfig] = {
    "ViT-B/32": _variant(512, (224, 32, 768, 12), (512, 8, 12), "gelu"),
    "ViT-B/32-quickgelu": _variant(512, (224, 32, 768, 12), (512, 8, 12), "quick_gelu"),
    "ViT-B/16": _variant(512, (224, 16, 768, 12), (512, 8, 12), "gelu"),
    "ViT-B/16-quickgelu": _variant(512, (224, 16, 768, 12), (512, 8, 12), "quick_gelu"),
    "ViT-L/14": _variant(768, (224, 14, 1024, 24), (768, 12, 12), "gelu"),
    "ViT-L/14-quickgelu": _variant(768, (224, 14, 1024, 24), (768, 12, 12), "quick_gelu"),
    "ViT-L/14@336": _variant(768, (336, 14, 1024, 24), (768, 12, 12), "gelu"),
    "ViT-L/14@336-quickgelu": _variant(768, (336, 14, 1024, 24), (768, 12, 12), "quick_gelu"),
    "ViT-H/14": _variant(1024, (224, 14, 1280, 32), (1024, 16, 24), "gelu", 80),
    "ViT-g/14": _variant(1024, (224, 14, 1408, 40), (1024, 16, 24), "gelu", 88, 6144),
    "ViT-bigG/14": _variant(1280, (224, 14, 1664, 48), (1280, 20, 32), "gelu", 104, 8192),
}
