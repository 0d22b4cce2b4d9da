# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Large JSON files, entry by entry: annotations of a gigabyte are several as Python objects."""

import itertools
import json
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, TextIO

from jvlm.data.importers.files import read_json
from jvlm.errors import UserError

_SPACE = re.compile(r"[ \t\n\r]*")
_CHUNK = 1 << 20


def read_entries(path: Path, *keys: str) -> Iterator[tuple[str | int, Any]]:
    """The (place, value) of a list, or the (key, value) of an object, that a JSON file holds.

    Args:
      path: the file.
      *keys: where in the file's object the list or object is; default the whole file.

    Raises:
      UserError: unreadable, not JSON (found out only where it is not), or there is neither.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = _Text(file)
            found = yield from _entries_below(text, keys)
            if text.peek():
                raise ValueError
    except (OSError, ValueError):
        read_json(path)  # Says where it is no JSON.
        raise UserError(f"{path}: cannot be read as JSON") from None
    if not found:
        raise UserError(f"{path}: no list" + (f" under {':'.join(keys)!r}" if keys else ""))


def _entries_below(text: "_Text", keys: tuple[str, ...]) -> Generator[tuple, None, bool]:
    """Goes past a value; gives what is under its keys, and whether there is such a thing."""
    if text.peek() not in (("{",) if keys else ("{", "[")):
        text.skip()
        return False
    if not keys:
        yield from text.entries()
        return True
    found = False
    for name in text.members():
        if name == keys[0]:
            found |= yield from _entries_below(text, keys[1:])
        else:
            text.skip()
    return found


class _Text:
    """A JSON text with a place in it, of which about as much is held as one entry needs."""

    def __init__(self, file: TextIO):
        self._file = file
        self._text, self._at = "", 0

    def _read_on(self) -> bool:
        """False if there is no more."""
        rest = self._text[self._at :]
        more = self._file.read(max(_CHUNK, len(rest)))  # Twice as much: all tries cost as the last.
        self._text, self._at = rest + more, 0
        return bool(more)

    def peek(self) -> str:
        """The next character that is no space, '' at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()
            if self._at < len(self._text) or not self._read_on():
                return self._text[self._at : self._at + 1]

    def _take(self, *expected: str) -> str:
        character = self.peek()
        if character not in expected:
            raise ValueError
        self._at += 1
        return character

    def value(self) -> Any:
        """The next value."""
        self.peek()
        while True:
            try:
                value, end = _decode(self._text, self._at)
                if end < len(self._text):  # Else a number may go on.
                    self._at = end
                    return value
            except ValueError:
                pass
            if not self._read_on():
                raise ValueError

    def members(self) -> Iterator[str | int]:
        """Of an object or list, the key or place of every value, at whose beginning it stops."""
        closing = {"{": "}", "[": "]"}[self._take("{", "[")]
        if self.peek() == closing:
            self._take(closing)
            return
        for place in itertools.count():
            name = place
            if closing == "}":
                name = self.value()
                if not isinstance(name, str):
                    raise ValueError
                self._take(":")
            yield name
            if self._take(",", closing) == closing:
                return

    def entries(self) -> Iterator[tuple[str | int, Any]]:
        """The members of an object or list."""
        for name in self.members():
            yield name, self.value()

    def skip(self) -> None:
        """Goes past a value."""
        if self.peek() in ("[", "{"):
            for _ in self.entries():
                pass
        else:
            self.value()


_decode = json.JSONDecoder().raw_decode
