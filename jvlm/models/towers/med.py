# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""BLIP's text transformer (arXiv:2201.12086 section 3.1): reads alone, reads an image, writes.

The three uses share everything but self-attention, which is one of an encoder or one of a decoder;
text alone leaves the cross-attention out. Source: salesforce/BLIP models/med.py, and
blip_pretrain.py, whose `tie_encoder_decoder_weights` is a name shared here.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jvlm.errors import UserError
from jvlm.layers import Block, Context, KVCache, Stack, Tap, masks
from jvlm.models.towers.bert import BertEmbed, block_config, check_length
from jvlm.models.towers.bert_lm import BertLM, BertLMConfig, WordHead
from jvlm.models.towers.decoder import Batch

READ, WRITE = (1, 0), (0, 1)  # All rows are read, or all are written; see `MixtureBlock`.


@dataclasses.dataclass(frozen=True)
class MEDConfig(BertLMConfig):
    """Shape of a multimodal mixture of encoder and decoder (section 3.1).

    Attributes: those of `BertLMConfig` and
      encoder, decoder: which of the two self-attentions there are.
      enc_id: [ENC], first token of a text that is read with an image; None leaves texts as they
        are (models/blip_itm.py and transformers). `bos_id` is [DEC], that of one that is written.
    """

    causal: bool = True
    num_types: int = 0
    encoder: bool = True
    decoder: bool = True
    enc_id: int | None = None

    kind = "med"

    def __post_init__(self):
        super().__post_init__()
        if self.memory_width is None or not (self.encoder or self.decoder):
            raise UserError("med: give memory_width, and encoder=True or decoder=True")
        if not self.causal:
            raise UserError("med: its decoder is causal, its encoder is not: leave causal out")
        check_ids("med", self, "bos_id", "enc_id")


def check_ids(where: str, cfg, *names: str) -> None:
    """Raises UserError where an id that is put in is not in the token table."""
    size = getattr(cfg, "text", cfg).vocab_size
    for name in names:
        id = getattr(cfg, name)
        if id is not None and not 0 <= id < size:
            raise UserError(
                f"{where}: {name} {id} is none of the {size} tokens: raise vocab_size, and extend "
                "the table of starting weights by 'extend_vocabulary'"
            )


class MixtureBlock(Block):
    """A block with a self-attention for what is read and one for what is written.

    Attributes:
      shares: rows come in groups, of which so many are read and then so many written.
    """

    shares: tuple[int, int] = READ

    def attend_itself(
        self, x: jax.Array, caches: dict[str, KVCache] | None, ctx: Context
    ) -> jax.Array:
        read, written = self.shares
        itself = lambda x, ctx, *names: Block.attend_itself(self, x, caches, ctx, names)
        own, causal = ctx.replace(causal=False), ctx.replace(causal=True)
        if not written:
            return itself(x, own, "attn", "norm1")
        if not read:
            return itself(x, causal, "decoder_attn", "decoder_norm1")
        parts = _split(x, self.shares)
        if ctx.mask is not None:
            sees = _split(ctx.mask, self.shares)
            own, causal = own.replace(mask=sees[0]), causal.replace(mask=sees[1])
        above = itself(parts[0], own, "attn", "norm1")
        below = itself(parts[1], causal, "decoder_attn", "decoder_norm1")
        whole = lambda y, count: y.reshape(-1, count, *y.shape[1:])
        apart = whole(above, read), whole(below, written)
        return jnp.concatenate(apart, axis=1).reshape(x.shape)

    def dummy_inputs(self) -> tuple[jax.Array, None, Context]:
        rows = sum(self.shares)
        memory = jnp.zeros((rows, 1, self.cfg.memory_width))
        return jnp.zeros((rows, 1, self.cfg.width)), None, Context(memory=memory)


def _split(x: jax.Array, shares: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """The first and the other rows of all groups."""
    rows = x.reshape(-1, sum(shares), *x.shape[1:])
    first = rows[:, : shares[0]], rows[:, shares[0] :]
    return tuple(part.reshape(-1, *x.shape[1:]) for part in first)


def begin_with(id: int | None, text: jax.Array, mask: jax.Array) -> jax.Array:
    """int32[B, T] with `id` in place of the first tokens, by mask bool[B, T]; None changes none."""
    return text if id is None else jnp.where(mask & (jnp.cumsum(mask, axis=1) == 1), id, text)


class MED(BertLM):
    """The text transformer; as a language model, see `Decoder`, the image-grounded decoder."""

    cfg: MEDConfig

    def setup(self):
        cfg = self.cfg
        self.embed = BertEmbed(cfg, self.compute.dtype)
        self.blocks = self.stack_of(int(cfg.encoder), int(cfg.decoder)).declare(self, "blocks")
        if cfg.decoder:
            self.words = WordHead(cfg, self.compute)

    @property
    def stack(self) -> Stack:
        """The decoder's, as `Decoder` wants it."""
        return self.stack_of(*WRITE)

    def stack_of(self, read: int, written: int) -> Stack:
        """The blocks for rows of which so many in each group are read and so many written."""
        cfg = self.cfg
        for count, name in ((read, "encoder"), (written, "decoder")):
            if count and not getattr(cfg, name):
                does = {"encoder": "reads no texts", "decoder": "writes nothing"}[name]
                raise UserError(f"med: made without {name} ({name}=False), it {does}")
        block = block_config(cfg, cfg.memory_width)
        block = MixtureBlock(block, self.compute, shares=(read, written), parent=None)
        return Stack(block, cfg.depth)

    def read(
        self,
        text: jax.Array,
        mask: jax.Array,
        memory: jax.Array | None = None,
        *,
        memory_rows: tuple[int, ...] | None = None,
        shares: tuple[int, int] = READ,
        tap: Tap | None = None,
    ) -> jax.Array:
        """Final states of texts, alone or with what they are about.

        Args:
          text: int32[B, T].
          mask: bool[B, T], True on tokens.
          memory: [B, S, memory_width]; None is text alone, which keeps its first token.
          memory_rows: see `Context.memory_rows`.
          shares: see `MixtureBlock`.
          tap: see `layers.Tap`.

        Returns:
          [B, T, D].
        """
        rows, length = text.shape
        check_length(self.cfg, text)
        written = np.tile(np.arange(sum(shares)) >= shares[0], rows // sum(shares))
        sees = masks.padding(mask)
        if written.any():
            sees &= masks.causal(length, length) | ~written[:, None, None, None]
        if memory is not None:
            text = self.begin(text, mask, written)
        dropout_rng = self.make_rng("dropout") if self.has_rng("dropout") else None
        ctx = Context(mask=sees, memory=memory, memory_rows=memory_rows, tap=tap)
        x = self.embed(self.embed.token(text), jnp.arange(length)[None])
        return self.stack_of(*shares)(self.blocks, x, None, ctx, dropout_rng)[0]

    def begin(self, text: jax.Array, mask: jax.Array, written: np.ndarray) -> jax.Array:
        """int32[B, T] whose first tokens say whether a row is read or written (bool[B])."""
        for id, rows in ((self.cfg.enc_id, ~written), (self.cfg.bos_id, written)):
            if rows.any():
                text = begin_with(id, text, mask & rows[:, None])
        return text

    def inputs(self, batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
        text, mask = batch["text"], batch.get("text_mask")
        mask = jnp.ones(text.shape, bool) if mask is None else mask
        return super().inputs({**batch, "text": self.begin(text, mask, np.ones(len(text), bool))})
