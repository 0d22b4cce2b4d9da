# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""BLIP (arXiv:2201.12086): contrasts, matches and writes with one text transformer.

Source: salesforce/BLIP models/blip*.py, nlvr_encoder.py; the transformer is `towers.med`.
"""

import dataclasses
from collections.abc import Callable, Mapping

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jvlm.errors import UserError
from jvlm.layers import (
    Block,
    Context,
    DecodeCache,
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
from jvlm.models.towers.bert import BertConfig, BertEmbed, block_config, check_length
from jvlm.models.towers.decoder import Batch, LMOutput
from jvlm.models.towers.med import MED, READ, WRITE, MEDConfig, begin_with, check_ids
from jvlm.models.towers.vit import ViT, ViTConfig
from jvlm.precision import Compute, read_weight


@dataclasses.dataclass(frozen=True)
class BLIPCaptionerConfig:
    """Shape of a BLIP that writes.

    Attributes:
      vision: the image tower, with a norm over all tokens.
      text: the text transformer.
      prompt: what captions begin with, and were trained to; '' for none.
      image_mean, image_std: see `CLIPConfig`.
    """

    vision: ViTConfig
    text: MEDConfig
    prompt: str = ""
    image_mean: tuple[float, float, float] | None = CLIP_MEAN
    image_std: tuple[float, float, float] | None = CLIP_STD

    kind = "blip_captioner"

    def __post_init__(self):
        check_towers(self)

    @property
    def first_id(self) -> int | None:
        """What the first token of a text that is written becomes."""
        return self.text.bos_id

    @property
    def eos_id(self) -> int | tuple[int, ...] | None:
        """What a caption ends with."""
        return self.text.eos_id

    @property
    def pad_id(self) -> int:
        """Padding of texts."""
        return self.text.pad_id

    @property
    def max_len(self) -> int:
        """Tokens of prompt and caption at most."""
        return self.text.max_len


def check_towers(cfg) -> None:
    """Texts attend to the image's normed tokens, and must know their width."""
    if not cfg.vision.norm_tokens:
        raise UserError("model.vision: the text attends to normed tokens: set norm_tokens=True")
    if getattr(cfg.text, "memory_width", cfg.vision.width) != cfg.vision.width:
        raise UserError(f"model.text: set memory_width={cfg.vision.width}, as wide as model.vision")


class BLIPCaptioner(nn.Module):
    """An image tower and the image-grounded decoder (models/blip.py `BLIP_Decoder`).

    A language model over `image`, `text` and `text_mask`, see `models.towers.decoder`: the first
    token of a text becomes [DEC].
    """

    cfg: BLIPCaptionerConfig
    compute: Compute = Compute()

    encoder_decoder = False
    causal = True
    predicts_next = True
    # configs/caption_coco.yaml: 20 tokens at most and 5 at least, with the 4 of its prompt. It asks
    # for transformers 4.15.
    captioning = dict(num_beams=3, max_new_tokens=16, min_new_tokens=1, beam_search="legacy")

    def setup(self):
        self.vision = ViT(self.cfg.vision, self.compute)
        self.text = MED(self.cfg.text, self.compute)

    def __call__(self, batch: Batch) -> LMOutput:
        """Logits of the token behind each."""
        return LMOutput(self.head(self.hidden(batch)))

    def image_states(self, image: jax.Array, tap: Tap | None = None) -> jax.Array:
        """image uint8 or normalised float[B, H, W, 3] -> [B, P + 1, D], the class token first."""
        image = normalize_image(image, self.cfg.image_mean, self.cfg.image_std)
        return self.vision(image, tap).tokens

    def hidden(self, batch: Batch) -> jax.Array:
        """The decoder's final states [B, T, D]."""
        return self.text.hidden(self._seen(batch))

    def head(self, x: jax.Array) -> jax.Array:
        """[..., D] -> logits float32[..., V]."""
        return self.text.head(x)

    def prefill(self, batch: Batch, max_len: int) -> tuple[jax.Array, DecodeCache]:
        """See `Decoder.prefill`."""
        return self.text.prefill(self._seen(batch), max_len)

    def extend(self, *args, **options) -> tuple[jax.Array, DecodeCache]:
        """See `Decoder.extend`."""
        return self.text.extend(*args, **options)

    def advance(self, *args, **options) -> tuple[jax.Array, DecodeCache]:
        """See `Decoder.advance`."""
        return self.text.advance(*args, **options)

    def _seen(self, batch: Batch) -> dict[str, jax.Array]:
        rest = {key: value for key, value in batch.items() if key != "image"}
        return {**rest, "memory": self.image_states(batch["image"])}

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
class BLIPConfig(BLIPCaptionerConfig):
    """Shape of a BLIP that contrasts and matches, and in pretraining writes too (`text.decoder`).

    Attributes: those of `BLIPCaptionerConfig` and
      embed_dim: E.
      temperature_init: initial temperature; a parameter as it is, not its logarithm.
    """

    embed_dim: int = 256
    temperature_init: float = 0.07

    kind = "blip"


