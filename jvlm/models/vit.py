# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""An image tower alone, as DeiT (arXiv:2012.12877) and AugReg (arXiv:2106.10270) publish it.

ALBEF and BLIP start from one; by itself it embeds images and can be probed.
"""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import flax.struct
import jax

from jvlm.layers import l2_normalize
from jvlm.layers.image import dummy_image, normalize_image
from jvlm.models.towers.vit import ViT, ViTConfig
from jvlm.precision import Compute


@dataclasses.dataclass(frozen=True)
class ImageTowerConfig:
    """Shape of an image tower.

    Attributes:
      vision: its.
      image_mean, image_std: see `CLIPConfig`.
    """

    vision: ViTConfig
    image_mean: tuple[float, float, float] | None = None
    image_std: tuple[float, float, float] | None = None

    kind = "vit"


@flax.struct.dataclass
class ImageTowerOutput:
    """Attributes:
    image_embeds: float32[B, D], unit norm.
    """

    image_embeds: jax.Array


class ImageTower(nn.Module):
    """A vision transformer under the name that it has in other models."""

    cfg: ImageTowerConfig
    compute: Compute = Compute()

    def setup(self):
        self.vision = ViT(self.cfg.vision, self.compute)

    def __call__(self, batch: Mapping[str, jax.Array]) -> ImageTowerOutput:
        """A batch with `image`."""
        return ImageTowerOutput(self.encode_image(batch["image"]))

    def encode_image(self, image: jax.Array) -> jax.Array:
        """image uint8 or normalised float[B, H, W, 3] -> float32[B, D], unit norm."""
        image = normalize_image(image, self.cfg.image_mean, self.cfg.image_std)
        return l2_normalize(self.vision(image).pooled)

    def dummy_batch(self, rows: int) -> dict[str, jax.Array]:
        """The smallest batch that `__call__` takes, for initialisation."""
        return {"image": dummy_image(self.cfg.vision.image_size, rows)}


def _variant(width: int, depth: int) -> ImageTowerConfig:
    return ImageTowerConfig(
        ViTConfig(
            *(224, 16, width, depth, width // 64, 4 * width),
            norm_eps=1e-6,
            patch_bias=True,
            pre_norm=False,
            norm_tokens=True,
        )
    )


# facebookresearch/deit README.md; google-research/vision_transformer, L/16 of ImageNet-21k.
VARIANTS: dict[str, ImageTowerConfig] = {"B/16": _variant(768, 12), "L/16": _variant(1024, 24)}
