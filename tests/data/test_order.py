# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Data order: permutations, epochs, and the same numbers on every machine."""

import numpy as np
import pytest

from jvlm.data.order import example_index, mix, permute, sample_rng


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100, 1797])
def test_permute_is_a_permutation(size):
    assert sorted(permute(i, size, key=5) for i in range(size)) == list(range(size))


def test_every_epoch_sees_everything_once_in_another_order():
    epochs = [[example_index(0, e * 50 + i, 50) for i in range(50)] for e in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [example_index(1, i, 50) for i in range(50)] != epochs[0]


def test_order_looks_random():
    """Neighbouring samples come from everywhere: mean distance n/3, no fixed points to speak of."""
    order = np.array([example_index(0, i, 10_000) for i in range(10_000)])
    assert abs(np.abs(np.diff(order)).mean() / 10_000 - 1 / 3) < 0.02
    assert (order == np.arange(10_000)).sum() < 10


def test_pinned():
    """A run that was started elsewhere goes on here: these numbers may never change."""
    assert [example_index(0, k, 1000) for k in (0, 1, 2, 999, 1000, 10**12)] == [
        909,
        407,
        710,
        655,
        312,
        225,
    ]
    assert mix(1, 2, 3) == 7702586659592502839
    assert sample_rng(0, 5).integers(0, 2**31, 3).tolist() == [795893757, 589379559, 1657081957]
