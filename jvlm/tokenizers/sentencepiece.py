# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""SentencePiece vocabularies, trained from a data set's texts or read from a checkpoint."""

import io
import os
import re
from collections.abc import Iterable, Mapping

import sentencepiece

from jvlm.errors import UserError
from jvlm.tokenizers import clean as cleaning
from jvlm.tokenizers.base import Base, read, write_files

PAD, EOS, UNK = 0, 1, 2  # T5's and SigLIP's numbering.
SPACE = "▁"
SIGLIP = {"siglip": cleaning.siglip, "siglip_cased": cleaning.siglip_cased}


class SentencePiece(Base):
    """A unigram or BPE model; texts get an end token and no start token.

    Attributes: see `tokenizers.Tokenizer`.
    """

    kind = "sentencepiece"

    def __init__(
        self,
        files: Mapping[str, bytes],
        *,
        max_len: int,
        clean: str = "none",
        pad: str | None = None,
        where: str = "spiece.model",
    ):
        """Makes the tokenizer.

        Args:
          files: content of spiece.model.
          max_len: T; SigLIP 64.
          clean: see `tokenizers.clean`; 'siglip' is HF's SiglipTokenizer, 'siglip_cased' the same
            with do_lower_case off.
          pad: the piece that pads; default the model's own, for SigLIP the end token.
          where: the file in messages.

        Raises:
          UserError: damaged model, or one without an end token or that pad piece.
        """
        super().__init__(files, max_len=max_len, clean=clean, pad=pad)
        self._clean = cleaning.choose(clean, cleaning.CLEAN | SIGLIP)
        self._processor = sp = sentencepiece.SentencePieceProcessor()
        read(where, lambda _: sp.LoadFromSerializedProto(files["spiece.model"]))
        self.vocab_size, self.eos_id = sp.vocab_size(), sp.eos_id()
        if self.eos_id < 0:
            raise UserError(f"{where}: has no end token")
        self.pad_id = self.eos_id if clean in SIGLIP else sp.pad_id()
        if pad is not None:
            self.pad_id = sp.piece_to_id(pad) if sp.id_to_piece(sp.piece_to_id(pad)) == pad else -1
        if self.pad_id < 0:
            raise UserError(f"{where}: has no pad token {pad or ''}: set tokenizer.pad to a piece")
        if clean in SIGLIP:
            self._special = [sp.id_to_piece(i) for i in (self.eos_id, sp.unk_id())]
            self._unknown = len(sp.encode(self._special[1]))

    def encode(self, text: str) -> list[int]:
        if self._options["clean"] in SIGLIP:
            ids = self._encode_siglip(text)[: self.max_len - 1]
            return ids if ids and ids[-1] == self.eos_id else [*ids, self.eos_id]
        return self._processor.encode(self._clean(text))[: self.max_len - 1] + [self.eos_id]

    def _encode_siglip(self, text: str) -> list[int]:
        """HF SiglipTokenizer.tokenize: special tokens stay whole, the rest is encoded piecewise.

        Each part is encoded behind the spelled-out unknown token, whose pieces are dropped, so that
        the model's own leading space does not come on top.
        """
        eos, unknown = self._special
        parts = re.split(
            f"({re.escape(eos)}|{re.escape(unknown)})", SPACE + text.replace(SPACE, " ")
        )
        ids = []
        for i, part in enumerate(parts):
            if part in self._special:
                ids.append(self._processor.piece_to_id(part))
                continue
            part = part.lstrip() if i else part
            part = part.rstrip() if i + 1 < len(parts) else part
            if part:
                ids += self._processor.encode(unknown + self._clean(part))[self._unknown :]
        if len(ids) > 1 and parts[0] == SPACE:
            ids = ids[1:] if ids[0] == self._processor.piece_to_id(SPACE) else ids
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        special = (self.pad_id, self.eos_id)
        return self._processor.decode([int(i) for i in ids if i not in special])

    @classmethod
    def make(
        cls,
        texts: Iterable[str],
        max_len: int,
        path: str | os.PathLike | None = None,
        vocab_size: int | None = None,
        model_type: str = "unigram",
        clean: str = "none",
        pad: str | None = None,
    ) -> "SentencePiece":
        """Reads the model at `path`, or trains one of `vocab_size` pieces on `texts`.

        Raises:
          UserError: both or neither are asked for, or as `SentencePiece` and `train`.
        """
        if (path is None) == (vocab_size is None):
            raise UserError("tokenizer: give path (read a model) or vocab_size (train one)")
        if path is not None:
            files = {"spiece.model": read(path)}
            return cls(files, max_len=max_len, clean=clean, pad=pad, where=str(path))
        prepare = cleaning.choose(clean, cleaning.CLEAN | SIGLIP)
        trained = cls.train(map(prepare, texts), vocab_size, max_len, model_type)
        return cls(trained._files, max_len=max_len, clean=clean, pad=pad)

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
        return cls({"spiece.model": model.getvalue()}, max_len=max_len)

    def export(self, folder: str | os.PathLike) -> None:
        """Writes a SiglipTokenizer.

        Raises:
          UserError: another cleaning, for which transformers has no class.
        """
        sp, clean = self._processor, self._options["clean"]
        if clean not in SIGLIP:
            raise UserError(
                f"tokenizer: SentencePiece with clean={clean!r} has no class in transformers; "
                "clean='siglip' has"
            )
        names = {"eos_token": sp.id_to_piece(self.eos_id), "unk_token": sp.id_to_piece(sp.unk_id())}
        names["pad_token"] = sp.id_to_piece(self.pad_id)
        config = {
            "tokenizer_class": "SiglipTokenizer",
            "model_max_length": self.max_len,
            "do_lower_case": clean == "siglip",
            **names,
        }
        extra = {"tokenizer_config.json": config, "special_tokens_map.json": names}
        write_files(folder, self._files | extra)
