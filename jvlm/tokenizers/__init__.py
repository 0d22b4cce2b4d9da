# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Text to ids and back, one small interface for every kind of vocabulary."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from jvlm.config import construct
from jvlm.errors import UserError, did_you_mean
from jvlm.tokenizers.base import OPTIONS, read, read_json
from jvlm.tokenizers.checkpoint import from_checkpoint, has_tokenizer
from jvlm.tokenizers.clip_bpe import ClipBPE
from jvlm.tokenizers.hub import HubTokenizer
from jvlm.tokenizers.sentencepiece import SentencePiece
from jvlm.tokenizers.stream import TextStream
from jvlm.tokenizers.wordpiece import WordPiece

__all__ = [
    "MAKERS",
    "TOKENIZERS",
    "TextStream",
    "Tokenizer",
    "build_tokenizer",
    "from_checkpoint",
    "has_tokenizer",
    "load_tokenizer",
]


class Tokenizer(Protocol):
    """What every tokenizer offers.

    Attributes:
      vocab_size: ids are below it.
      pad_id, eos_id: special ids; the end pads where a vocabulary has no token of its own for it.
      bos_id: the start token, or None. Whether texts begin with it is the vocabulary's choice.
      max_len: T of a batch.
    """

    vocab_size: int
    pad_id: int
    eos_id: int
    bos_id: int | None
    max_len: int

    def __call__(
        self, texts: Iterable[str], *, end: bool | None = None, truncate: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """B texts -> (ids int32[B, T], mask bool[B, T]), padded on the right.

        The mask is True on the text with its start and end tokens, False on padding, also where the
        pad token is the end token.

        Args:
          texts: strings.
          end: see `encode`.
          truncate: cut what is longer than T = max_len, the end token kept; otherwise T is the
            longest text's.
        """
        ...

    def encode(
        self,
        text: str,
        *,
        start: bool = True,
        end: bool | None = None,
        max_len: int | None = None,
    ) -> list[int]:
        """One text's ids.

        Args:
          text: a string.
          start: begin as the vocabulary's texts begin, if these do in a special way ([CLS], <s>);
            False continues a text.
          end: True ends the text with `eos_id`: one to learn from. False leaves it open: a prompt
            that is to be continued. None is what the published tokenizer does: those of encoders
            (CLIP, BERT, T5) end a text, those of decoders (GPT-2, OPT, LLaMA) do not.
          max_len: at most so many, the end token kept; None is all.
        """
        ...

    def encode_with_offsets(
        self, text: str, *, start: bool = True, end: bool | None = None
    ) -> tuple[list[int], np.ndarray]:
        """`encode`, and which characters each id stands for.

        Returns:
          ids as `encode` gives them; int32[T, 2], first character and the one behind the last. Ids
          of parts of one character all have that character; what stands for none, such as start,
          end and a space that the vocabulary adds, has an empty span at its place.

        Raises:
          UserError: the tokenizer cleans texts, or its kind has no offsets (CLIP's BPE, Google's
            WordPiece).
        """
        ...

    def settled(self, ids: Sequence[int]) -> int:
        """How many of the first ids `decode` gives the same text for, whatever follows them.

        Characters that are incomplete aside, which it shows as U+FFFD. See `TextStream`.
        """
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text; special ids give nothing."""
        ...

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the files that `load_tokenizer` reads; the folder appears whole or not at all."""
        ...

    def export(self, folder: str | os.PathLike) -> None:
        """Writes the files that transformers' AutoTokenizer reads into a checkpoint's folder."""
        ...


# Kinds as they are stored, and what makes a tokenizer from a config's section.
TOKENIZERS = {cls.kind: cls for cls in (ClipBPE, HubTokenizer, SentencePiece, WordPiece)}
MAKERS = {
    "checkpoint": from_checkpoint,
    "clip_bpe": ClipBPE.read,
    "sentencepiece": SentencePiece.make,
    "wordpiece": WordPiece.read,
}


def build_tokenizer(
    section: Mapping, folder: str | os.PathLike, texts: Iterable[str] = ()
) -> Tokenizer:
    """Loads a run's tokenizer from `folder`, or makes it and stores it there.

    Args:
      section: the config's `tokenizer`: `kind` and the options of `MAKERS[kind]`.
      folder: the run's tokenizer folder.
      texts: what a tokenizer that is trained is trained on.

    Raises:
      UserError: unknown kind or option, a missing or damaged file.
    """
    options = {
        key: value
        for key, value in section.items()
        if key not in ("kind", "train_on", "train_examples")
    }
    kind = section.get("kind", "")
    if kind not in MAKERS:
        raise UserError(f"tokenizer.kind {kind!r} is unknown.{did_you_mean(kind, MAKERS)}")
    if not Path(folder).is_dir():
        construct(MAKERS[kind], options, where="tokenizer", texts=texts).save(folder)
    return load_tokenizer(folder)


def load_tokenizer(folder: str | os.PathLike) -> Tokenizer:
    """The tokenizer that `save` stored in a run's folder.

    Raises:
      UserError: files are missing or damaged.
    """
    path = Path(folder) / OPTIONS
    kind = read_json(read(path), path)["kind"]
    return TOKENIZERS[kind].load(folder)
