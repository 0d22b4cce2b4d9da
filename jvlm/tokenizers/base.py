# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What all tokenizers share: padding, masks, storage, pickling, reading files."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from jvlm.errors import UserError

OPTIONS = "options.json"  # In a run's folder, beside the tokenizer's own files.


class Base:
    """A tokenizer made from the bytes of its vocabulary files and a few plain options.

    A kind says how one text becomes ids (`pieces`, `spans`) and back, what stands around them
    (`_start`, `_end`), and how transformers' files are written (`export`); everything else follows
    from `files` and `options`.

    Attributes: see `tokenizers.Tokenizer`.
    """

    kind: ClassVar[str]
    vocab_size: int
    pad_id: int
    eos_id: int
    bos_id: int | None = None
    _start: Sequence[int] = ()
    _end: Sequence[int] = ()

    def __init__(self, files: Mapping[str, bytes], *, max_len: int, **options: Any):
        if not isinstance(max_len, int) or max_len < 2:
            raise UserError(f"tokenizer: max_len is {max_len!r}: give a number of ids, at least 2")
        self.max_len = max_len
        self._files, self._options = dict(files), {"max_len": max_len, **options}

    def pieces(self, text: str) -> list[int]:
        """One text's ids without start and end."""
        raise NotImplementedError

    def spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """`pieces`, and the characters that each stands for: (first, behind the last)."""
        raise UserError(f"tokenizer: {self.kind} cannot say which characters its ids stand for")

    def encode(
        self,
        text: str,
        *,
        start: bool = True,
        end: bool | None = None,
        max_len: int | None = None,
    ) -> list[int]:
        head, tail = self._around_text(start, end)
        ids = [*head, *self.pieces(_whole(text))]
        return [*(ids if max_len is None else ids[: max_len - len(tail)]), *tail]

    def encode_with_offsets(
        self, text: str, *, start: bool = True, end: bool | None = None
    ) -> tuple[list[int], np.ndarray]:
        clean = self._options.get("clean", "none")
        if clean != "none":
            raise UserError(
                f"tokenizer: clean={clean!r} changes a text, so its ids have no offsets"
            )
        head, tail = self._around_text(start, end)
        ids, spans = self.spans(_whole(text))
        spans = [*[(0, 0)] * len(head), *spans, *[(len(text), len(text))] * len(tail)]
        return [*head, *ids, *tail], np.array(spans, np.int32).reshape(-1, 2)

    def _around_text(self, start: bool, end: bool | None) -> tuple[Sequence[int], Sequence[int]]:
        tail = self._end if end is None else [self.eos_id] if end else []
        return self._start if start else (), tail

    def __call__(
        self, texts: Iterable[str], *, end: bool | None = None, truncate: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(texts, str):
            raise UserError("tokenizer: give a list of texts, not one text")
        limit = self.max_len if truncate else None
        rows = [self.encode(text, end=end, max_len=limit) for text in texts]
        length = self.max_len if truncate else max(map(len, rows), default=0)
        ids = np.full((len(rows), length), self.pad_id, np.int32)
        mask = np.zeros(ids.shape, bool)
        for row, real, tokens in zip(ids, mask, rows):
            row[: len(tokens)] = tokens
            real[: len(tokens)] = True
        return ids, mask

    def settled(self, ids: Sequence[int]) -> int:
        return len(ids)

    def save(self, folder: str | os.PathLike) -> None:
        """Stores the tokenizer in a run's folder."""
        # The folder appears whole or not at all: its existence means that it is complete.
        part = Path(f"{folder}.part")
        write_files(part, self._files | {OPTIONS: {"kind": self.kind, **self._options}})
        part.rename(folder)

    @classmethod
    def load(cls, folder: str | os.PathLike):
        """Reads what `save` wrote."""
        paths = [path for path in Path(folder).iterdir() if path.is_file()]
        files = {path.name: path.read_bytes() for path in paths}
        options = read_json(files.pop(OPTIONS), f"{folder}/{OPTIONS}")
        options.pop("kind")
        return read(folder, lambda _: cls(files, **options))

    def __reduce__(self):
        return _make, (type(self), self._files, self._options)


def _make(cls: type[Base], files: Mapping[str, bytes], options: Mapping) -> Base:
    return cls(files, **options)


def write_files(folder: str | os.PathLike, files: Mapping[str, bytes | dict]) -> None:
    """Writes named files into a folder, made if missing; dicts as JSON."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (Path(folder) / name).write_bytes(
            to_json(content) if isinstance(content, dict) else content
        )


def to_json(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, indent=1).encode()


def read(path: str | os.PathLike, parse: Callable[[Path], Any] = Path.read_bytes) -> Any:
    """`parse(path)`, by default the content; what fails becomes one line that names the path."""
    try:
        return parse(Path(path))
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such tokenizer file") from None
    except Exception as error:  # Damaged files fail in many ways, all of them the file's.
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read: {type(error).__name__}: {reason}") from None


def read_json(content: bytes, where: str) -> Any:
    """Parsed JSON, or one line that names the file."""
    return read(where, lambda _: json.loads(content))


def _whole(text: str) -> str:
    """Half a surrogate pair, as broken JSON has it, becomes a question mark."""
    return text.encode("utf-8", "replace").decode()
