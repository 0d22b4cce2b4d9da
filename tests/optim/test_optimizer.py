# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The optimizer against its formula, rule lists, schedules."""

import json
import pathlib

import jax
import numpy as np
import optax
import pytest

from jvlm import optim, paths
from jvlm.errors import UserError

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
PARAMS = {
    "vision": {"blocks": {name: np.ones((3, 2), np.float32) for name in ("kernel", "bias")}},
    "head": {name: np.ones(4, np.float32) for name in ("kernel", "bias")},
}
FLAT = paths.flatten(PARAMS)


def build(trainable=((".*", True),), **options):
    resolved = paths.resolve(trainable, FLAT, what="trainable")
    options = {"steps": 10, "lr": 0.1, "schedule": "constant", **options}
    return optim.make_optimizer(FLAT, resolved, **options)


def one_step(tx, grads):
    updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS)
    return paths.flatten(optax.apply_updates(PARAMS, updates))


def test_adamw_is_the_formula(rng):
    """First step: the moments cancel, update = -lr * (sign-like + decay * p)."""
    grads = {k: rng.normal(size=v.shape).astype(np.float32) for k, v in FLAT.items()}
    tx = build(weight_decay=((".*kernel", 0.5), (".*", 0.0)), eps=1e-3).tx
    got = one_step(tx, paths.unflatten(grads))
    for path, grad in grads.items():
        adam = grad / (np.abs(grad) + 1e-3)
        decay = 0.5 if path.endswith("kernel") else 0.0
        np.testing.assert_allclose(got[path], 1 - 0.1 * (adam + decay), rtol=1e-5)


def test_rates_and_frozen_layers_by_range():
    ones = paths.unflatten({k: np.ones_like(v) for k, v in FLAT.items()})
    optimizer = build(
        trainable=(("vision/blocks/.*[0:1]", False), (".*", True)),
        lr_scale=(("vision/.*[2:]", 2.0), ("vision/.*", 1.0), (".*", 0.5)),
        name="sgd",
        momentum=0.0,
    )
    got = one_step(optimizer.tx, ones)
    np.testing.assert_allclose(got["vision/blocks/kernel"][:, 0], [1.0, 0.9, 0.8], rtol=1e-6)
    np.testing.assert_allclose(got["head/bias"], 0.95, rtol=1e-6)
    # Neither clipping nor the gradient norm may see layers that are not trained.
    masked = paths.flatten(optimizer.mask(ones))
    np.testing.assert_array_equal(masked["vision/blocks/bias"][:, 0], [0.0, 1.0, 1.0])
    assert optimizer.table["trainable"]["vision/blocks/bias"] == [False, True, True]


def test_clipping_is_global():
    grads = paths.unflatten({k: np.full_like(v, 3.0) for k, v in FLAT.items()})
    norm = 3 * np.sqrt(sum(v.size for v in FLAT.values()))
    tx = build(name="sgd", momentum=0.0, clip_norm=1.0).tx
    np.testing.assert_allclose(one_step(tx, grads)["head/bias"], 1 - 0.1 * 3 / norm, rtol=1e-5)


def test_schedule():
    rate = optim.make_schedule(1.0, 110, warmup_steps=10, end_lr=0.1)
    np.testing.assert_allclose([rate(s) for s in (0, 4, 9)], [0.1, 0.5, 1.0], rtol=1e-6)
    np.testing.assert_allclose(rate(60), 0.55, rtol=1e-5)
    np.testing.assert_allclose([rate(110), rate(500)], 0.1, rtol=1e-5)
    assert float(optim.make_schedule(1.0, 10, schedule="linear")(5)) == 0.5
    assert float(optim.make_schedule(2.0, 10, schedule="constant")(9)) == 2.0


def test_stairs_are_those_of_the_scripts():
    """Step by step, of a warm-up that is over before the first epoch is and of one that is not."""
    runs = json.loads((GOLDEN / "albef_schedule.json").read_text())
    for name, run in runs.items():
        given = run["given"]
        rate = jax.jit(jax.vmap(optim.make_schedule(**given, warmup_every=100)))
        got = rate(np.arange(given["steps"]))
        starts, values = zip(*run["changes"])
        want = np.repeat(values, np.diff([*starts, given["steps"]]))
        np.testing.assert_allclose(got, want, rtol=2e-6, err_msg=name)


def test_a_warm_up_may_begin_above_zero():
    rate = optim.make_schedule(1.0, 110, warmup_steps=10, warmup_lr=0.5)
    np.testing.assert_allclose([rate(s) for s in (0, 4, 9)], [0.55, 0.75, 1.0], rtol=1e-6)
    with pytest.raises(UserError, match="optim.decay_every 0: a number of steps"):
        build(decay_every=0)


def test_the_stairs_of_blip():
    """Its utils.py: `step_lr_schedule` of an epoch, `warmup_lr_schedule` in the first one."""
    lr, least, warm, begin, rate, epoch = 3e-4, 1e-6, 70, 1e-6, 0.9, 50
    given = dict(schedule="exponential", decay_rate=rate, decay_every=epoch, end_lr=least)
    given |= dict(warmup_steps=warm, warmup_lr=begin, warmup_begin=0)
    got = jax.jit(jax.vmap(optim.make_schedule(lr, 60 * epoch, **given)))(np.arange(60 * epoch))
    want = [max(least, lr * rate ** (step // epoch)) for step in range(60 * epoch)]
    want[:epoch] = [min(lr, begin + (lr - begin) * step / warm) for step in range(epoch)]
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert got[-1] == np.float32(least)
    with pytest.raises(UserError, match="decay_rate 1.0 every 5 steps: give decay_every"):
        optim.make_schedule(1.0, 10, schedule="exponential", decay_every=5)


def test_nothing_trained_and_unknown_names():
    with pytest.raises(UserError, match="nothing is trained"):
        build(trainable=((".*", False),))
    with pytest.raises(UserError, match="Did you mean 'adamw'"):
        build(name="adam")
    with pytest.raises(UserError, match="Did you mean 'cosine'"):
        build(schedule="cosin")
