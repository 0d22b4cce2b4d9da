# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""SentencePiece vocabularies, trained from a data set's texts or read from a checkpoint."""

import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2, sentencepiece_pb2

from jvlm.errors import UserError
from jvlm.tokenizers import clean as cleaning
from jvlm.tokenizers.base import Base, read, write_files

PAD, EOS, UNK, BOS = 0, 1, 2, 3  # T5's and SigLIP's numbering, which have no start token.
UNIGRAM = 1  # In a model's own record.
SPACE = "▁"
SIGLIP = {"siglip": cleaning.siglip, "siglip_cased": cleaning.siglip_cased}


class SentencePiece(Base):
    """A unigram or BPE model.

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
        bos: str | None = None,
        eos: str | None = None,
        start: bool = False,
        end: bool = True,
        special: Mapping[str, int] | None = None,
        legacy: bool = True,
        where: str = "spiece.model",
    ):
        """Makes the tokenizer.

        Args:
          files: content of spiece.model.
          max_len: T; SigLIP 64.
          clean: see `tokenizers.clean`; 'siglip' is HF's SiglipTokenizer, 'siglip_cased' the same
            with do_lower_case off.
          pad: the token that pads; default the model's own, for SigLIP and for models without one
            the end token.
          bos, eos: start and end token; default the model's own.
          start: texts begin with the start token (LLaMA).
          end: texts end with the end token (T5, SigLIP), unless `encode` is told otherwise.
          special: token -> id of what a text may spell, such as '</s>' or '<extra_id_0>', and what
            `decode` leaves out; ids may lie beyond the model's.
          legacy: the text behind a special token begins with a space of its own, as the first does
            and as sentencepiece has it; else only the first (LLaMA's `legacy: false`).
          where: the file in messages.

        Raises:
          UserError: damaged model, or one without an end token or one of those named.
        """
        names = dict(pad=pad, bos=bos, eos=eos)
        options = dict(start=start, end=end, special=special, legacy=legacy)
        super().__init__(files, max_len=max_len, clean=clean, **names, **options)
        self._clean = cleaning.choose(clean, cleaning.CLEAN | SIGLIP)
        self._processor = sp = _load(files["spiece.model"], where)
        self._special = dict(special or {})
        self.vocab_size = max([sp.vocab_size() - 1, *self._special.values()]) + 1

        def find(name: str, own: int, what: str, default: int | None = None) -> int | None:
            token = names[name]
            if token is None:
                return own if own >= 0 else default
            if token in self._special:
                return self._special[token]
            if sp.id_to_piece(sp.piece_to_id(token)) != token:
                raise UserError(f"{where}: has no {what} token {token}: set tokenizer.{name}")
            return sp.piece_to_id(token)

        self.eos_id = find("eos", sp.eos_id(), "end")
        if self.eos_id is None:
            raise UserError(f"{where}: has no end token")
        self.bos_id = find("bos", sp.bos_id(), "start")
        if start and self.bos_id is None:
            raise UserError(f"{where}: has no start token: set tokenizer.start to False")
        self.pad_id = find("pad", -1 if clean in SIGLIP else sp.pad_id(), "pad", self.eos_id)
        self._start, self._end = [self.bos_id] if start else [], [self.eos_id] if end else []
        self._silent = {self.pad_id, self.eos_id, self.bos_id, *self._special.values()}
        spelled = sorted(self._special, key=len, reverse=True)
        self._split = re.compile(f"({'|'.join(map(re.escape, spelled))})") if spelled else None
        self._bare = sp if legacy else _load(files["spiece.model"], where, add_dummy_prefix=False)
        if clean in SIGLIP:
            self._spelled = [sp.id_to_piece(i) for i in (self.eos_id, sp.unk_id())]
            self._unknown = len(sp.encode(self._spelled[1]))

    def pieces(self, text: str) -> list[int]:
        if self._options["clean"] in SIGLIP:
            return self._siglip_pieces(text)
        ids = []
        for special, part, processor in self._parts(self._clean(text)):
            ids += [special] if processor is None else processor.encode(part)
        return ids

    def spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        ids, spans, place = [], [], 0
        for special, part, processor in self._parts(text):
            if processor is None:
                ids.append(special)
                spans.append((place, place + len(part)))
            else:
                some, bounds = _spans(processor, part)
                ids += some
                spans += [(place + first, place + last) for first, last in bounds]
            place += len(part)
        return ids, spans

    def _parts(self, text: str) -> Iterator[tuple[int | None, str, Any]]:
        """(id, its spelling, None) of special tokens, (None, text, its processor) of the rest."""
        for i, part in enumerate(self._split.split(text) if self._split else [text]):
            if i % 2:
                yield self._special[part], part, None
            elif part:
                yield None, part, self._bare if i else self._processor

    def encode(self, text: str, *, max_len: int | None = None, **options) -> list[int]:
        ids = super().encode(text, max_len=max_len, **options)
        if self._options["clean"] in SIGLIP and ids[-2:] == [self.eos_id] * 2:
            return ids[:-1]  # As in transformers: a text that spells the end is not ended twice.
        return ids

    def _siglip_pieces(self, text: str) -> list[int]:
        """HF SiglipTokenizer.tokenize: special tokens stay whole, the rest is encoded piecewise.

        Each part is encoded behind the spelled-out unknown token, whose pieces are dropped, so that
        the model's own leading space does not come on top.
        """
        eos, unknown = self._spelled
        parts = re.split(
            f"({re.escape(eos)}|{re.escape(unknown)})", SPACE + text.replace(SPACE, " ")
        )
        ids = []
        for i, part in enumerate(parts):
            if part in self._spelled:
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
        size = self._processor.vocab_size()
        ids = (int(i) for i in ids)
        return self._processor.decode([i for i in ids if i not in self._silent and i < size])

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
        start: bool = False,
        end: bool = True,
        required_chars: str = "",
    ) -> "SentencePiece":
        """Reads the model at `path`, or trains one of `vocab_size` pieces on `texts`.

        A model that is trained has a start token if texts `start` with it.

        Raises:
          UserError: both or neither are asked for, or as `SentencePiece` and `train`.
        """
        if (path is None) == (vocab_size is None):
            raise UserError("tokenizer: give path (read a model) or vocab_size (train one)")
        options = dict(max_len=max_len, clean=clean, pad=pad, start=start, end=end)
        if path is not None:
            return cls({"spiece.model": read(path)}, where=str(path), **options)
        prepare = cleaning.choose(clean, cleaning.CLEAN | SIGLIP)
        trained = cls.train(
            map(prepare, texts), vocab_size, max_len, model_type, start, required_chars
        )
        return cls(trained._files, **options)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        max_len: int,
        model_type: str = "unigram",
        start: bool = False,
        required_chars: str = "",
    ) -> "SentencePiece":
        """Learns a vocabulary.

        Args:
          texts: lower-cased or not, as the model will see them.
          vocab_size: upper bound; a small corpus gives fewer pieces.
          max_len: T.
          model_type: 'unigram'; 'bpe', which finds whole words in a small corpus; or 'char'.
          start: with a start token, which texts begin with.
          required_chars: characters that get a piece though the texts may lack them.

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
                required_chars=required_chars,
                num_threads=1,
                pad_id=PAD,
                eos_id=EOS,
                unk_id=UNK,
                bos_id=BOS if start else -1,
                minloglevel=2,
            )
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[-1].split("] ")[-1]
            raise UserError(f"tokenizer: SentencePiece cannot be trained: {reason}") from None
        return cls({"spiece.model": model.getvalue()}, max_len=max_len, start=start)

    def export(self, folder: str | os.PathLike) -> None:
        """Writes a SiglipTokenizer; without cleaning a T5Tokenizer (unigram) or a LlamaTokenizer.

        transformers' LlamaTokenizer reads no normalisation from a model: for one trained here, ids
        are the same for text in NFKC without doubled spaces.

        Raises:
          UserError: transformers has no class that would give the same ids.
        """
        own, content = self._options, self._files["spiece.model"]
        tokens = {id: token for token, id in self._special.items()}
        token = lambda id: tokens.get(id) or self._processor.id_to_piece(id)
        names = {"eos_token": token(self.eos_id), "unk_token": token(self._processor.unk_id())}
        names["pad_token"] = token(self.pad_id)
        config = {"model_max_length": self.max_len, **names}
        if own["clean"] in SIGLIP:
            kind, file = "SiglipTokenizer", "spiece.model"
            config["do_lower_case"] = own["clean"] == "siglip"
        elif own["clean"] != "none":
            raise UserError(
                f"tokenizer: SentencePiece with clean={own['clean']!r} has no class in "
                "transformers; clean='siglip' and 'none' have"
            )
        elif _parse(content).trainer_spec.model_type == UNIGRAM:
            if own["start"] or not own["end"]:
                raise UserError(
                    "tokenizer: transformers ends all texts of a unigram model and starts none: "
                    "train it with model_type='bpe'"
                )
            kind, file = "T5Tokenizer", "spiece.model"
            config["extra_ids"] = sum("<extra_id_" in token for token in self._special)
        else:
            kind, file = "LlamaTokenizer", "tokenizer.model"
            if self.bos_id is not None:
                names["bos_token"] = config["bos_token"] = token(self.bos_id)
            config |= {"add_bos_token": own["start"], "add_eos_token": own["end"]}
            flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False)
            config |= {
                "legacy": own["legacy"],
                "added_tokens_decoder": {
                    str(id): {"content": text, "special": True, **flags}
                    for id, text in tokens.items()
                },
            }
        config["tokenizer_class"] = kind
        files = {file: content, "tokenizer_config.json": config, "special_tokens_map.json": names}
        write_files(folder, files)