@flax.struct.dataclass
class BLIPOutput:
    """Attributes:
    image_embeds, text_embeds: float32[B, E], unit norm.
    logits_per_image: float32[B, B], cosine similarities over the temperature.
    itm_logits: float32[B, 2] of pair i: (no match, match).
    logits: float32[B, T, V] of the word behind each place; None without a decoder.
    """

    image_embeds: jax.Array
    text_embeds: jax.Array
    logits_per_image: jax.Array
    itm_logits: jax.Array
    logits: jax.Array | None


class BLIP(BLIPCaptioner):
    """The same with the two uses as an encoder (models/blip_{pretrain,retrieval,itm}.py)."""

    cfg: BLIPConfig

    rerank_rule = "add"  # See `metrics.retrieval.reranked`.

    def setup(self):
        super().setup()
        cfg, width = self.cfg, self.cfg.text.width
        self.vision_proj = Projection(cfg.vision.width, cfg.embed_dim, use_bias=True)
        self.text_proj = Projection(width, cfg.embed_dim, use_bias=True)
        self.itm_proj = Linear((width,), (2,), cfg.text.init_std, dtype="float32")
        init = nn.initializers.constant(cfg.temperature_init)
        self.temp = read_weight(self, "temperature", init, ())

    def __call__(self, batch: Batch) -> BLIPOutput:
        """A batch of pairs with `image`, `text` and optionally `text_mask`."""
        text, mask = batch["text"], self.mask(batch["text"], batch.get("text_mask"))
        image = self.image_states(batch["image"])
        image_embeds = self.embed_image(image)
        text_embeds = self.embed_text(self.text_states(text, mask))
        logits = image_embeds @ text_embeds.T / self.temp
        words = None
        if self.cfg.text.decoder:
            words = self.head(self.text.read(text, mask, image, shares=WRITE))
        pairs = self.pair_logits(image, text, mask)
        return BLIPOutput(image_embeds, text_embeds, logits, pairs, words)

    def encode_image(self, image: jax.Array) -> jax.Array:
        """image uint8 or normalised float[B, H, W, 3] -> float32[B, E], unit norm."""
        return self.embed_image(self.image_states(image))

    def encode_text(self, text: jax.Array, text_mask: jax.Array | None = None) -> jax.Array:
        """text int32[B, T], text_mask bool[B, T] -> float32[B, E], unit norm."""
        return self.embed_text(self.text_states(text, text_mask))

    def text_states(self, text: jax.Array, text_mask: jax.Array | None = None) -> jax.Array:
        """text int32[B, T], text_mask bool[B, T] -> [B, T, D], of words alone."""
        return self.text.read(text, self.mask(text, text_mask))

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
        shares: tuple[int, int] = READ,
    ) -> jax.Array:
        """int32[B, T], bool[B, T], [B, P + 1, D] -> [B, T, D]: texts that saw the image.

        Where several texts see an image, `rows` says which (`Context.memory_rows`), and `shares`
        how many of them are read and how many written (`MixtureBlock`).
        """
        return self.text.read(text, text_mask, image, memory_rows=rows, shares=shares)

    def match(self, image: jax.Array, text: jax.Array, text_mask: jax.Array) -> jax.Array:
        """States of images [B, P + 1, D], int32[B, T], bool[B, T] -> float32[B].

        The logit of a match, to which retrieval adds the cosine (train_retrieval.py).
        """
        return self.pair_logits(image, text, text_mask)[:, 1]

    def pair_logits(
        self, image: jax.Array, text: jax.Array, text_mask: jax.Array, tap: Tap | None = None
    ) -> jax.Array:
        """The same to both logits, float32[B, 2]: (no match, match).

        `tap` is of the text transformer: its cross-attention's maps say where each word looks.
        """
        return self.match_logits(self.text.read(text, text_mask, image, tap=tap))

    def match_logits(self, fused: jax.Array) -> jax.Array:
        """[B, T, D] -> float32[B, 2]: (no match, match)."""
        return self.itm_proj(fused[:, 0])

    def temperature(self) -> jax.Array:
        """float32 scalar that cosine similarities are divided by."""
        return self.temp

    def mask(self, text: jax.Array, text_mask: jax.Array | None) -> jax.Array:
        """bool[B, T], True on tokens."""
        return text != self.cfg.text.pad_id if text_mask is None else text_mask


