# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""A progress bar on standard error for work that takes longer than two seconds."""

import sys
from collections.abc import Iterable

import tqdm


def bar(
    items: Iterable | None = None, *, unit: str, total: int | None = None, leave: bool = False
) -> tqdm.tqdm:
    """Wraps an iterable, or gives a bar whose `update(count)` is called.

    Args:
      items: what is iterated over, or None.
      unit: what is counted, 'image'.
      total: how many, where `items` does not say.
      leave: the finished bar stays on the screen.
    """
    return tqdm.tqdm(
        items,
        unit=unit,
        total=total,
        leave=leave,
        delay=2,
        disable=_is_silent(),
        mininterval=0.1 if sys.stderr.isatty() else 20.0,  # A log file needs fewer lines.
    )


def _is_silent() -> bool:
    """Only the first process of a run has bars. Work that does not use JAX does not start it."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.process_index() > 0