def vocabulary(content: bytes, where: str) -> list[str]:
    """The pieces of a model file's content, by id."""
    processor = _load(content, where)
    return [processor.id_to_piece(id) for id in range(processor.vocab_size())]


def _spans(processor, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids and the characters they stand for."""
    pieces = sentencepiece_pb2.SentencePieceText()
    pieces.ParseFromString(processor.encode(text, out_type="serialized_proto"))
    lengths = [len(char.encode()) for char in text]
    char_at = np.repeat(np.arange(len(text)), lengths).tolist() + [len(text)]
    spans = [(char_at[piece.begin], char_at[piece.end]) for piece in pieces.pieces]
    # Of the bytes of a character only the last one has it.
    for i in reversed(range(len(spans) - 1)):
        if processor.is_byte(pieces.pieces[i].id) and spans[i][0] == spans[i][1]:
            spans[i] = spans[i + 1]
    return [piece.id for piece in pieces.pieces], spans


def _load(
    content: bytes, where: str, *, add_dummy_prefix: bool | None = None
) -> sentencepiece.SentencePieceProcessor:
    processor = sentencepiece.SentencePieceProcessor()
    if add_dummy_prefix is not None:
        model = _parse(content)
        model.normalizer_spec.add_dummy_prefix = add_dummy_prefix
        content = model.SerializeToString()
    read(where, lambda _: processor.LoadFromSerializedProto(content))
    return processor


def _parse(content: bytes) -> sentencepiece_model_pb2.ModelProto:
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(content)
    return model
