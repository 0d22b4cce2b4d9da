# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Starting weights: rules, ops, coverage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm import warm_start
from jvlm.errors import UserError
from jvlm.state import TrainState


@pytest.fixture
def state(rng):
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    params = {
        "vision": {"pos": draw(17, 4), "blocks": {"kernel": draw(2, 4, 4)}},
        "text": {"embedding": draw(6, 4)},
        "copy": {"kernel": draw(2, 4, 4)},
    }
    teacher = {"text": {"embedding": draw(6, 4)}}
    return TrainState(0, params, {}, teacher, jax.tree.map(jnp.copy, params), {}, (), None)


@pytest.fixture
def source(rng):
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    return {
        "encoder": {"pos": draw(10, 4), "blocks": {"kernel": draw(4, 4, 4)}},
        "embedding": draw(5, 4),
    }


def apply(rules, state, source):
    return warm_start.apply(rules, state, lambda name: warm_start.Source(source))


def test_every_op(state, source):
    rules = (
        ("vision/pos", "run", "encoder/pos", (("resize_positions", {}),)),
        (r"vision/(blocks/.*)", "run", r"encoder/\1", (("layers", {"select": "1:3"}),)),
        ("text/embedding", "run", "embedding", (("extend_vocabulary", {}),)),
        ("copy/kernel", "self", "vision/blocks/kernel", ()),
    )
    new, fresh = apply(rules, state, source)
    assert fresh == []
    params = new.params
    assert params["vision"]["pos"].shape == (17, 4)
    np.testing.assert_array_equal(params["vision"]["pos"][0], source["encoder"]["pos"][0])
    kernel = source["encoder"]["blocks"]["kernel"]
    np.testing.assert_array_equal(params["vision"]["blocks"]["kernel"], kernel[1:3])
    np.testing.assert_array_equal(params["text"]["embedding"][:5], source["embedding"])
    old = state.params["text"]["embedding"][5]
    np.testing.assert_array_equal(params["text"]["embedding"][5], old)
    # 'self' is the model as initialised, and the averages start with the weights.
    np.testing.assert_array_equal(
        params["copy"]["kernel"], state.params["vision"]["blocks"]["kernel"]
    )
    jax.tree.map(np.testing.assert_array_equal, new.ema, new.params)
    jax.tree.map(np.testing.assert_array_equal, new.teacher, {"text": params["text"]})


def test_uncovered_parameters_are_listed(state, source):
    new, fresh = apply((("text/embedding", "self", "text/embedding", ()),), state, source)
    assert fresh == ["vision/pos", "vision/blocks/kernel", "copy/kernel"]
    assert apply((), state, source) == (state, [])


@pytest.mark.parametrize(
    "rule, message",
    [
        (("vision/poss", "run", "encoder/pos", ()), "Did you mean 'vision/pos'"),
        (("vision/pos", "run", "encoder/poss", ()), "Did you mean 'encoder/pos'"),
        (("vision/pos", "run", "encoder/pos", ()), r"is \(17, 4\), encoder/pos of run \(10, 4\)"),
        (
            ("vision/pos", "run", "encoder/pos", (("resize", {}),)),
            "Did you mean 'resize_positions'",
        ),
    ],
)
def test_problems_are_named(state, source, rule, message):
    with pytest.raises(UserError, match=message):
        apply((rule,), state, source)
