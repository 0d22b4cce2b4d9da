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
from jvlm.layers import (
    Block,
    BlockConfig,
    Context,
    KVCache,
    Linear,
    Stack,
    Tap,
    l2_normalize,
    masks,
)
from jvlm.layers.image import CLIP_MEAN, CLIP_STD, dummy_image, normalize_image
from jvlm.models.answerer import Answerer, AnswererConfig
from jvlm.models.classifier import Classifier
from jvlm.models.clip import Projection
from jvlm.models.towers.bert import Bert, BertConfig, block_config
from jvlm.models.towers.bert_lm import BertLM, BertLMConfig, WordHead
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

    kind = "albef"

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
        self.itm_proj = Linear((width,), (2,), cfg.text.init_std, dtype="float32")
        if cfg.mlm:
            self.words = WordHead(cfg.text, self.compute)
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
        words = self.head(fused) if self.cfg.mlm else None
        return ALBEFOutput(image_embeds, text_embeds, logits, self.match_logits(fused), words)

    def encode_image(self, image: jax.Array) -> jax.Array:
        """image uint8 or normalised float[B, H, W, 3] -> float32[B, E], unit norm."""
        return self.embed_image(self.image_states(image))

    def encode_text(self, text: jax.Array, text_mask: jax.Array | None = None) -> jax.Array:
        """text int32[B, T], text_mask bool[B, T] -> float32[B, E], unit norm."""
        return self.embed_text(self.text_states(text, self.mask(text, text_mask)))

    def image_states(self, image: jax.Array, tap: Tap | None = None) -> jax.Array:
        """image uint8 or normalised float[B, H, W, 3] -> [B, P + 1, D], the class token first."""
        image = normalize_image(image, self.cfg.image_mean, self.cfg.image_std)
        return self.vision(image, tap).tokens

    def text_states(self, text: jax.Array, text_mask: jax.Array | None = None) -> jax.Array:
        """text int32[B, T], text_mask bool[B, T] -> [B, T, D], of words alone."""
        return self.text(text, text_mask).tokens

    def embed_image(self, states: jax.Array) -> jax.Array:
        """[B, P + 1, D] -> float32[B, E], unit norm."""
        return l2_normalize(self.vision_proj(states[:, 0]))

    def embed_text(self, states: jax.Array) -> jax.Array:
        """[B, T, D] -> float32[B, E], unit norm."""
        return l2_normalize(self.text_proj(states[:, 0]))

    def fuse(
        self,
        text: jax.Array,
        text_mask: jax.Array,
        image: jax.Array,
        rows: tuple[int, ...] | None = None,
    ) -> jax.Array:
        """[B, T, D], bool[B, T], [B, P + 1, D] -> [B, T, D]: words that saw the image.

        Where several texts see an image, `rows` says which: see `Context.memory_rows`.
        """
        return self.fusion(text, text_mask, image, rows)

    def match(self, image: jax.Array, text: jax.Array, text_mask: jax.Array) -> jax.Array:
        """States of images [B, P + 1, D], int32[B, T], bool[B, T] -> float32[B].

        The logit of a match, by which retrieval is ranked again (Retrieval.py); that of none left.
        """
        return self.pair_logits(image, text, text_mask)[:, 1]

    def pair_logits(
        self, image: jax.Array, text: jax.Array, text_mask: jax.Array, tap: Tap | None = None
    ) -> jax.Array:
        """The same to both logits, float32[B, 2]: (no match, match).

        `tap` is of the fusion: its cross-attention's maps say where each word looks.
        """
        states = self.text_states(text, text_mask)
        return self.match_logits(self.fusion(states, text_mask, image, tap=tap))

    def match_logits(self, fused: jax.Array) -> jax.Array:
        """[B, T, D] -> float32[B, 2]: (no match, match)."""
        return self.itm_proj(fused[:, 0])

    def head(self, x: jax.Array) -> jax.Array:
        """Fused states [..., D] -> float32[..., V], of the word at each place."""
        return self.words(x, self.text.embed.token)

    def temperature(self) -> jax.Array:
        """float32 scalar that cosine similarities are divided by."""
        return self.temp

    @property
    def rerank_rule(self) -> str:
        """See `metrics.retrieval.reranked`. LAVIS, whose texts have no token types, adds."""
        return "replace" if self.cfg.text.num_types else "add"

    def mask(self, text: jax.Array, text_mask: jax.Array | None) -> jax.Array:
        """bool[B, T], True on tokens."""
        return text != self.cfg.text.pad_id if text_mask is None else text_mask

    @property
    def vocab_size(self) -> int:
        """Rows of the token table."""
        return self.cfg.text.vocab_size

    def dummy_batch(self, rows: int) -> dict[str, jax.Array]:
        """The smallest batch that `__call__` takes, for initialisation."""
        return {
            "image": dummy_image(self.cfg.vision.image_size, rows),
            "text": jnp.zeros((rows, 2), jnp.int32),
        }


