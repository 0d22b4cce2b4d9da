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

from jvlm.errors import UserError
from jvlm.layers import l2_normalize
from jvlm.layers.image import CLIP_MEAN, CLIP_STD, dummy_image, normalize_image
from jvlm.layers.linear import project
from jvlm.models.towers import IMAGE_TOWERS, TEXT_TOWERS
from jvlm.models.towers.bert import BertConfig
from jvlm.models.towers.resnet import ResNetConfig
from jvlm.models.towers.text_transformer import TextConfig
from jvlm.models.towers.vit import ViTConfig
from jvlm.precision import Compute, read_weight

PROJECTIONS = ("linear", "affine", "none")


@dataclasses.dataclass(frozen=True)
class CLIPConfig:
    """Shape of a CLIP.

    Attributes:
      vision, text: the towers, in any combination; `kind` in a config section chooses.
      embed_dim: E.
      vision_proj, text_proj: from a tower's pooled vector into the shared space: 'linear' (no
        bias), 'affine', or 'none', where the tower's width is E (SigLIP's images).
      image_mean, image_std: per channel, of pixels in [0, 1]; used for uint8 images. None in a
        checkpoint that does not say.
      logit_scale_init: natural log of the initial inverse temperature.
      logit_bias_init: initial bias of the logits (SigLIP); None for a model without.
    """

    vision: ViTConfig | ResNetConfig
    text: TextConfig | BertConfig
    embed_dim: int
    vision_proj: str = "linear"
    text_proj: str = "linear"
    image_mean: tuple[float, float, float] | None = CLIP_MEAN
    image_std: tuple[float, float, float] | None = CLIP_STD
    logit_scale_init: float = math.log(1 / 0.07)
    logit_bias_init: float | None = None

    def __post_init__(self):
        for side in ("vision", "text"):
            kind, width = getattr(self, f"{side}_proj"), getattr(self, side).pooled_width
            if kind not in PROJECTIONS:
                raise UserError(f"model.{side}_proj {kind!r} is unknown, choose from {PROJECTIONS}")
            if kind == "none" and width != self.embed_dim:
                raise UserError(
                    f"model.{side}_proj 'none': the tower is {width} wide, embed_dim is "
                    f"{self.embed_dim}"
                )


@flax.struct.dataclass
class CLIPOutput:
    """Attributes:
    image_embeds: float32[B, E], unit norm.
    text_embeds: float32[B, E], unit norm.
    logits_per_image: float32[B, B], images in rows, scaled by the temperature, plus the bias.
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
        self.vision = IMAGE_TOWERS[type(cfg.vision)](cfg.vision, self.compute)
        self.text = TEXT_TOWERS[type(cfg.text)](cfg.text, self.compute)
        if cfg.vision_proj != "none":
            bias = cfg.vision_proj == "affine"
            self.vision_proj = Projection(cfg.vision.pooled_width, cfg.embed_dim, bias)
        if cfg.text_proj != "none":
            bias = cfg.text_proj == "affine"
            self.text_proj = Projection(cfg.text.pooled_width, cfg.embed_dim, bias)
        init = nn.initializers.constant(cfg.logit_scale_init)
        self.scale = read_weight(self, "logit_scale", init, ())
        if cfg.logit_bias_init is not None:
            init = nn.initializers.constant(cfg.logit_bias_init)
            self.bias = read_weight(self, "logit_bias", init, ())

    def __call__(self, batch: Mapping[str, jax.Array]) -> CLIPOutput:
        """Embeds both sides of a batch with `image`, `text` and optionally `text_mask`."""
        image = self.encode_image(batch["image"])
        text = self.encode_text(batch["text"], batch.get("text_mask"))
        logits = self.inverse_temperature() * image @ text.T + self.logit_bias()
        return CLIPOutput(image, text, logits)

    def encode_image(self, image: jax.Array) -> jax.Array:
        """image uint8 or normalised float[B, H, W, 3] -> float32[B, E], unit norm."""
        return l2_normalize(self.image_features(image, projected=True))

    def encode_text(self, text: jax.Array, text_mask: jax.Array | None = None) -> jax.Array:
        """text int32[B, T], text_mask bool[B, T] -> float32[B, E], unit norm."""
        pooled = self.text(text, text_mask).pooled
        return l2_normalize(pooled if self.cfg.text_proj == "none" else self.text_proj(pooled))

    def image_features(self, image: jax.Array, projected: bool = False) -> jax.Array:
        """image -> float[B, D] before the projection, or float32[B, E] after it, not normalised."""
        image = normalize_image(image, self.cfg.image_mean, self.cfg.image_std)
        pooled = self.vision(image).pooled
        if not projected or self.cfg.vision_proj == "none":
            return pooled
        return self.vision_proj(pooled)

    @property
    def vocab_size(self) -> int:
        """Rows of the token table."""
        return self.cfg.text.vocab_size

    def dummy_batch(self, rows: int) -> dict[str, jax.Array]:
        """The smallest batch that `__call__` takes, for initialisation."""
        return {
            "image": dummy_image(self.cfg.vision.image_size, rows),
            "text": jnp.zeros((rows, self.cfg.text.max_len), jnp.int32),
        }

    def inverse_temperature(self) -> jax.Array:
        """float32 scalar that multiplies cosine similarities."""
        return jnp.exp(self.scale)

    def logit_bias(self) -> jax.Array:
        """float32 scalar that is added to scaled cosine similarities; 0 without a bias."""
        return jnp.zeros(()) if self.cfg.logit_bias_init is None else self.bias


class Projection(nn.Module):
    """Linear map into the shared space; float32 result."""

    in_dim: int
    out_dim: int
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, D] -> float32[B, E]."""
        init = nn.initializers.normal(self.in_dim**-0.5)
        kernel = read_weight(self, "kernel", init, (self.in_dim, self.out_dim), x.dtype)
        x = project(x, kernel)
        if self.use_bias:
            x += read_weight(self, "bias", nn.initializers.zeros, (self.out_dim,))
        return x


