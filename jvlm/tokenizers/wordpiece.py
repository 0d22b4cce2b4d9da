# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""BERT's WordPiece, by the rules of transformers or by Google's original ones."""

import os
import unicodedata
from collections.abc import Iterable, Mapping

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from jvlm.errors import UserError, did_you_mean
from jvlm.tokenizers.base import Base, read, write_files

PAD, UNK, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL = {"pad_token": PAD, "unk_token": UNK, "cls_token": CLS, "sep_token": SEP}
RULES = ("transformers", "google")


class WordPiece(Base):
    """[CLS] text [SEP], padded with [PAD].

    Attributes: see `tokenizers.Tokenizer`; bos_id is [CLS], eos_id is [SEP].
    """

    kind = "wordpiece"

    def __init__(
        self,
        files: Mapping[str, bytes],
        *,
        max_len: int,
        lower: bool = True,
        strip_accents: bool | None = None,
        split_cjk: bool = True,
        sep: bool = True,
        rules: str = "transformers",
        where: str = "vocab.txt",
    ):
        """Makes the tokenizer.

        Args:
          files: content of vocab.txt, a token per line.
          max_len: T; Chinese-CLIP 52.
          lower: lower-case the text.
          strip_accents: drop accents; None means as `lower`.
          split_cjk: every CJK character is a word.
          sep: end with [SEP]; ALBEF's text is [CLS] X (models/tokenization_bert.py).
          rules: 'transformers', where a special token spelled in a text is that token and words
            over 100 characters are unknown; 'google', the original BERT's as in cn_clip, where
            special tokens in a text are plain text, the limit is 200, and Unicode's categories and
            lower case are Python's.
          where: the file in messages.

        Raises:
          UserError: a duplicate line, a missing special token, unknown rules.
        """
        options = dict(lower=lower, strip_accents=strip_accents, split_cjk=split_cjk)
        super().__init__(files, max_len=max_len, sep=sep, rules=rules, **options)
        if rules not in RULES:
            raise UserError(f"tokenizer.rules {rules!r} is unknown.{did_you_mean(rules, RULES)}")
        vocab = parse_vocab(files["vocab.txt"], where)
        self.vocab_size = len(vocab)
        self.pad_id, self.bos_id, self.eos_id = vocab[PAD], vocab[CLS], vocab[SEP]
        self._start, self._end = [self.bos_id], [self.eos_id] if sep else []
        self._special = {self.pad_id, self.bos_id, self.eos_id}
        self._backend = bert_backend(vocab, max_chars=200 if rules == "google" else 100, **options)
        self._clean = None
        if rules == "google":
            accents = lower if strip_accents is None else strip_accents
            self._clean = lambda text: google_words(text, lower, accents, split_cjk)
            self._backend.normalizer = normalizers.Sequence([])
            self._backend.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
        else:
            self._backend.add_special_tokens(
                [token for token in (*SPECIAL.values(), MASK) if token in vocab]
            )
        self._backend.post_processor = template(vocab, sep)

    @classmethod
    def read(
        cls,
        path: str | os.PathLike,
        max_len: int,
        lower: bool = True,
        strip_accents: bool | None = None,
        split_cjk: bool = True,
        sep: bool = True,
        rules: str = "transformers",
    ) -> "WordPiece":
        """Reads a vocab.txt; for the options see `WordPiece`."""
        options = dict(lower=lower, strip_accents=strip_accents, split_cjk=split_cjk, sep=sep)
        files = {"vocab.txt": read(path)}
        return cls(files, max_len=max_len, rules=rules, where=str(path), **options)

    def pieces(self, text: str) -> list[int]:
        text = self._clean(text) if self._clean else text
        return self._backend.encode(text, add_special_tokens=False).ids

    def spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        if self._clean:
            return super().spans(text)
        encoding = self._backend.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def decode(self, ids: Iterable[int]) -> str:
        ids = [int(i) for i in ids if int(i) not in self._special]
        return self._backend.decode(ids, skip_special_tokens=False)

    def export(self, folder: str | os.PathLike) -> None:
        """Writes a BertTokenizer, or without [SEP] a tokenizer.json that says so.

        `rules='google'` has no counterpart in transformers; its files give the same ids for
        ordinary text.
        """
        # BertTokenizer always ends with [SEP], whatever tokenizer.json says.
        own = self._options
        names = SPECIAL | {"mask_token": MASK}
        config = {
            "tokenizer_class": "BertTokenizer" if own["sep"] else "PreTrainedTokenizerFast",
            "model_max_length": self.max_len,
            "do_lower_case": own["lower"],
            "strip_accents": own["strip_accents"],
            "tokenize_chinese_chars": own["split_cjk"],
            **names,
        }
        plain = WordPiece(self._files, **own | {"rules": "transformers"})._backend
        files = {"tokenizer_config.json": config, "special_tokens_map.json": names}
        files["tokenizer.json"] = plain.to_str().encode()
        write_files(folder, self._files | files)