@dataclasses.dataclass(frozen=True)
class BLIPVQAConfig(AnswererConfig):
    """Shape of a BLIP that answers questions.

    Attributes:
      vision, image_mean, image_std: as of `BLIPCaptionerConfig`.
      text: reads the question with the image.
      decoder: of the answers; its blocks attend to the question's states.
    """

    vision: ViTConfig
    text: MEDConfig
    decoder: MEDConfig
    image_mean: tuple[float, float, float] | None = CLIP_MEAN
    image_std: tuple[float, float, float] | None = CLIP_STD

    kind = "blip_vqa"

    def __post_init__(self):
        super().__post_init__()
        check_towers(self)


class BLIPVQA(Answerer):
    """A question is read with the image, a decoder reads the result and answers.

    Source: salesforce/BLIP models/blip_vqa.py.
    """

    cfg: BLIPVQAConfig

    # `rank_answer`; its losses are smoothed.
    ranking = {"preselect": 128, "label_smoothing": 0.1}
    # `inference='generate'`: 10 tokens, the first of which is [DEC].
    answering = {"num_beams": 3, "max_new_tokens": 9, "beam_search": "legacy"}

    def setup(self):
        self.vision = ViT(self.cfg.vision, self.compute)
        self.text = MED(self.cfg.text, self.compute)
        self.decoder = MED(self.cfg.decoder, self.compute)

    def question(self, batch: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        text, mask = batch["text"], batch.get("text_mask")
        mask = text != self.cfg.text.pad_id if mask is None else mask
        image = normalize_image(batch["image"], self.cfg.image_mean, self.cfg.image_std)
        return self.text.read(text, mask, self.vision(image).tokens), mask


@dataclasses.dataclass(frozen=True)
class BLIPClassifierConfig:
    """Shape of a BLIP that says whether a sentence is true of two images (NLVR2).

    Attributes:
      vision, image_mean, image_std: as of `BLIPCaptionerConfig`.
      text: its blocks attend to both images.
      merge_from: the first layer that merges what the two show by a layer of its own; those before
        take the mean.
      num_classes: C.
      enc_id: [ENC], first token of every text; None leaves texts as they are.
    """

    vision: ViTConfig
    text: BertConfig
    merge_from: int
    num_classes: int = 2
    enc_id: int | None = None
    image_mean: tuple[float, float, float] | None = CLIP_MEAN
    image_std: tuple[float, float, float] | None = CLIP_STD

    kind = "blip_classifier"
    num_images = 2

    def __post_init__(self):
        check_towers(self)
        check_ids("model", self, "enc_id")
        if not 0 < self.merge_from < self.text.depth:
            raise UserError(
                f"model.merge_from {self.merge_from}: a layer above the first of {self.text.depth}"
            )


class TwinBlock(Block):
    """A block with a cross-attention for each of two images (models/nlvr_encoder.py).

    Attributes:
      merges: by a layer of its own, where the mean would be taken otherwise.
    """

    merges: bool = False

    def attention_to_memory(self, caches: None, ctx: Context) -> Callable[[jax.Array], jax.Array]:
        cfg = self.cfg

        def branch(h):
            seen = []
            for place in (0, 1):
                memory = ctx.memory[:, place]
                name = f"cross_attn{place}"
                attend = self.attention(name, None, ctx, cfg.memory_width, memory=memory)
                seen.append(attend(h))
            if not self.merges:
                return (seen[0] + seen[1]) / 2
            merge = Linear(
                *((2 * cfg.width,), (cfg.width,), cfg.std[1]),
                dtype=self.compute.dtype,
                name="merge_proj",
            )
            return merge(jnp.concatenate(seen, -1))

        return branch

    def dummy_inputs(self) -> tuple[jax.Array, None, Context]:
        memory = jnp.zeros((1, 2, 1, self.cfg.memory_width))
        return jnp.zeros((1, 1, self.cfg.width)), None, Context(memory=memory)


class TwinBert(nn.Module):
    """A BERT whose blocks attend to two images; those above `merge_from` merge them otherwise."""

    cfg: BertConfig
    memory_width: int
    merge_from: int
    compute: Compute = Compute()

    def setup(self):
        cfg = self.cfg
        block = block_config(cfg, self.memory_width)
        make = lambda merges: TwinBlock(block, self.compute, merges=merges, parent=None)
        self.embed = BertEmbed(cfg, self.compute.dtype)
        self.lower = Stack(make(False), self.merge_from)
        self.upper = Stack(make(True), cfg.depth - self.merge_from)
        self.blocks = self.lower.declare(self, "blocks")
        self.merge_blocks = self.upper.declare(self, "merge_blocks")

    def __call__(self, text: jax.Array, mask: jax.Array, images: jax.Array) -> jax.Array:
        """int32[B, T], bool[B, T], states of images [B, 2, P + 1, D] -> [B, T, D]."""
        check_length(self.cfg, text)
        x = self.embed(self.embed.token(text), jnp.arange(text.shape[1])[None])
        rng = self.make_rng("dropout") if self.has_rng("dropout") else None
        lower, upper = (None, None) if rng is None else jax.random.split(rng)
        ctx = Context(mask=masks.padding(mask), memory=images)
        x, _ = self.lower(self.blocks, x, None, ctx, lower)
        return self.upper(self.merge_blocks, x, None, ctx, upper)[0]


class BLIPClassifier(Classifier):
    """Two images and a sentence; the first token's state is classified.

    Source: salesforce/BLIP models/blip_nlvr.py.
    """

    cfg: BLIPClassifierConfig

    def setup(self):
        cfg, width = self.cfg, self.cfg.text.width
        self.vision = ViT(cfg.vision, self.compute)
        self.text = TwinBert(cfg.text, cfg.vision.width, cfg.merge_from, self.compute)
        self.hidden_proj = Linear((width,), (width,), cfg.text.init_std, dtype="float32")
        self.class_proj = Linear((width,), (cfg.num_classes,), cfg.text.init_std, dtype="float32")

    def classify(
        self, text: jax.Array, text_mask: jax.Array | None, images: jax.Array
    ) -> jax.Array:
        mask = text != self.cfg.text.pad_id if text_mask is None else text_mask
        x = self.text(begin_with(self.cfg.enc_id, text, mask), mask, images)[:, 0]
        return self.class_proj(jax.nn.relu(self.hidden_proj(x)))


#### The published sizes.

_SPECIAL = dict(num_types=0, bos_id=30522, enc_id=30523, eos_id=102)


def _vision(size: str, image_size: int, drop_path: float = 0.0) -> ViTConfig:
    """models/blip.py `create_vit`: the large tower always leaves branches out."""
    shape = {"base": (768, 12, 12, 3072), "large": (1024, 24, 16, 4096)}[size]
    return ViTConfig(
        *(image_size, 16, *shape),
        norm_eps=1e-6,
        patch_bias=True,
        pre_norm=False,
        norm_tokens=True,
        drop_path=0.1 if size == "large" else drop_path,
    )


def _text(memory_width: int, **uses: bool) -> MEDConfig:
    """configs/med_config.json; BERT base beside either image tower."""
    shape = (30524, 512, 768, 12, 12, 3072)
    return MEDConfig(*shape, memory_width=memory_width, **_SPECIAL, **uses)


def _blip(size: str, image_size: int, decoder: bool) -> BLIPConfig:
    vision = _vision(size, image_size)
    return BLIPConfig(vision, _text(vision.width, decoder=decoder))


def _captioner(size: str) -> BLIPCaptionerConfig:
    vision = _vision(size, 384)
    return BLIPCaptionerConfig(vision, _text(vision.width, encoder=False), "a picture of ")


# salesforce/BLIP configs: pretraining at 224 px; retrieval at 384 px.
VARIANTS: dict[str, BLIPConfig] = {
    "base": _blip("base", 224, True),
    "large": _blip("large", 224, True),
    "base@384": _blip("base", 384, False),
    "large@384": _blip("large", 384, False),
}

CAPTIONER_VARIANTS = {f"{size}@384": _captioner(size) for size in ("base", "large")}

VQA_VARIANTS = {
    "base@480": BLIPVQAConfig(
        _vision("base", 480, 0.1), _text(768, decoder=False), _text(768, encoder=False)
    ),
}

CLASSIFIER_VARIANTS = {
    "nlvr@384": BLIPClassifierConfig(
        _vision("base", 384, 0.1),
        BertConfig(30524, 512, 768, 12, 12, 3072, num_types=0),
        6,
        enc_id=30523,
    ),
}