@dataclasses.dataclass(frozen=True)
class ALBEFVQAConfig(AnswererConfig):
    """Shape of an ALBEF that answers questions.

    Attributes:
      vision, text, fusion_depth, image_mean, image_std: as of `ALBEFConfig`.
      decoder: of the answers; its blocks attend to the question's states. `bos_id` is the first
        token of an answer.
    """

    vision: ViTConfig
    text: BertConfig
    fusion_depth: int
    decoder: BertLMConfig
    image_mean: tuple[float, float, float] | None = CLIP_MEAN
    image_std: tuple[float, float, float] | None = CLIP_STD

    kind = "albef_vqa"


class ALBEFVQA(Answerer):
    """Image and question are fused, a decoder reads the result and answers.

    Source: salesforce/ALBEF models/model_vqa.py.
    """

    cfg: ALBEFVQAConfig

    # How its code ranks answers, see `generation.ranking.score` (`rank_answer`; configs/VQA.yaml).
    ranking = {"preselect": 128, "first_weight": 2.0}
    # Its answers are short. Its code writes none; so many tokens are BLIP's, of the same shape.
    answering = {"max_new_tokens": 10}

    def setup(self):
        cfg = self.cfg
        self.vision = ViT(cfg.vision, self.compute)
        self.text = Bert(cfg.text, self.compute)
        self.fusion = Fusion(cfg.text, cfg.fusion_depth, cfg.vision.width, self.compute)
        self.decoder = BertLM(cfg.decoder, self.compute)

    def question(self, batch: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        text, mask = batch["text"], batch.get("text_mask")
        mask = text != self.cfg.text.pad_id if mask is None else mask
        image = normalize_image(batch["image"], self.cfg.image_mean, self.cfg.image_std)
        return self.fusion(self.text(text, mask).tokens, mask, self.vision(image).tokens), mask


@dataclasses.dataclass(frozen=True)
class ALBEFClassifierConfig:
    """Shape of an ALBEF that says which of a few classes holds.

    Attributes:
      vision, text, fusion_depth, image_mean, image_std: as of `ALBEFConfig`.
      num_classes: 3 for SNLI-VE and text assignment, 2 for NLVR2.
      num_images: 2 for NLVR2, where the fusion layers are doubled and see them in turn.
      head: 'mlp', or 'linear' (text assignment).
      embed_dim: E of the images' embeddings, of which text assignment wants the similar ones; None
        without.
    """

    vision: ViTConfig
    text: BertConfig
    fusion_depth: int
    num_classes: int
    num_images: int = 1
    head: str = "mlp"
    embed_dim: int | None = None
    image_mean: tuple[float, float, float] | None = CLIP_MEAN
    image_std: tuple[float, float, float] | None = CLIP_STD

    kind = "albef_classifier"

    def __post_init__(self):
        if self.num_images not in (1, 2):
            raise UserError(f"model.num_images {self.num_images!r}: 1 or 2")
        if self.head not in ("mlp", "linear"):
            raise UserError(f"model.head {self.head!r} is unknown, choose 'mlp' or 'linear'")


class ALBEFClassifier(Classifier):
    """Image, or images, and text are fused; the first token's state is classified.

    Source: salesforce/ALBEF models/model_{ve,nlvr,pretrain_nlvr}.py.
    """

    cfg: ALBEFClassifierConfig

    def setup(self):
        cfg, width = self.cfg, self.cfg.text.width
        self.vision = ViT(cfg.vision, self.compute)
        self.text = Bert(cfg.text, self.compute)
        paired = cfg.num_images == 2
        self.fusion = Fusion(cfg.text, cfg.fusion_depth, cfg.vision.width, self.compute, paired)
        if cfg.embed_dim is not None:
            self.vision_proj = Projection(cfg.vision.width, cfg.embed_dim, use_bias=True)
        if cfg.head == "mlp":
            self.hidden_proj = Linear((width,), (width,), cfg.text.init_std, dtype="float32")
        self.class_proj = Linear((width,), (cfg.num_classes,), cfg.text.init_std, dtype="float32")

    def embed_image(self, states: jax.Array) -> jax.Array:
        """[B, P + 1, D] -> float32[B, E], unit norm."""
        return l2_normalize(self.vision_proj(states[:, 0]))

    def classify(
        self, text: jax.Array, text_mask: jax.Array | None, images: jax.Array
    ) -> jax.Array:
        if self.cfg.embed_dim is not None and self.is_initializing():
            self.embed_image(images[:, 0])
        mask = text != self.cfg.text.pad_id if text_mask is None else text_mask
        x = self.fusion(self.text(text, mask).tokens, mask, images)[:, 0]
        if self.cfg.head == "mlp":
            x = jax.nn.relu(self.hidden_proj(x))
        return self.class_proj(x)


class Fusion(nn.Module):
    """The upper half of the BERT: blocks that attend to themselves and to an image.

    Attributes:
      cfg: of the lower half.
      depth: layers; pairs of layers where there are two images.
      memory_width: D of the image's states.
      compute: how it is run.
      paired: there are two images.
    """

    cfg: BertConfig
    depth: int
    memory_width: int
    compute: Compute = Compute()
    paired: bool = False

    def setup(self):
        block = block_config(self.cfg, self.memory_width)
        kind = BlockPair if self.paired else Block
        self.stack = Stack(kind(block, self.compute, parent=None), self.depth)
        self.blocks = self.stack.declare(self, "blocks")

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array,
        image: jax.Array,
        rows: tuple[int, ...] | None = None,
        tap: Tap | None = None,
    ) -> jax.Array:
        """x [B, T, D], mask bool[B, T], image [B, (2,) S, memory_width] -> [B, T, D].

        rows: see `Context.memory_rows`. tap: see `layers.Tap`.
        """
        dropout_rng = self.make_rng("dropout") if self.has_rng("dropout") else None
        ctx = Context(mask=masks.padding(mask), memory=image, memory_rows=rows, tap=tap)
        return self.stack(self.blocks, x, None, ctx, dropout_rng)[0]


