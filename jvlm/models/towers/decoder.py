# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What all language models share: the forward of a batch, `prefill` and `extend`.

A family says in `setup` what its token table (`token`), its stack (`stack`, `blocks`) and, where it
has one of its own, its output layer (`lm_head`) are, and in `enter` and `leave` what happens before
and behind the layers.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jvlm.errors import UserError
from jvlm.layers import Context, DecodeCache, Linear, masks
from jvlm.precision import Compute
from jvlm.sharding import constrain

Batch = Mapping[str, jax.Array]


@flax.struct.dataclass
class LMOutput:
    """Attributes:
    logits: float32[B, T, V]; of which label, `Decoder.predicts_next` says.
    """

    logits: jax.Array


class Decoder(nn.Module):
    """A language model over tokens that see what precedes them.

    Batches have `text` and `text_mask`, with padding on either side, and optionally `prefix`
    float[B, Q, D0] (soft prompts in place of the first tokens' vectors), `prefix_mask` bool[B, Q]
    and `positions` int32[B, Q + T]. In training `sees` bool[B or 1, Q + T, Q + T] may say which
    tokens see each other at most, so that a row holds several texts.
    """

    cfg: Any
    compute: Compute = Compute()

    encoder_decoder = False
    causal = True

    @property
    def predicts_next(self) -> bool:
        """Whether logits at t are of the label at t + 1; otherwise they are of the one at t."""
        return self.causal and not self.encoder_decoder

    def __call__(self, batch: Batch) -> LMOutput:
        """Logits at every position; see `LMOutput`."""
        return LMOutput(self.head(self.hidden(batch)))

    def hidden(self, batch: Batch) -> jax.Array:
        """Final states [B, L, D]: of prefix and text, or of the decoder's text. See `head`."""
        x, mask, positions = self.inputs(batch)
        memory, memory_mask = self.encode(batch)
        dropout_rng = self.make_rng("dropout") if self.has_rng("dropout") else None
        ctx = self._context(mask, positions, memory, memory_mask)
        if "sees" in batch:
            ctx = ctx.replace(mask=ctx.mask & batch["sees"][:, None])
        x, _ = self.stack(self.blocks, self.enter(x, positions), None, ctx, dropout_rng)
        return self.leave(x)

    def prefill(self, batch: Batch, max_len: int) -> tuple[jax.Array, DecodeCache]:
        """Reads the prompts.

        Args:
          batch: as of `__call__`; with an encoder `decoder_text` too, where the answer is to begin
            with more than the start token.
          max_len: S, slots in all.

        Returns:
          (float32[B, V], logits of the token behind each row's last, the cache).

        Raises:
          UserError: a model that sees what follows.
        """
        if not self.causal:
            raise UserError(f"{self.cfg.kind}: sees all tokens at once, so it continues none")
        batch = {key: value for key, value in batch.items() if key != "labels"}
        x, mask, positions = self.inputs(batch)
        rows, length = mask.shape
        if max_len < length:
            raise ValueError(f"max_len {max_len} is less than the prompt's {length}")
        memory, memory_mask = self.encode(batch)
        ctx = self._context(mask, positions, memory, memory_mask)
        cache = self.stack.begin_cache(self.blocks, rows)
        x, cache = self.stack(self.blocks, self.enter(x, positions), cache, ctx)
        grown = [
            {name: kv.grow(max_len) if name == "attn" else kv for name, kv in layer.items()}
            for layer in (cache if isinstance(cache, tuple) else (cache,))
        ]
        last = length - 1 - jnp.argmax(mask[:, ::-1], axis=1)
        logits = self.head(self.leave(jnp.take_along_axis(x, last[:, None, None], axis=1)))
        free = ((0, 0), (0, max_len - length))
        positions = jnp.broadcast_to(positions, mask.shape)
        return logits[:, 0], DecodeCache(
            layers=tuple(grown) if isinstance(cache, tuple) else grown[0],
            valid=constrain(jnp.pad(mask, free), "batch", None),
            positions=constrain(jnp.pad(positions, free), "batch", None),
            next_position=constrain(jnp.where(mask, positions + 1, 0).max(1), "batch"),
            slot=jnp.int32(length),
            memory_valid=memory_mask,
        )

    def extend(
        self,
        tokens: jax.Array,
        mask: jax.Array,
        cache: DecodeCache,
        *,
        sees: jax.Array | None = None,
        positions: jax.Array | None = None,
    ) -> tuple[jax.Array, DecodeCache]:
        """Reads further tokens. See `advance`, whose states this turns into logits.

        Returns:
          (float32[B, T, V], the cache).
        """
        x, cache = self.advance(tokens, mask, cache, sees=sees, positions=positions)
        return self.head(x), cache

    def advance(
        self,
        tokens: jax.Array,
        mask: jax.Array,
        cache: DecodeCache,
        *,
        sees: jax.Array | None = None,
        positions: jax.Array | None = None,
    ) -> tuple[jax.Array, DecodeCache]:
        """Reads further tokens into the cache's next T slots.

        Args:
          tokens: int32[B, T].
          mask: bool[B, T], False on padding.
          cache: with T free slots.
          sees: bool[B, T, S], which slots each token sees, its own among them: T tokens of a row
            may continue the row in different ways. Default: all before it.
          positions: int32[B, T]; default those that follow.

        Returns:
          (final states [B, T, D], the cache).
        """
        start = cache.slot
        if positions is None:
            positions = cache.next_position[:, None] + jnp.maximum(jnp.cumsum(mask, 1) - 1, 0)
        valid = jax.lax.dynamic_update_slice(cache.valid, mask, (0, start))
        slots = jax.lax.dynamic_update_slice(cache.positions, positions, (0, start))
        if sees is None:
            sees = masks.padding(valid) & masks.causal(tokens.shape[1], valid.shape[1], start)
        else:
            sees = sees[:, None]
        memory_valid = cache.memory_valid
        ctx = Context(
            mask=sees,
            bias=self.bias(positions, slots),
            positions=positions,
            memory_mask=None if memory_valid is None else masks.padding(memory_valid),
            slot=start,
            causal=True,
        )
        x = self.enter(self.token(tokens), positions)
        x, layers = self.stack(self.blocks, x, cache.layers, ctx)
        behind = jnp.where(mask, positions + 1, 0).max(1)
        return self.leave(x), cache.replace(
            layers=layers,
            valid=valid,
            positions=slots,
            next_position=jnp.maximum(cache.next_position, behind),
            slot=start + tokens.shape[1],
        )

    def inputs(self, batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
        """What the layers read: vectors [B, L, D0], mask bool[B, L], positions int32[B or 1, L]."""
        text = batch["text"]
        mask = batch.get("text_mask")
        mask = jnp.ones(text.shape, bool) if mask is None else mask
        x = self.token(text)
        if "prefix" in batch:
            prefix = batch["prefix"].astype(x.dtype)
            if prefix.shape[-1] != x.shape[-1]:
                raise UserError(
                    f"{self.cfg.kind}: the prefix has vectors of {prefix.shape[-1]}, the model's "
                    f"tokens of {x.shape[-1]}"
                )
            prefix_mask = batch.get("prefix_mask")
            if prefix_mask is None:
                prefix_mask = jnp.ones(prefix.shape[:2], bool)
            x = constrain(jnp.concatenate([prefix, x], 1), "batch", None, None)
            mask = jnp.concatenate([prefix_mask, mask], 1)
        return x, mask, self._positions(batch, mask)

    def encode(self, batch: Batch) -> tuple[jax.Array | None, jax.Array | None]:
        """An encoder's (states [B, M, D], mask bool[B, M]); there is none."""
        return None, None

    def enter(self, x: jax.Array, positions: jax.Array) -> jax.Array:
        """Token vectors [B, T, D0], positions int32[B or 1, T] -> the first layer's input."""
        return x

    def leave(self, x: jax.Array) -> jax.Array:
        """The last layer's output -> final states [B, T, D]."""
        return self.final_norm(x)

    def head(self, x: jax.Array) -> jax.Array:
        """Final states [..., D] -> logits float32[..., V]."""
        return self.token.attend(x) if self.cfg.tied else self.lm_head(x)

    def bias(self, queries: jax.Array, keys: jax.Array) -> jax.Array | None:
        """What is added to attention logits, [B or 1, N, T, S]: nothing.

        Args:
          queries, keys: positions, int32[B or 1, T] and int32[B or 1, S].
        """
        return None

    @property
    def vocab_size(self) -> int:
        """Rows of the token table."""
        return self.cfg.vocab_size

    def dummy_batch(self, rows: int) -> dict[str, jax.Array]:
        """The smallest batch that `__call__` takes, for initialisation."""
        return {"text": jnp.zeros((rows, 2), jnp.int32)}

    def _positions(self, batch: Batch, mask: jax.Array) -> jax.Array:
        """Given ones, or the number of tokens before each, checked against the model's."""
        if "positions" in batch:  # A row may hold several texts.
            return batch["positions"]
        limit, length = self.cfg.max_len, mask.shape[1]
        if limit is not None and length > limit:
            raise UserError(
                f"{self.cfg.kind}: {length} tokens, the model has {limit} positions: truncate"
            )
        return jnp.maximum(jnp.cumsum(mask, 1, dtype=jnp.int32) - 1, 0)

    def _context(self, mask, positions, memory, memory_mask) -> Context:
        length, sees = mask.shape[1], masks.padding(mask)
        return Context(
            mask=sees & masks.causal(length, length) if self.causal else sees,
            bias=self.bias(positions, positions),
            positions=positions,
            memory=memory,
            memory_mask=None if memory_mask is None else masks.padding(memory_mask),
            causal=self.causal,
        )


def shift_right(
    labels: jax.Array, start_id: int, pad_id: int, positions: jax.Array | None = None
) -> jax.Array:
    """What a decoder reads to predict labels int32[B, T]: the start, and all but the last.

    Where a row holds several texts, `positions` int32[B or 1, T] is 0 at the start of each.
    """
    before = jnp.where(labels < 0, pad_id, labels)[:, :-1]
    positions = jnp.arange(labels.shape[1]) if positions is None else positions
    return jnp.where(positions == 0, start_id, jnp.pad(before, ((0, 0), (1, 0))))


def output_layer(cfg: Any, width: int, std: float, dtype: str) -> Linear:
    """The output layer of a model whose token table is not that, called `lm_head`."""
    shape = (width,), (cfg.vocab_size,)
    return Linear(*shape, std, use_bias=False, dtype=dtype, out_dtype="float32")
