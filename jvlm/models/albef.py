# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""ALBEF (arXiv:2107.07651): align image and text first, then fuse them.

One BERT in two halves: `text` reads words alone, `fusion` attends to the image as well. Source:
salesforce/ALBEF models/model_pretrain.py, vit.py, xbert.py.
"""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jvlm.errors import UserError
from jvlm.layers import ACTIVATIONS, Block, Context, Linear, Norm, Stack, l2_normalize, masks
from jvlm.layers.image import CLIP_MEAN, CLIP_STD, normalize_image
from jvlm.models.clip import Projection
from jvlm.models.towers.bert import STD, Bert, BertConfig, block_config
from jvlm.models.towers.vit import ViT, ViTConfig
from jvlm.precision import Compute, read_weight


@dataclasses.dataclass(frozen=True)
class ALBEFConfig:
    """Shape of an ALBEF.

    Attributes:
      vision: the image tower, with a norm over all tokens.
      text: the lower half of the BERT; its `depth` counts the layers of text alone.
      fusion_depth: layers that attend to the image too.
      embed_dim: E.
      mlm: there is a head for masked words.
      temperature_init: initial temperature; a parameter as it is, not its logarithm.
      image_mean, image_std: see `CLIPConfig`.
    """

    vision: ViTConfig
    text: BertConfig
    fusion_depth: int
    embed_dim: int = 256
    mlm: bool = True
    temperature_init: float = 0.07
    image_mean: tuple[float, float, float] | None = CLIP_MEAN
    image_std: tuple[float, float, float] | None = CLIP_STD

    def __post_init__(self):
        if not self.vision.norm_tokens:
            raise UserError("model.vision: the text attends to normed tokens: set norm_tokens=True")


@flax.struct.dataclass
class ALBEFOutput:
    """Attributes:
    image_embeds, text_embeds: float32[B, E], unit norm.
    logits_per_image: float32[B, B], cosine similarities over the temperature.
    itm_logits: float32[B, 2] of pair i: (no match, match).
    logits: float32[B, T, V] of the word at each place; None without a head.
    """

    image_embeds: jax.Array
    text_embeds: jax.Array
    logits_per_image: jax.Array
    itm_logits: jax.Array
    logits: jax.Array | None


class ALBEF(nn.Module):
    """Image tower, text encoder, fusion encoder, and a head for each objective."""

    cfg: ALBEFConfig
    compute: Compute = Compute()

    def setup(self):
        cfg = self.cfg
        width = cfg.text.width
        self.vision = ViT(cfg.vision, self.compute)
        self.text = Bert(cfg.text, self.compute)
        self.fusion = Fusion(cfg.text, cfg.fusion_depth, cfg.vision.width, self.compute)
        self.vision_proj = Projection(cfg.vision.width, cfg.embed_dim, use_bias=True)
        self.text_proj = Projection(width, cfg.embed_dim, use_bias=True)
        self.itm_proj = Linear((width,), (2,), STD, dtype="float32")
        if cfg.mlm:
            self.mlm = WordHead(cfg.text, self.compute)
        init = nn.initializers.constant(cfg.temperature_init)
        self.temp = read_weight(self, "temperature", init, ())

    def __call__(self, batch: Mapping[str, jax.Array]) -> ALBEFOutput:
        """A batch of pairs with `image`, `text` and optionally `text_mask`."""
        mask = self.mask(batch["text"], batch.get("text_mask"))
        image = self.image_states(batch["image"])
        text = self.text_states(batch["text"], mask)
        image_embeds, text_embeds = self.embed_image(image), self.embed_text(text)
        logits = image_embeds @ text_embeds.T / self.temp
        fused = self.fuse(text, mask, image)
        words = self.words(fused) if self.cfg.mlm else None
        return ALBEFOutput(image_embeds, text_embeds, logits, self.match_logits(fused), words)

    def encode_image(self, image: jax.Array) -> jax.Array:
        """image uint8 or normalised float[B, H, W, 3] -> float32[B, E], unit norm."""
        return self.embed_image(self.image_states(image))

    def encode_text(self, text: jax.Array, text_mask: jax.Array | None = None) -> jax.Array:
        """text int32[B, T], text_mask bool[B, T] -> float32[B, E], unit norm."""
        return self.embed_text(self.text_states(text, self.mask(text, text_mask)))

    def image_states(self, image: jax.Array) -> jax.Array:
        """image uint8 or normalised float[B, H, W, 3] -> [B, P + 1, D], the class token first."""
        image = normalize_image(image, self.cfg.image_mean, self.cfg.image_std)
        return self.vision(image).tokens

    def text_states(self, text: jax.Array, text_mask: jax.Array | None = None) -> jax.Array:
        """text int32[B, T], text_mask bool[B, T] -> [B, T, D], of words alone."""
        return self.text(text, text_mask).tokens

    def embed_image(self, states: jax.Array) -> jax.Array:
        """[B, P + 1, D] -> float32[B, E], unit norm."""
        return l2_normalize(self.vision_proj(states[:, 0]))

    def embed_text(self, states: jax.Array) -> jax.Array:
        """[B, T, D] -> float32[B, E], unit norm."""
        return l2_normalize(self.text_proj(states[:, 0]))

    def fuse(self, text: jax.Array, text_mask: jax.Array, image: jax.Array) -> jax.Array:
        """[B, T, D], bool[B, T], [B, P + 1, D] -> [B, T, D]: words that saw the image."""
        return self.fusion(text, text_mask, image)

    def match_logits(self, fused: jax.Array) -> jax.Array:
        """[B, T, D] -> float32[B, 2]: (no match, match)."""
        return self.itm_proj(fused[:, 0])

    def head(self, x: jax.Array) -> jax.Array:
        """Fused states [..., D] -> float32[..., V], of the word at each place."""
        return self.text.embed.token.attend(self.mlm(x)) + self.mlm.output_bias()

    words = head

    def temperature(self) -> jax.Array:
        """float32 scalar that cosine similarities are divided by."""
        return self.temp

    def mask(self, text: jax.Array, text_mask: jax.Array | None) -> jax.Array:
        """bool[B, T], True on tokens."""
        return text != self.cfg.text.pad_id if text_mask is None else text_mask

    @property
    def vocab_size(self) -> int:
        """Rows of the token table."""
        return self.cfg.text.vocab_size

    def dummy_batch(self, rows: int) -> dict[str, jax.Array]:
        """The smallest batch that `__call__` takes, for initialisation."""
        size = self.cfg.vision.image_size
        height, width = (size, size) if isinstance(size, int) else size
        return {
            "image": jnp.zeros((rows, height, width, 3), jnp.float32),
            "text": jnp.zeros((rows, 2), jnp.int32),
        }


class Fusion(nn.Module):
    """The upper half of the BERT: blocks that attend to themselves and to an image.

    Attributes:
      cfg: of the lower half.
      depth: layers.
      memory_width: D of the image's states.
      compute: how it is run.
    """

    cfg: BertConfig
    depth: int
    memory_width: int
    compute: Compute = Compute()

    def setup(self):
        block = block_config(self.cfg, self.memory_width)
        self.stack = Stack(Block(block, self.compute, parent=None), self.depth)
        self.blocks = self.stack.declare(self, "blocks")

    def __call__(self, x: jax.Array, mask: jax.Array, image: jax.Array) -> jax.Array:
        """x [B, T, D], mask bool[B, T], image [B, S, memory_width] -> [B, T, D]."""
        dropout_rng = self.make_rng("dropout") if self.has_rng("dropout") else None
        ctx = Context(mask=masks.padding(mask), memory=image)
        return self.stack(self.blocks, x, None, ctx, dropout_rng)[0]


class WordHead(nn.Module):
    """What lies before BERT's tied output layer, and its bias."""

    cfg: BertConfig
    compute: Compute = Compute()

    def setup(self):
        cfg, dtype = self.cfg, self.compute.dtype
        self.proj = Linear((cfg.width,), (cfg.width,), STD, dtype=dtype)
        self.norm = Norm(cfg.norm_eps, dtype=dtype)
        self.bias = read_weight(self, "bias", nn.initializers.zeros, (cfg.vocab_size,))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] -> [..., D]."""
        return self.norm(ACTIVATIONS[self.cfg.activation](self.proj(x)))

    def output_bias(self) -> jax.Array:
        """float32[V]."""
        return self.bias


def _variant(image_size: int, mlm: bool = True) -> ALBEFConfig:
    vision = ViTConfig(
        *(image_size, 16, 768, 12, 12, 3072),
        norm_eps=1e-6,
        patch_bias=True,
        pre_norm=False,
        norm_tokens=True,
    )
    return ALBEFConfig(vision, BertConfig(30522, 512, 768, 6, 12, 3072), 6, mlm=mlm)


# salesforce/ALBEF configs: pretraining at 256 px, retrieval and grounding at 384 px without MLM.
VARIANTS: dict[str, ALBEFConfig] = {
    "base": _variant(256),
    "base@384": _variant(384, mlm=False),
}
