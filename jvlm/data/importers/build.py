# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""From a record to the example that is stored: pictures opened, boxes and values checked."""

import dataclasses
import functools
import math
import numbers
import os
from collections.abc import Mapping, Sequence
from typing import Any

from jvlm.data.importers.metadata import LINKED
from jvlm.data.importers.pictures import Loader, Picture
from jvlm.data.importers.records import Blob, Unusable
from jvlm.data.importers.schemas import SCHEMAS, Feature

OVERHANG = 2.0
"""Pixels by which a box may stick out, as rounding makes it; it is clipped. More is a mistake."""

_EMPTY = {"text": "", "texts": [], "int": 0}


@dataclasses.dataclass(frozen=True)
class Builder:
    """Makes examples by a schema.

    Attributes:
      schema: key of SCHEMAS.
      labels: names of the feature `label`.
      load: opens pictures.
      root: folder that the paths of linked pictures are relative to.
    """

    schema: str
    labels: Sequence[str]
    load: Loader
    root: str

    def __call__(
        self, name: str, values: Mapping[str, Any], blobs: Sequence[Blob]
    ) -> tuple[dict[str, Any], list[tuple[int, Unusable]]]:
        """Makes one example.

        Args:
          name: the record's id.
          values: feature -> value; absent ones, None and NaN get the feature's empty value.
          blobs: its pictures.

        Returns:
          The example, and of a list of entries those that were left out: index and why.

        Raises:
          Unusable: the record has no example.
        """
        schema = SCHEMAS[self.schema]
        unknown = [key for key in values if key not in schema]
        if unknown:
            raise Unusable("wrong value", f"{self.schema} have no {', '.join(unknown)}")
        pictures = [picture for blob in blobs for picture in self.load(blob)]
        first = pictures[0] if pictures else None
        example: dict[str, Any] = {"id": name}
        left_out: list[tuple[int, Unusable]] = []
        for key, kind in schema.items():
            if kind in ("image", "images"):
                example |= self._pictures(key, kind, pictures)
            elif isinstance(kind, Mapping):
                example[key] = self._entries(values.get(key), kind, first, left_out)
                if left_out and "label" in schema:  # It counts the entries.
                    raise left_out[0][1]
            else:
                example[key] = self._value(key, kind, values.get(key), first)
        return example, left_out

    @functools.cached_property
    def _label_index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.labels)}

    def _pictures(self, key: str, kind: str, pictures: Sequence[Picture]) -> dict[str, Any]:
        if kind == "image" and len(pictures) != 1:
            raise Unusable(f"{len(pictures) or 'no'} pictures, not one", "")
        if self.load.link:
            key, stored = LINKED[kind], [os.path.relpath(p.path, self.root) for p in pictures]
        else:
            stored = [picture.data for picture in pictures]
        return {key: stored[0] if kind == "image" else stored}

    def _entries(
        self,
        entries: Any,
        kinds: Mapping[str, str],
        picture: Picture | None,
        left_out: list[tuple[int, Unusable]],
    ) -> dict[str, list]:
        """Dicts, or a dict of lists -> a dict of lists without the entries whose box is wrong."""
        if isinstance(entries, Mapping):
            names, lists = list(entries), list(entries.values())
            if not all(isinstance(v, list) and len(v) == len(lists[0]) for v in lists):
                raise Unusable("wrong value", f"{names} are not lists of one length")
            entries = [dict(zip(names, row)) for row in zip(*lists)]
        entries = [] if entries is None else entries
        if not isinstance(entries, list):
            raise Unusable("wrong value", f"{ascii(entries)[:60]} is not a list of entries")
        kept = []
        for index, entry in enumerate(entries):
            if not isinstance(entry, Mapping):
                raise Unusable("wrong value", f"{ascii(entry)[:60]} is not an entry of names")
            try:
                kept.append({n: self._value(n, k, entry.get(n), picture) for n, k in kinds.items()})
            except Unusable as error:
                left_out.append((index, error))
        if entries and not kept:
            raise left_out[0][1]
        return {name: [entry[name] for entry in kept] for name in kinds}

    def _value(self, key: str, kind: Feature, value: Any, picture: Picture | None) -> Any:
        if kind == "box":
            return check_box(value, picture)
        if value is None or value != value:  # NaN is how pandas writes it.
            return -1 if key == "label" else _EMPTY[kind]
        if kind == "text" and isinstance(value, int) and not isinstance(value, bool):
            return str(value)  # Ids are numbers in some files, texts in others.
        if kind == "label" and isinstance(value, str) and self.labels:
            value = self._label_index.get(value, value)
        if kind == "label" and self.labels and value not in range(-1, len(self.labels)):
            raise Unusable("unknown label", f"{ascii(value)[:60]} of {len(self.labels)}")
        return value


def check_box(box: Any, picture: Picture | None) -> list[float]:
    """Clips a box to its picture, and scales it with it.

    Args:
      box: x0, y0, x1, y1 in pixels of the original.
      picture: None checks the numbers alone.

    Raises:
      Unusable: not four numbers, without area, or outside by more than OVERHANG.
    """
    is_box = isinstance(box, Sequence) and len(box) == 4
    if not is_box or not all(isinstance(v, numbers.Real) and math.isfinite(v) for v in box):
        raise Unusable("wrong box", f"{ascii(box)[:60]} is not four numbers")
    x0, y0, x1, y1 = box
    if picture:
        height, width = picture.height, picture.width
        if max(-x0, -y0, x1 - width, y1 - height) > OVERHANG:
            raise Unusable("box outside the picture", f"{list(box)} in {width} x {height} px")
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    if x0 >= x1 or y0 >= y1:
        raise Unusable("box without area", str(list(box)))
    down, right = picture.scale if picture else (1.0, 1.0)
    return [x0 * right, y0 * down, x1 * right, y1 * down]
