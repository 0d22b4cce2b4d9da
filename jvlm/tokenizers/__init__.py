# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Text to ids and back, one small interface for every kind of vocabulary."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from jvlm.config import construct
from jvlm.errors import UserError, did_you_mean
from jvlm.tokenizers.sentencepiece import SentencePiece


class Tokenizer(Protocol):
    """What every tokenizer offers.

    Attributes:
      vocab_size: ids are below it.
      pad_id, eos_id: special ids.
      max_len: T of a batch.
    """

    vocab_size: int
    pad_id: int
    eos_id: int
    max_len: int

    def __call__(self, texts: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        """B texts -> (ids int32[B, T], mask bool[B, T]), truncated and padded to T = max_len."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text; special ids give nothing."""
        ...

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the files that `load` reads."""
        ...


TOKENIZERS = {"sentencepiece": SentencePiece}


def build_tokenizer(
    section: Mapping, folder: str | os.PathLike, texts: Iterable[str] = ()
) -> Tokenizer:
    """Loads a run's tokenizer from `folder`, or makes it and stores it there.

    Args:
      section: the config's `tokenizer`: `kind` and that kind's options.
      folder: the run's tokenizer folder.
      texts: what a tokenizer that is trained is trained on.
    """
    options = {
        key: value
        for key, value in section.items()
        if key not in ("kind", "train_on", "train_examples")
    }
    kind = section.get("kind", "")
    if kind not in TOKENIZERS:
        raise UserError(f"tokenizer.kind {kind!r} is unknown.{did_you_mean(kind, TOKENIZERS)}")
    cls = TOKENIZERS[kind]
    if not Path(folder).is_dir():
        tokenizer = construct(cls.train, options, where="tokenizer", texts=texts)
        tokenizer.save(folder)
    return cls.load(folder)
