# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""A data set that is wrong in part, to measure what an objective or a filter makes of it."""

from collections.abc import Sequence
from typing import Any

from jvlm.data.order import mix
from jvlm.errors import UserError

_ATTEMPTS = 100


class MismatchedSource:
    """Another data set, of which a share of the examples has entries of other examples.

    Which ones, and whose, is a pure function of the seed and the place. An example has `mismatched`
    bool too.

    Args:
      source: the other data set; a config gives its section.
      share: of the examples, 0 to 1.
      keys: the entries that are swapped in, such as captions and what they mean.
      differ: one of them, that is never the example's own: a wrong caption means something else.
      seed: of the choice.

    Raises:
      UserError: bad options; no such keys; an example for which no other differs in 100 draws.
    """

    def __init__(self, source: Any, share: float, keys: Sequence[str], differ: str, seed: int = 0):
        if not 0 <= share <= 1:
            raise UserError(f"data.source.share {share}: give 0 <= x <= 1")
        if differ not in keys:
            raise UserError(f"data.source.differ {differ!r} is none of keys, {', '.join(keys)}")
        self.source, self.class_names = source, getattr(source, "class_names", None)
        self._share, self._keys, self._differ, self._seed = share, tuple(keys), differ, seed
        self.fingerprint = {
            "kind": "mismatched",
            "source": source.fingerprint,
            "share": share,
            "keys": list(keys),
            "differ": differ,
            "seed": seed,
        }

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self.source[index]
        if mix(self._seed, index) >= self._share * 2**64:
            return {**example, "mismatched": False}
        if missing := [key for key in self._keys if key not in example]:
            raise UserError(f"data.source.keys: no {missing} in an example: {sorted(example)}")
        for attempt in range(_ATTEMPTS):
            other = self.source[mix(self._seed, index, attempt) % len(self)]
            if other[self._differ] != example[self._differ]:
                swapped = {key: other[key] for key in self._keys}
                return {**example, **swapped, "mismatched": True}
        raise UserError(f"data.source: no other example found whose {self._differ!r} differs")
