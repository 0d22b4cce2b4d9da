# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What evaluators share: running a model over batches, and gathering rows on every host."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jvlm import sharding


def jit_on_mesh(fn: Callable, mesh: jax.sharding.Mesh) -> Callable:
    """Compiles `fn(params, batch) -> rows`; the result is replicated, any host can read it."""
    return jax.jit(fn, out_shardings=sharding.replicated(mesh))


def run_rows(
    fn: Callable, params: Any, batches: Iterable[Mapping[str, np.ndarray]], mesh: jax.sharding.Mesh
) -> list[tuple[Any, dict[str, np.ndarray]]]:
    """Applies a compiled `fn(params, batch)` to batches, padding rows removed.

    Returns:
      one (outputs, batch) per batch, numpy, with the rows of all hosts.
    """
    results = []
    for batch in batches:
        arrays = {key: value for key, value in batch.items() if key != "_mask"}
        out = fn(params, sharding.put_batch(arrays, mesh))
        if jax.process_count() > 1:
            batch = multihost_utils.process_allgather(dict(batch), tiled=True)
        valid = batch["_mask"]
        out = jax.tree.map(lambda x, valid=valid: x[valid], jax.device_get(out))
        results.append((out, {key: value[valid] for key, value in batch.items()}))
    return results


def embed_texts(
    encode: Callable, params: Any, tokenizer: Any, texts: list[str], mesh: jax.sharding.Mesh
) -> np.ndarray:
    """Embeds texts in batches of 256. Returns float32[len(texts), E]."""
    ids, masks = tokenizer(texts)
    size = 256
    rows = []
    for start in range(0, len(texts), size):
        part = np.arange(start, start + size)
        inside = np.minimum(part, len(texts) - 1)
        # Every host holds all texts; it hands in its rows of the batch.
        mine = np.array_split(inside, jax.process_count())[jax.process_index()]
        batch = sharding.put_batch({"text": ids[mine], "text_mask": masks[mine]}, mesh)
        rows.append(jax.device_get(encode(params, batch))[part < len(texts)])
    return np.concatenate(rows)