class BlockPair(nn.Module):
    """Two blocks of which the first sees one image and the second the other.

    They make keys and values with the same weights (model_nlvr.py `share_cross_attention`).
    """

    cfg: BlockConfig
    compute: Compute = Compute()

    def setup(self):
        self.first, self.second = (Block(self.cfg, self.compute) for _ in range(2))
        own = (self.cfg.memory_width,), (self.cfg.num_heads, self.cfg.width // self.cfg.num_heads)
        self.shared_attn = KeysAndValues(*own, self.cfg.std[0], self.compute.dtype)

    def __call__(self, x: jax.Array, cache: None, ctx: Context) -> tuple[jax.Array, None]:
        """x [B, T, D], `ctx.memory` [B, 2, S, memory_width] -> [B, T, D]."""
        k, v = self.shared_attn(ctx.memory)
        ctx = ctx.replace(memory=None)
        for place, block in enumerate((self.first, self.second)):
            seen = KVCache.of(k[:, place], v[:, place])
            x, _ = block(x, {"attn": None, "cross_attn": seen}, ctx)
        return x, None

    def dummy_inputs(self) -> tuple[jax.Array, None, Context]:
        """See `Block.dummy_inputs`."""
        memory = jnp.zeros((1, 2, 1, self.cfg.memory_width))
        return jnp.zeros((1, 1, self.cfg.width)), None, Context(memory=memory)


class KeysAndValues(nn.Module):
    """The two projections of an attention that make what is attended to."""

    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    std: float | None
    dtype: str

    def setup(self):
        self.k, self.v = (
            Linear(self.in_shape, self.out_shape, self.std, dtype=self.dtype) for _ in range(2)
        )

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[..., D] -> keys and values [..., N, H]."""
        return self.k(x), self.v(x)


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

# salesforce/ALBEF configs/VQA.yaml; answers begin with [CLS] and end with [SEP].
VQA_VARIANTS: dict[str, ALBEFVQAConfig] = {
    "base@384": ALBEFVQAConfig(
        VARIANTS["base@384"].vision,
        VARIANTS["base@384"].text,
        6,
        BertLMConfig(
            *(30522, 512, 768, 6, 12, 3072),
            causal=True,
            memory_width=768,
            bos_id=101,
            eos_id=102,
        ),
    ),
}

# configs/{VE,NLVR,NLVR_pretrain}.yaml.
CLASSIFIER_VARIANTS: dict[str, ALBEFClassifierConfig] = {
    name: ALBEFClassifierConfig(VARIANTS[size].vision, VARIANTS[size].text, 6, *options)
    for name, size, options in (
        ("ve@384", "base@384", (3,)),
        ("nlvr@384", "base@384", (2, 2)),
        ("text_assignment", "base", (3, 2, "linear", 256)),
    )
}
