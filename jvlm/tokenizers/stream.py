# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Text of tokens as they come."""

from typing import Any

UNKNOWN = "\ufffd"  # What a decoder shows for bytes that are no character, or not one yet.


class TextStream:
    """Turns one id after the other into text, never half a character.

    What `push` and `end` return, joined, is `tokenizer.decode` of all ids.
    """

    def __init__(self, tokenizer: Any):
        self._tokenizer, self._ids, self._sent = tokenizer, [], 0

    def push(self, id: int) -> str:
        """The text that is certain now and was not before; may be empty."""
        self._ids.append(int(id))
        settled = self._ids[: self._tokenizer.settled(self._ids)]
        return self._new(self._tokenizer.decode(settled).rstrip(UNKNOWN))

    def end(self) -> str:
        """The rest, when no id follows."""
        return self._new(self._tokenizer.decode(self._ids))

    def _new(self, text: str) -> str:
        new = text[self._sent :]
        self._sent += len(new)
        return new
