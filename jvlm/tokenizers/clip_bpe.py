# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""CLIP's byte-level BPE as OpenAI and open_clip run it (clip/simple_tokenizer.py, clip/clip.py)."""

import gzip
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import regex

from jvlm.errors import UserError
from jvlm.tokenizers import clean as cleaning
from jvlm.tokenizers.base import Base, read, read_json, to_json, write_files

# GPT-2's printable stand-ins for the 256 bytes, in the order of the vocabulary.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
BYTES = {byte: chr(byte) for byte in _PRINTABLE}
BYTES |= {byte: chr(256 + i) for i, byte in enumerate(_OTHERS)}

END = "</w>"  # Marks the last symbol of a word.
SOT, EOT = "<|startoftext|>", "<|endoftext|>"
OPEN_CLIP = ("<start_of_text>", "<end_of_text>")
CACHE_SIZE = 2**17  # Words.
GZ = "bpe_simple_vocab_16e6.txt.gz"


class ClipBPE(Base):
    """[start] lower-cased BPE [end], padded with 0; the last id of a truncated row is the end.

    HF's CLIPTokenizer differs: it repairs no text and pads with the end token
    (`from_checkpoint(..., family='hf')`).

    Attributes: see `tokenizers.Tokenizer`.
    """

    kind = "clip_bpe"

    def __init__(
        self,
        files: Mapping[str, bytes],
        *,
        max_len: int = 77,
        clean: str = "lower",
        special_tokens: Sequence[str] = OPEN_CLIP,
        where: str = "",
    ):
        """Makes the tokenizer.

        Args:
          files: contents of vocab.json and merges.txt.
          max_len: T.
          clean: 'lower', 'whitespace', 'canonicalize' or 'none' (`tokenizers.clean`).
          special_tokens: what a text spells start and end with; open_clip's, while OpenAI's code
            knows them as <|startoftext|> and <|endoftext|>.
          where: prefix of the file names in messages.

        Raises:
          UserError: files that do not fit each other.
        """
        special_tokens = list(special_tokens)
        super().__init__(files, max_len=max_len, clean=clean, special_tokens=special_tokens)
        self._clean = cleaning.choose(clean)
        vocab = read_json(files["vocab.json"], f"{where}vocab.json")
        merges = parse_merges(files["merges.txt"], f"{where}merges.txt")
        needed = [*BYTES.values(), *(c + END for c in BYTES.values()), SOT, EOT]
        missing = [s for s in (*needed, *(a + b for a, b in merges)) if s not in vocab]
        if missing or len(set(vocab.values())) < len(vocab):
            reason = f"lacks {missing[0]!r}" if missing else "gives two entries the same id"
            raise UserError(f"{where}vocab.json: {reason}: not the vocabulary of {where}merges.txt")
        self.vocab_size = max(vocab.values()) + 1
        self.pad_id, self.bos_id, self.eos_id = 0, vocab[SOT], vocab[EOT]
        self._start, self._end = [self.bos_id], [self.eos_id]
        self._vocab = vocab
        self._ranks = {(vocab[a], vocab[b]): rank for rank, (a, b) in enumerate(merges)}
        self._merged = [vocab[a + b] for a, b in merges]
        self._bytes = [vocab[BYTES[byte]] for byte in range(256)]
        self._last = [vocab[BYTES[byte] + END] for byte in range(256)]
        self._cache = dict(zip(special_tokens, ((self.bos_id,), (self.eos_id,))))
        special = "|".join(map(regex.escape, special_tokens))
        self._pattern = regex.compile(
            special + r"|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+", regex.IGNORECASE
        )
        symbols = {id: symbol for symbol, id in vocab.items() if symbol not in (SOT, EOT)}
        codes = {char: byte for byte, char in BYTES.items()}
        self._symbols = {
            id: bytes(codes[char] for char in symbol)
            for id, symbol in symbols.items()
            if all(char in codes for char in symbol)
        }

    @classmethod
    def read(
        cls,
        path: str | os.PathLike,
        max_len: int = 77,
        vocab_size: int = 49_408,
        clean: str = "lower",
        special_tokens: Sequence[str] = OPEN_CLIP,
    ) -> "ClipBPE":
        """Reads OpenAI's `bpe_simple_vocab_16e6.txt.gz`, or a folder's vocab.json and merges.txt.

        Args:
          path: the `.gz` file or the folder.
          max_len: T.
          vocab_size: how many of the `.gz` file's merges count: vocab_size - 514.
          clean, special_tokens: see `ClipBPE`.

        Raises:
          UserError: missing, damaged, or too few merges.
        """
        options = dict(max_len=max_len, clean=clean, special_tokens=special_tokens)
        path = Path(path)
        if path.is_dir():
            files = {name: read(path / name) for name in ("vocab.json", "merges.txt")}
            return cls(files, where=f"{path}/", **options)
        text = read(path, lambda path: gzip.decompress(path.read_bytes()).decode())
        count = vocab_size - 2 * len(BYTES) - 2
        lines = text.split("\n")[1:]  # The first line is a header.
        lines = [line for line in lines[:count] if line]
        if len(lines) != count:
            raise UserError(
                f"{path}: {len(lines)} merges, vocab_size {vocab_size} needs {count}: not {GZ}, "
                "or another vocab_size"
            )
        merges = "\n".join(["#version: 0.2", *lines, ""]).encode()
        symbols = [*BYTES.values(), *(c + END for c in BYTES.values())]
        symbols += ["".join(pair) for pair in parse_merges(merges, path)] + [SOT, EOT]
        vocab = {symbol: id for id, symbol in enumerate(symbols)}
        if len(vocab) < len(symbols):
            raise UserError(f"{path}: two merges give the same symbol")
        files = {"vocab.json": to_json(vocab), "merges.txt": merges}
        return cls(files, where=f"{path}: ", **options)

    def pieces(self, text: str) -> list[int]:
        ids = []
        for match in self._pattern.finditer(self._clean(text)):
            ids += self._cache.get(match[0]) or self._merge(match[0])
        return ids

    def _merge(self, word: str) -> tuple[int, ...]:
        """Joins the pair of lowest rank, everywhere in the word, until none is left."""
        *body, last = word.encode()
        ids, ranks = [*(self._bytes[byte] for byte in body), self._last[last]], self._ranks
        never = len(ranks)
        while len(ids) > 1:
            rank = min(ranks.get(pair, never) for pair in zip(ids, ids[1:]))
            if rank == never:
                break
            merged, out, i = self._merged[rank], [], 0
            while i < len(ids):
                joins = i + 1 < len(ids) and ranks.get((ids[i], ids[i + 1])) == rank
                out.append(merged if joins else ids[i])
                i += 2 if joins else 1
            ids = out
        if len(self._cache) < CACHE_SIZE:
            self._cache[word] = tuple(ids)
        return tuple(ids)

    def decode(self, ids: Iterable[int]) -> str:
        # The padding is the id of '!', so the end token says where the text ends.
        text = itertools.takewhile(lambda id: id != self.eos_id, map(int, ids))
        text = b"".join(self._symbols.get(id, b"") for id in text).decode(errors="replace")
        return text.replace(END, " ").strip()

    def export(self, folder: str | os.PathLike) -> None:
        """Writes a CLIPTokenizer: the same ids for clean text, but padded with the end token."""
        names = {"bos_token": SOT, "eos_token": EOT, "unk_token": EOT, "pad_token": EOT}
        config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": self.max_len, **names}
        extra = {"tokenizer_config.json": config, "special_tokens_map.json": names}
        write_files(folder, self._files | extra)


def parse_merges(content: bytes, where: str | os.PathLike) -> list[tuple[str, str]]:
    """The pairs of a merges file, best first, or one line that names the file."""
    text = read(where, lambda _: content.decode())
    lines = [line for line in text.split("\n") if line and not line.startswith("#version")]
    pairs = [tuple(line.split()) for line in lines]
    for pair, line in zip(pairs, lines):
        if len(pair) != 2:
            raise UserError(f"{where}: {line!r} is not a merge of two symbols")
    if len(set(pairs)) < len(pairs):
        raise UserError(f"{where}: a merge is listed twice")
    return pairs
