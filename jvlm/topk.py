# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Exact maximum-inner-product search on the devices, over as many vectors as the host can stream.

vectors   [ chunk 0 | chunk 1 | ... ]     a chunk: rows over all devices
each      scores = queries @ rows.T, the k best of every device, in row order
merge     the k best of (best so far, those)
"""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jvlm.sharding import MESH_AXES, replicated

CHUNK_BYTES = 256 << 20


def top_k(
    queries: np.ndarray, vectors: np.ndarray | Iterable[np.ndarray], k: int, mesh: Mesh
) -> tuple[np.ndarray, np.ndarray]:
    """The k vectors with the greatest inner product with each query; of equal ones the first.

    Args:
      queries: float[Q, E].
      vectors: float[N, E], or its parts in order.
      k: how many; at most N come back.
      mesh: of devices of this host, or of hosts that all hold the same vectors.

    Returns:
      (scores float32[Q, min(k, N)], rows int64[Q, min(k, N)]), best first.
    """
    queries = np.asarray(queries, np.float32)
    scores = np.full((len(queries), 0), -np.inf, np.float32)
    rows = np.zeros((len(queries), 0), np.int64)
    start = 0
    for part in [vectors] if isinstance(vectors, np.ndarray) else vectors:
        for chunk, real in _chunks(part, mesh):
            new, place = jax.device_get(_best_of_chunk(mesh, k)(queries, chunk, real))
            # The merge is a stable sort of at most 2k numbers a query: earlier rows stay first.
            scores = np.concatenate([scores, new], axis=1)
            rows = np.concatenate([rows, place + np.int64(start)], axis=1)
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            scores = np.take_along_axis(scores, order, axis=1)
            rows = np.take_along_axis(rows, order, axis=1)
            start += real
    found = min(k, start)
    return scores[:, :found], rows[:, :found]


def _chunks(vectors: np.ndarray, mesh: Mesh):
    """(float[C, E] on the devices, real rows): all of one shape, whose rows the devices share."""
    rows = min(len(vectors), max(1, CHUNK_BYTES // (4 * vectors.shape[1])))
    rows = 1 << (rows - 1).bit_length()  # Few shapes, so few compilations.
    rows = -(-rows // mesh.size) * mesh.size
    place = NamedSharding(mesh, PartitionSpec(MESH_AXES, None))
    for start in range(0, len(vectors), rows):
        chunk = vectors[start : start + rows]
        real = len(chunk)
        chunk = np.pad(chunk, ((0, rows - real), (0, 0)))
        yield jax.make_array_from_callback(chunk.shape, place, chunk.__getitem__), real


@functools.lru_cache
def _best_of_chunk(mesh: Mesh, k: int):
    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(MESH_AXES), PartitionSpec()),
        out_specs=(PartitionSpec(None, MESH_AXES), PartitionSpec(None, MESH_AXES)),
    )
    def of_device(queries, rows, real):
        first = jax.lax.axis_index(MESH_AXES) * rows.shape[0]
        scores = jnp.matmul(
            queries, rows.astype(jnp.float32).T, precision=jax.lax.Precision.HIGHEST
        )
        scores = jnp.where(first + jnp.arange(rows.shape[0]) < real, scores, -jnp.inf)
        scores, place = jax.lax.top_k(scores, min(k, rows.shape[0]))
        return scores, first + place

    return jax.jit(of_device, out_shardings=replicated(mesh))