def bert_backend(
    vocab: Mapping[str, int],
    *,
    lower: bool,
    strip_accents: bool | None,
    split_cjk: bool,
    max_chars: int = 100,
) -> Tokenizer:
    """BERT's normalisation and word pieces (transformers' BertTokenizer), nothing added."""
    model = models.WordPiece(dict(vocab), unk_token=UNK, max_input_chars_per_word=max_chars)
    backend = Tokenizer(model)
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=split_cjk,
        strip_accents=strip_accents,
        lowercase=lower,
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    return backend


def template(vocab: Mapping[str, int], sep: bool) -> processors.TemplateProcessing:
    """[CLS] $A, with or without [SEP]."""
    tokens = (CLS, SEP) if sep else (CLS,)
    return processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}" if sep else f"{CLS} $A",
        special_tokens=[(token, vocab[token]) for token in tokens],
    )


def parse_vocab(content: bytes, where: str) -> dict[str, int]:
    """Token -> line number, or one line that names the file.

    Raises:
      UserError: not UTF-8, a token listed twice, or a special token missing.
    """
    # Lines end at '\n' only: bert-base-chinese has U+2028 as a token.
    lines = read(where, lambda _: content.decode()).split("\n")
    lines = [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]
    vocab = {token: id for id, token in enumerate(lines)}
    if len(vocab) < len(lines):
        twice = next(token for id, token in enumerate(lines) if vocab[token] != id)
        raise UserError(f"{where}: {twice!r} is listed twice")
    missing = [token for token in SPECIAL.values() if token not in vocab]
    if missing:
        raise UserError(f"{where}: no {', '.join(missing)}: not a BERT vocabulary")
    return vocab


def google_words(text: str, lower: bool, strip_accents: bool, split_cjk: bool) -> str:
    """The original BERT's basic tokenizer (google-research/bert tokenization.py).

    Returns:
      Words and punctuation marks, separated by single spaces.
    """
    chars = []
    for char in text:
        category = unicodedata.category(char)
        if char in "\t\n\r" or category == "Zs":
            chars.append(" ")
        elif category not in ("Cc", "Cf") and char != "\ufffd":
            chars.append(f" {char} " if split_cjk and _is_cjk(ord(char)) else char)
    # Word by word, since the lower case of a final sigma depends on where the word ends.
    words = "".join(chars).split()
    if lower:
        words = [word.lower() for word in words]
    text = " ".join(words)
    if strip_accents:
        text = unicodedata.normalize("NFD", text)
        text = "".join(char for char in text if unicodedata.category(char) != "Mn")
    return " ".join("".join(f" {c} " if _is_punctuation(c) else c for c in text).split())


def _is_cjk(code: int) -> bool:
    return (
        0x4E00 <= code <= 0x9FFF
        or 0x3400 <= code <= 0x4DBF
        or 0x20000 <= code <= 0x2A6DF
        or 0x2A700 <= code <= 0x2CEAF
        or 0xF900 <= code <= 0xFAFF
        or 0x2F800 <= code <= 0x2FA1F
    )


def _is_punctuation(char: str) -> bool:
    ascii_symbol = char < "\x7f" and not char.isalnum() and char > " "
    return ascii_symbol or unicodedata.category(char).startswith("P")
