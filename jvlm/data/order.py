# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which example is sample k: a pure function of (seed, k), so that nothing needs remembering.

Every epoch is its own permutation of the data set. It is evaluated at single points by a keyed
Feistel network with cycle walking, not drawn as a table: position 10^9 of 4 * 10^8 examples costs
the same microsecond as position 0, and every host and worker agrees without talking.
"""

import numpy as np

_ROUNDS = 4
_MASK = (1 << 64) - 1


def example_index(seed: int, k: int, num_examples: int) -> int:
    """Index of the example that is global sample `k` (epoch k // N, place k % N in it)."""
    epoch, place = divmod(k, num_examples)
    return permute(place, num_examples, mix(seed, epoch))


def permute(place: int, size: int, key: int) -> int:
    """A keyed bijection of 0 .. size - 1, evaluated at one point."""
    if size == 1:
        return 0
    # Two equal halves cover the smallest power of four that holds `size`; results beyond it are
    # fed back in, on average fewer than four times.
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    while True:
        left, right = place >> half, place & low
        for round_ in range(_ROUNDS):
            left, right = right, left ^ (mix(key, right, round_) & low)
        place = (left << half) | right
        if place < size:
            return place


def mix(*numbers: int) -> int:
    """A 64-bit hash of integers (splitmix64), the same on every machine."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def sample_rng(seed: int, k: int) -> np.random.Generator:
    """The random numbers of global sample `k`: augmentation, choice of caption."""
    return np.random.Generator(np.random.Philox(key=np.array([mix(seed), mix(k)], np.uint64)))
