# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What models share that read image and question and answer by a decoder (VQA of ALBEF, BLIP)."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jvlm.errors import UserError
from jvlm.layers import DecodeCache
from jvlm.layers.image import dummy_image
from jvlm.models.towers.decoder import LMOutput, shift_right
from jvlm.precision import Compute


class AnswererConfig:
    """What the config of an `Answerer` says as that of a language model.

    It has `vision`, `text`, the reader of questions, and `decoder`, a `BertLMConfig` whose blocks
    attend to the question's states and whose `bos_id` begins answers.
    """

    def __post_init__(self):
        if not self.decoder.causal or self.decoder.memory_width != self.text.width:
            raise UserError(
                f"model.decoder: set causal=True and memory_width={self.text.width}, as wide as "
                "model.text"
            )
        if self.decoder.bos_id is None:
            raise UserError("model.decoder: set bos_id, the id that answers begin with")

    @property
    def start_id(self) -> int:
        """What an answer begins with."""
        return self.decoder.bos_id

    @property
    def eos_id(self) -> int | tuple[int, ...] | None:
        """What an answer ends with."""
        return self.decoder.eos_id

    @property
    def pad_id(self) -> int:
        """Padding of questions and answers."""
        return self.decoder.pad_id

    @property
    def max_len(self) -> int:
        """Tokens of an answer at most."""
        return self.decoder.max_len

    @property
    def question_len(self) -> int:
        """Tokens of a question at most."""
        return self.text.max_len


class Answerer(nn.Module):
    """As a language model an encoder-decoder, see `models.towers.decoder`.

    `image`, `text` and `text_mask` are the encoder's. A model says in `setup` what its `decoder`
    is, and in `question` how it reads.
    """

    cfg: Any
    compute: Compute = Compute()

    encoder_decoder = True
    causal = True
    predicts_next = False

    def __call__(self, batch: Mapping[str, jax.Array]) -> LMOutput:
        """Logits of the labels at their places."""
        return LMOutput(self.head(self.hidden(batch)))

    def question(self, batch: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """`image`, `text`, `text_mask` -> ([B, T, D], of words that saw the image, bool[B, T])."""
        raise NotImplementedError

    def hidden(self, batch: Mapping[str, jax.Array]) -> jax.Array:
        """The decoder's final states [B, L, D]."""
        return self.decoder.hidden(self._answers(batch))

    def head(self, x: jax.Array) -> jax.Array:
        """[..., D] -> logits float32[..., V]."""
        return self.decoder.head(x)

    def prefill(self, batch: Mapping, max_len: int) -> tuple[jax.Array, DecodeCache]:
        """See `Decoder.prefill`."""
        return self.decoder.prefill(self._answers(batch), max_len)

    def extend(self, *args, **options) -> tuple[jax.Array, DecodeCache]:
        """See `Decoder.extend`."""
        return self.decoder.extend(*args, **options)

    def advance(self, *args, **options) -> tuple[jax.Array, DecodeCache]:
        """See `Decoder.advance`."""
        return self.decoder.advance(*args, **options)

    def _answers(self, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """What the decoder reads; the answer behind the start token where only labels are given."""
        memory, mask = self.question(batch)
        text = batch.get("decoder_text")
        if text is None:
            text = shift_right(
                batch["labels"], self.cfg.start_id, self.cfg.pad_id, batch.get("decoder_positions")
            )
        own = {"text": text, "memory": memory, "memory_mask": mask}
        names = {"decoder_mask": "text_mask", "decoder_positions": "positions", "sees": "sees"}
        return own | {ours: batch[theirs] for theirs, ours in names.items() if theirs in batch}

    @property
    def vocab_size(self) -> int:
        """Rows of the token table of questions."""
        return self.cfg.text.vocab_size

    def dummy_batch(self, rows: int) -> dict[str, jax.Array]:
        """The smallest batch that `__call__` takes, for initialisation."""
        two = jnp.zeros((rows, 2), jnp.int32)
        image = dummy_image(self.cfg.vision.image_size, rows)
        return {"image": image, "text": two, "decoder_text": two}
