# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Muon (kellerjordan.github.io/posts/muon): momentum whose singular values are brought near 1.

For the matrices of hidden layers. All else, that is embeddings, convolutions, projections into the
shared space, norms, biases, positions and temperatures, follows AdamW.
"""

import math
from collections.abc import Mapping
from typing import Any

import optax

from jvlm import paths, sharding

# Pattern -> axes of a layer that its matmul sums over, axes that it gives.
MATRICES: tuple[tuple[str, tuple[tuple[int, ...], tuple[int, ...]]], ...] = (
    (r".*attn[/_](q|k|v)/kernel", ((0,), (1, 2))),
    (r".*attn/out/kernel", ((0, 1), (2,))),
    (r".*mlp/(up|gate|down)/kernel", ((0,), (1,))),
)
# Of an update, about AdamW's: its rate and decay carry over (arXiv:2502.16982 section 2.2).
RMS = 0.2


def muon(
    params: Mapping[str, Any],
    dtype: str,
    momentum: float = 0.95,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
):
    """Nesterov momentum, made orthogonal by five Newton-Schulz steps, times 0.2 sqrt(max(m, n)).

    Each layer of a stack is an m x n matrix of its own; heads are joined to one matrix. `lr_scale`
    gives matrices, or the rest, another rate.

    Args:
      params: path -> shaped leaf of what is trained.
      dtype: of the momentum, and of AdamW's.
      momentum: of the matrices.
      b1, b2, eps: of AdamW for the rest.
    """
    kinds = {p: "rest" if paths.first_match(MATRICES, p) is None else "matrix" for p in params}
    matrices = optax.chain(
        optax.trace(momentum, nesterov=True, accumulator_dtype=dtype),
        optax.stateless(lambda updates, _: paths.map_with_path(_orthogonal, updates)),
    )
    rules = {"matrix": matrices, "rest": optax.scale_by_adam(b1, b2, eps, mu_dtype=dtype)}
    return optax.partition(rules, paths.unflatten(kinds))


def _orthogonal(path: str, update: Any) -> Any:
    if isinstance(update, optax.MaskedNode):  # Not a matrix.
        return update
    sums, gives = MATRICES[paths.first_match(MATRICES, path)][1]
    offset = int(paths.is_stacked(path))
    sums, gives = (tuple(axis + offset for axis in axes) for axes in (sums, gives))
    size = max(math.prod(update.shape[axis] for axis in axes) for axes in (sums, gives))
    # Of optax's Muon only the matrix iteration: without momentum its state is not read.
    iteration = optax.contrib.scale_by_muon(
        beta=0.0,
        nesterov=False,
        weight_dimension_numbers=optax.contrib.MuonDimensionNumbers(sums, gives),
    )

    def orthogonalize(x):
        return RMS * math.sqrt(size) * iteration.update(x, iteration.init(x))[0]

    return sharding.whole_layers(orthogonalize, path, update)