def vit_config(image_size, patch_size, width, depth, head_dim=64, mlp_dim=None, **options):
    """A vision transformer of CLIP by the numbers of its tables."""
    heads, mlp_dim = width // head_dim, mlp_dim or 4 * width
    return ViTConfig(image_size, patch_size, width, depth, heads, mlp_dim, **options)


def _variant(embed_dim: int, vision, text: tuple, activation: str) -> CLIPConfig:
    width, depth = text
    text = TextConfig(49408, 77, width, depth, width // 64, 4 * width, activation)
    if isinstance(vision, ResNetConfig):
        return CLIPConfig(vision, text, embed_dim, vision_proj="affine")
    return CLIPConfig(vit_config(*vision, activation=activation), text, embed_dim)


def _both(name: str, *shape) -> dict[str, CLIPConfig]:
    """A size with the exact gelu and with OpenAI's."""
    return {name: _variant(*shape, "gelu"), f"{name}-quickgelu": _variant(*shape, "quick_gelu")}


# openai/CLIP clip/model.py and open_clip's model_configs/*.json. The quick gelu belongs to OpenAI's
# weights and to whatever was trained after them; LAION's models have the exact one.
VARIANTS: dict[str, CLIPConfig] = {
    **_both("RN50", 1024, ResNetConfig(224, (3, 4, 6, 3), 64), (512, 12)),
    **_both("RN101", 512, ResNetConfig(224, (3, 4, 23, 3), 64), (512, 12)),
    **_both("RN50x4", 640, ResNetConfig(288, (4, 6, 10, 6), 80), (640, 12)),
    **_both("RN50x16", 768, ResNetConfig(384, (6, 8, 18, 8), 96), (768, 12)),
    **_both("RN50x64", 1024, ResNetConfig(448, (3, 15, 36, 10), 128), (1024, 12)),
    **_both("ViT-B/32", 512, (224, 32, 768, 12), (512, 12)),
    **_both("ViT-B/16", 512, (224, 16, 768, 12), (512, 12)),
    **_both("ViT-L/14", 768, (224, 14, 1024, 24), (768, 12)),
    **_both("ViT-L/14@336", 768, (336, 14, 1024, 24), (768, 12)),
    "ViT-H/14": _variant(1024, (224, 14, 1280, 32, 80), (1024, 24), "gelu"),
    "ViT-g/14": _variant(1024, (224, 14, 1408, 40, 88, 6144), (1024, 24), "gelu"),
    "ViT-bigG/14": _variant(1280, (224, 14, 1664, 48, 104, 8192), (1280, 32), "gelu"),
}
