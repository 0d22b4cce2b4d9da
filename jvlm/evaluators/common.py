# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What evaluators share: running a model over batches, and gathering rows on every host."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jvlm import progress, sharding


def jit_on_mesh(fn: Callable, mesh: jax.sharding.Mesh) -> Callable:
    """Compiles `fn(params, batch) -> rows`; the result is replicated, any host can read it."""
    return jax.jit(fn, out_shardings=sharding.replicated(mesh))


def run_rows(
    fn: Callable, params: Any, batches: Any, mesh: jax.sharding.Mesh, keep: Sequence[str]
) -> Iterator[tuple[Any, dict[str, np.ndarray]]]:
    """Applies a compiled `fn(params, batch)` to batches, padding rows removed.

    Args:
      fn: from `jit_on_mesh`.
      params: nested dict.
      batches: `evaluators.Batches`.
      mesh: the device mesh.
      keep: batch keys to hand on, where the batches have them; they take the same way as the
        outputs, so that rows agree on every host.

    Yields:
      (outputs, {key: values}) per batch, numpy, with the rows of all hosts.
    """
    gather = _gatherer(mesh)
    for batch in batches:
        arrays = sharding.put_batch(batch, mesh, batches.batch_size)
        kept = gather(None, {key: arrays[key] for key in (*keep, "_mask") if key in arrays})
        del arrays["_mask"]
        out, kept = jax.device_get((fn(params, arrays), kept))
        valid = kept.pop("_mask")
        yield jax.tree.map(lambda x, valid=valid: x[valid], (out, kept))


@functools.cache
def _gatherer(mesh: jax.sharding.Mesh) -> Callable:
    """`jit_on_mesh` of the identity on batches; compiled once, not per evaluation."""
    return jit_on_mesh(lambda _, batch: batch, mesh)


def embed_all(
    encode: Callable,
    params: Any,
    make: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    count: int,
    mesh: jax.sharding.Mesh,
    batch_size: int,
) -> np.ndarray:
    """Embeds items that every host holds, in batches of one shape.

    Args:
      encode: compiled `fn(params, batch) -> float32[B, E]`.
      params: nested dict.
      make: item indices -> their batch.
      count: items.
      mesh: the device mesh.
      batch_size: rows a batch, rounded up to what the devices share evenly.

    Returns:
      float32[count, E].
    """
    shards = sharding.batch_shards(mesh)
    size = -(-min(batch_size, count) // shards) * shards
    rows, running = [], None
    for start in progress.bar(range(0, count, size), unit="batch"):
        batch = make(np.minimum(np.arange(start, start + size), count - 1))
        # The devices compute while the host fetches the batch before and makes the next.
        embeds = encode(params, sharding.put_whole_batch(batch, mesh))
        if running is not None:
            rows.append(jax.device_get(running))
        running = embeds
    return np.concatenate([*rows, jax.device_get(running)])[:count]


def embed_ids(
    encode: Callable, params: Any, ids: tuple[np.ndarray, np.ndarray], mesh: jax.sharding.Mesh
) -> np.ndarray:
    """What a tokenizer gives, (int32[N, T], bool[N, T]) -> float32[N, E]."""
    make = lambda part: {"text": ids[0][part], "text_mask": ids[1][part]}
    return embed_all(encode, params, make, len(ids[0]), mesh, 256)
