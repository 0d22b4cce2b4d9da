# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tensors that files may hold twice because they are one in the model."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jvlm.convert.files import Renamed, Tensors
from jvlm.errors import UserError


def settle(
    cfg: Any,
    tensors: Tensors,
    copies: Mapping[str, str],
    head: tuple[str, str] | None,
    hint: str = "",
) -> tuple[Any, Tensors, tuple[str, ...]]:
    """Looks at what is there twice: at its values, since configs are often wrong about it.

    Args:
      cfg: the model's config, with `tied` where there is a `head`.
      tensors: the checkpoint's.
      copies: key -> the one whose values it must have.
      head: key of the output layer, and of the token table that it may be. Where the two differ,
        the model is not tied, whatever the config says, as in transformers (modeling_utils.py
        `tie_weights`).

    Returns:
      (the config, the tensors, the keys that need not be read).

    Raises:
      UserError: a copy that is none.
    """
    skip = []
    pairs = dict(copies)
    if head is not None and cfg.tied:
        pairs[head[0]] = head[1]
    for key, original in pairs.items():
        if key not in tensors.shapes:
            continue
        if original not in tensors.shapes:  # Only one of the two was written, under this name.
            names = {key: original}
            tensors = Renamed(tensors, lambda name, names=names: names.get(name, name))
        elif _equal(tensors, key, original):
            skip.append(key)
        elif head is not None and key == head[0]:
            cfg = dataclasses.replace(cfg, tied=False)
        else:
            raise UserError(
                f"{tensors.name}: {key} is not {original}, which it is in the model{hint}"
            )
    return cfg, tensors, tuple(skip)


def _equal(tensors: Tensors, a: str, b: str) -> bool:
    same_shape = tensors.shapes[a] == tensors.shapes[b]
    return same_shape and np.array_equal(tensors.read(a), tensors.read(b))
