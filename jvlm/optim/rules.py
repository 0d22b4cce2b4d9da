# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Update rules: from gradients to directions of about unit size, before decay and rate.

    | name      | bytes per parameter of state, in bfloat16 | options                            |
    | adamw     | 8, 6                                      | b1, b2, eps                        |
    | lion      | 4, 2                                      | b1 (update), b2 (momentum)         |
    | sgd       | 4, 2; 0 without momentum                  | momentum                           |
    | adafactor | 4, 2                                      | momentum, b2 (cap), eps, clip_rms  |
    | muon      | matrices 4, 2; the rest as adamw          | momentum; b1, b2, eps for the rest |

With `optim.state_dtype="bfloat16"` first moments are stored so, as in big_vision, and computed in
float32. Second moments stay float32: with b2 = 0.999 they move by a thousandth of themselves at
most, and bfloat16 has three significant digits, so that rounding would undo every step.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jvlm import paths
from jvlm.optim.muon import muon


def adamw(dtype: str, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8):
    """Adam (arXiv:1412.6980); decay is decoupled for all rules."""
    return optax.scale_by_adam(b1, b2, eps, mu_dtype=dtype)


def lion(dtype: str, b1: float = 0.9, b2: float = 0.99):
    """Lion (arXiv:2302.06675), whose rate is 3 to 10 times below Adam's."""
    return optax.scale_by_lion(b1, b2, mu_dtype=dtype)


def sgd(dtype: str, momentum: float = 0.9):
    """Heavy-ball momentum."""
    return optax.trace(momentum, accumulator_dtype=dtype) if momentum else optax.identity()


MIN_FACTORED_SIZE = 32


def adafactor(
    params: Mapping[str, Any],
    dtype: str,
    momentum: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-30,
    clip_rms: float | None = None,
):
    """Adafactor as big_vision trains with it (its optax.py; arXiv:2106.04560 section 3.4).

    A matrix's second moment is kept as its row and column means, over its two largest axes if both
    have 32 entries. It keeps min(b2, 1 - t^-0.8) of itself at step t. Unlike T5's
    (arXiv:1804.04235) it has momentum, does not grow with the parameter, follows the schedule of
    `optim.lr`, and clips no update's RMS unless `clip_rms` says at which (T5: 1).

    Args:
      params: path -> shaped leaf of what is trained.
      dtype: of the momentum; bfloat16 in big_vision.
      momentum: decay of the average of updates, which starts at zero and is not corrected for it.
      b2: see above; 0.95 is steadier.
      eps: added to squared gradients.
      clip_rms: largest RMS of a layer's update before the momentum.
    """

    def scale(factored: bool):
        return optax.scale_by_factored_rms(
            factored,
            decay_rate=0.8,
            min_dim_size_to_factor=MIN_FACTORED_SIZE,
            epsilon=eps,
            decay_rate_fn=lambda step, power: jnp.minimum(b2, 1 - (step + 1.0) ** -power),
        )

    kinds = {p: "factored" if _has_factors(p, x.shape) else "whole" for p, x in params.items()}
    rules = {"factored": scale(factored=True), "whole": scale(factored=False)}
    return optax.chain(
        optax.partition(rules, paths.unflatten(kinds)),
        _clip_by_layer_rms(clip_rms) if clip_rms else optax.identity(),
        optax.ema(momentum, debias=False, accumulator_dtype=dtype),
    )


def _has_factors(path: str, shape: tuple[int, ...]) -> bool:
    """Whether the two largest axes of a layer are large, and not the stack's own among them."""
    layers, sizes = (shape[0], shape[1:]) if paths.is_stacked(path) else (0, shape)
    return len(sizes) > 1 and sorted(sizes)[-2] >= max(MIN_FACTORED_SIZE, layers + 1)


def _clip_by_layer_rms(threshold: float) -> optax.GradientTransformation:
    clip = optax.clip_by_block_rms(threshold)
    one = lambda update: clip.update(update, optax.EmptyState())[0]

    def clipped(path, update):
        return jax.vmap(one)(update) if paths.is_stacked(path) else one(update)

    return optax.stateless(lambda updates, _: paths.map_with_path(clipped, updates))


RULES = {"adamw": adamw, "lion": lion, "sgd": sgd, "adafactor": adafactor, "muon": muon}
