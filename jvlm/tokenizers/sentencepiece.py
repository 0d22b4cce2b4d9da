# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""SentencePiece vocabularies, trained from a data set's texts or read from a checkpoint."""

import io
import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import sentencepiece

from jvlm.errors import UserError

PAD, EOS, UNK = 0, 1, 2  # T5's and SigLIP's numbering.


class SentencePiece:
    """A unigram or BPE model; texts get an end token and no start token.

    Attributes: see `tokenizers.Tokenizer`.
    """

    def __init__(self, model: bytes, max_len: int):
        self._model, self.max_len = model, max_len
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.vocab_size = self._processor.vocab_size()
        self.pad_id, self.eos_id = self._processor.pad_id(), self._processor.eos_id()

    def __call__(self, texts: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        texts = list(texts)
        ids = np.full((len(texts), self.max_len), self.pad_id, np.int32)
        for row, text in zip(ids, texts):
            # One by one: given a list, the library starts threads that cost ten times the work.
            pieces = self._processor.encode(text)[: self.max_len - 1] + [self.eos_id]
            row[: len(pieces)] = pieces
        return ids, ids != self.pad_id

    def decode(self, ids: Iterable[int]) -> str:
        special = (self.pad_id, self.eos_id)
        return self._processor.decode([int(i) for i in ids if i not in special])

    def __reduce__(self):
        return SentencePiece, (self._model, self.max_len)

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, max_len: int, model_type: str = "unigram"
    ) -> "SentencePiece":
        """Learns a vocabulary.

        Args:
          texts: lower-cased or not, as the model will see them.
          vocab_size: upper bound; a small corpus gives fewer pieces.
          max_len: T.
          model_type: 'unigram' or 'bpe'; the latter finds whole words in a small corpus.

        Raises:
          UserError: no texts, or a vocabulary smaller than the alphabet.
        """
        model = io.BytesIO()
        try:
            # One thread: the result must not depend on the machine.
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(texts),
                model_writer=model,
                vocab_size=vocab_size,
                model_type=model_type,
                hard_vocab_limit=False,
                character_coverage=1.0,
                num_threads=1,
                pad_id=PAD,
                eos_id=EOS,
                unk_id=UNK,
                bos_id=-1,
                minloglevel=2,
            )
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[-1].split("] ")[-1]
            raise UserError(f"tokenizer: SentencePiece cannot be trained: {reason}") from None
        return cls(model.getvalue(), max_len)

    def save(self, folder: str | os.PathLike) -> None:
        # The folder appears whole or not at all: its existence means that it is complete.
        part = Path(f"{folder}.part")
        part.mkdir(parents=True, exist_ok=True)
        (part / "spiece.model").write_bytes(self._model)
        (part / "tokenizer.json").write_text(json.dumps({"max_len": self.max_len}))
        part.rename(folder)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "SentencePiece":
        """Reads what `save` wrote."""
        options = json.loads((Path(folder) / "tokenizer.json").read_text())
        return cls((Path(folder) / "spiece.model").read_bytes(), options["max_len"])
