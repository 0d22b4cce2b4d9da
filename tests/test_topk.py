# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Exact top-k on eight devices, against numpy's stable sort."""

import numpy as np
import pytest

from jvlm import sharding, topk
from jvlm.topk import top_k


@pytest.mark.parametrize("mesh", [dict(data=8), dict(data=2, fsdp=2, tensor=2)])
@pytest.mark.parametrize("count, k", [(1, 5), (7, 3), (203, 10), (64, 64)])
def test_equals_numpy_with_ties(rng, mesh, count, k):
    # Small integers: exact in any order of summation, and full of ties.
    vectors = rng.integers(-2, 3, (count, 4)).astype(np.float32)
    queries = rng.integers(-2, 3, (3, 4)).astype(np.float32)
    scores, rows = top_k(queries, vectors, k, sharding.make_mesh(**mesh))
    want = queries @ vectors.T
    order = np.argsort(-want, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_array_equal(scores, np.take_along_axis(want, order, axis=1))


def test_chunks_and_parts_are_one_list(rng, monkeypatch):
    monkeypatch.setattr(topk, "CHUNK_BYTES", 16 * 4 * 4)  # 16 rows.
    vectors = rng.integers(-2, 3, (101, 4)).astype(np.float16)
    queries = rng.integers(-2, 3, (2, 4)).astype(np.float32)
    mesh = sharding.make_mesh(8)
    want = np.argsort(-(queries @ vectors.T.astype(np.float32)), axis=1, kind="stable")[:, :9]
    for parts in (vectors, iter([vectors[:50], vectors[50:53], vectors[53:]])):
        np.testing.assert_array_equal(top_k(queries, parts, 9, mesh)[1], want)
