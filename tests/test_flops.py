# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""FLOPs of a step by hand, and what must not change them; chips by what JAX calls them."""

import jax
import jax.numpy as jnp
import pytest

from jvlm import chips
from jvlm import config as config_lib
from jvlm.flops import jaxpr_flops, step_flops


def flops(fn, *args):
    return jaxpr_flops(jax.make_jaxpr(fn)(*args).jaxpr)


def test_clip_b32_by_hand():
    c = config_lib.load("configs/clip/openai_vit_b32.py")
    stack = lambda depth, tokens, width, seen: (
        6 * 12 * width**2 * depth * tokens + 12 * tokens**2 * width * depth * seen
    )
    vision, text = stack(12, 50, 768, 1), stack(12, 77, 512, 0.5)
    patches = 4 * 49 * (3 * 32 * 32) * 768  # No gradient of the image.
    projections = 6 * (768 + 512) * 512
    pairs = 6 * c.data.batch_size * 512
    per_sample = vision + text + patches + projections + pairs
    assert step_flops(c) == c.data.batch_size * per_sample
    assert per_sample == pytest.approx(44.3e9, rel=0.01)  # Three forwards of 14.78 GFLOP.


def test_what_is_computed_again_does_not_count(config):
    plain = step_flops(config)
    again = dict(remat="full", query_chunk=4, unroll=1)
    config.compute.update(again)
    config.objective.way, config.objective.chunk = "ring", 4
    config.optim.accumulate = 2
    assert step_flops(config) == plain
    assert config.compute.remat == "full" and config.optim.accumulate == 2


def test_a_frozen_tower_counts_its_forward(config):
    whole = step_flops(config)
    config.trainable = (("vision/.*", False), (".*", True))
    without_vision = step_flops(config)
    config.trainable = (("(vision|text)/.*", False), (".*", True))
    forward = step_flops(config)
    assert forward < without_vision < whole
    # Beside the towers there are projections and pairs, trained in all three.
    assert whole - forward == pytest.approx(2 * forward, rel=0.05)


def test_a_teacher_counts_its_forward(config):
    from jvlm.models import build_model
    from jvlm.precision import Compute

    plain = step_flops(config)
    teacher = build_model(config.model.to_dict(), Compute())
    params = jax.eval_shape(teacher.init, jax.random.key(0), teacher.dummy_batch(1))["params"]
    config.objective = dict(name="distillation", teacher="somewhere", distill="logits")
    taught = step_flops(config, teacher_model=teacher, teacher=params)
    assert taught - plain == pytest.approx(plain / 3, rel=0.1)


def test_causal_attention_counts_half(config):
    text = config.model.text
    full = step_flops(config)
    text.causal = True
    pairs = config.data.batch_size * text.depth * text.width * text.max_len**2
    assert full - step_flops(config) == 6 * pairs


def test_loops_and_dead_code():
    x = jnp.ones((8, 8))
    one = 2 * 8**3

    def looped(x):
        y, _ = jax.lax.scan(lambda x, _: (x @ x, x.T @ x), x, length=5)  # The outputs are not used.
        return jax.lax.cond(x.sum() > 0, lambda y: y @ y @ y, lambda y: y, y)

    assert flops(looped, x) == 7 * one
    assert flops(jax.jit(lambda x: (x @ x, x)[1]), x) == 0
    assert flops(jax.grad(lambda w: (x @ w).sum()), x) == one  # The forward's result is not used.
    with pytest.raises(NotImplementedError, match="unknown length"):
        flops(lambda x: jax.lax.while_loop(lambda x: x.sum() > 0, lambda x: x @ x, x), x)


@pytest.mark.parametrize("options", [{}, {"rhs_dilation": (2, 1)}, {"feature_group_count": 2}])
def test_convolutions_as_xla_counts_them(options):
    """Forward and both gradients, which are convolutions with dilation and negative padding."""
    x, w = jnp.ones((2, 9, 8, 4)), jnp.ones((3, 2, 4 // options.get("feature_group_count", 1), 6))

    def loss(x, w):
        y = jax.lax.conv_general_dilated(
            *(x, w, (2, 3), ((1, 1), (0, 1))),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision="highest",
            **options,
        )
        return (y * y).sum()

    both = lambda x, w: jax.vjp(lambda x, w: loss(x, w), x, w)[1](1.0)
    for fn in (loss, both):
        xla = jax.jit(fn).lower(x, w).cost_analysis()["flops"]
        rest = 3 * x.size  # XLA counts the element-wise operations too.
        assert 0 <= xla - flops(fn, x, w) <= rest


def test_chips_by_what_jax_calls_them():
    assert chips.find("TPU v5 lite").name == "v5e"
    assert chips.find("NVIDIA H100 80GB HBM3").peak_flops == 989.4e12
    assert chips.find("cpu") is None
    kinds = [kind for chip in chips.CHIPS for kind in chip.kinds]
    assert len(kinds) == len(set(kinds))
