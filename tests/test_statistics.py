# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Running statistics of norms: trained by the forward, kept, resumed, frozen, evaluated."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jvlm
from jvlm import models, paths, pretrained, sharding
from jvlm.layers import l2_normalize
from jvlm.layers.linear import Linear
from jvlm.objectives import build_objective, micro_batches
from jvlm.precision import Compute, read_weight
from jvlm.state import merge, split, split_statistics
from jvlm.step import build_step

STATISTICS = ("vision/norm/mean", "vision/norm/var")


class BatchNorm(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        mean = read_weight(self, "mean", nn.initializers.zeros, (self.width,))
        var = read_weight(self, "var", nn.initializers.ones, (self.width,))
        scale = read_weight(self, "scale", nn.initializers.ones, (self.width,))
        if self.has_variable("statistics", "mean"):
            here, spread = x.mean(0), x.var(0)
            self.put_variable("statistics", "mean", 0.9 * mean + 0.1 * here)
            self.put_variable("statistics", "var", 0.9 * var + 0.1 * spread)
            mean, var = here, spread
        return scale * (x - mean) * jax.lax.rsqrt(var + 1e-5)


class Vision(nn.Module):
    width: int

    @nn.compact
    def __call__(self, image):
        x = image.reshape(len(image), -1)[:, ::97] / 255.0
        x = Linear((x.shape[1],), (self.width,), name="proj")(x)
        return BatchNorm(self.width, name="norm")(x)


@dataclasses.dataclass(frozen=True)
class TinyConfig:
    width: int = 8


class Tiny(nn.Module):
    """As little as the contrastive objective asks for, with a norm that has statistics."""

    cfg: TinyConfig
    compute: Compute = Compute()
    vocab_size = 128

    def setup(self):
        self.vision = Vision(self.cfg.width)
        self.text_proj = Linear((18,), (self.cfg.width,))

    def __call__(self, batch):
        return self.encode_image(batch["image"]), self.encode_text(batch["text"])

    def encode_image(self, image):
        return l2_normalize(self.vision(image))

    def encode_text(self, text, text_mask=None):
        return l2_normalize(self.text_proj(text / 128))

    def inverse_temperature(self):
        return jnp.float32(10.0)

    def logit_bias(self):
        return jnp.float32(0.0)

    def dummy_batch(self, rows):
        return {"image": jnp.zeros((rows, 48, 48, 3)), "text": jnp.zeros((rows, 18), jnp.int32)}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(models.MODELS, "tiny", (Tiny, TinyConfig, {}))


@pytest.fixture
def tiny(config):
    with config.unlocked():
        config.model = {"name": "tiny"}
    return config


def final(workdir, step="latest"):
    return paths.flatten(pretrained.load(workdir, step=step).params)


def test_training_moves_them_and_a_resume_goes_on_bit_exactly(tiny, tmp_path):
    tiny.ema.decay = 0.5  # The average holds them too.
    # Whose state is not shaped like the parameters.
    tiny.optim.update(dict(name="adafactor", state_dtype="bfloat16", eps=None))
    report = jvlm.train(tiny, tmp_path / "whole")
    whole = final(tmp_path / "whole")
    assert all(np.abs(whole["vision/norm/mean"]) > 1e-4)
    # What is evaluated is what is on disk.
    again = jvlm.evaluate(tmp_path / "whole", step="latest")
    np.testing.assert_allclose(again["val/loss"], report["metrics"]["val/loss"], atol=1e-6)
    tiny.steps = 2
    jvlm.train(tiny, tmp_path / "parts")
    halfway = final(tmp_path / "parts")
    tiny.steps = 4
    jvlm.train(tiny, tmp_path / "parts")
    parts = final(tmp_path / "parts")
    for path in whole:
        np.testing.assert_array_equal(parts[path], whole[path], err_msg=path)
    for path in STATISTICS:
        assert not np.array_equal(halfway[path], whole[path])


def test_a_frozen_tower_keeps_its_own(tiny, tmp_path):
    tiny.trainable = (("vision/.*", False), (".*", True))
    jvlm.train(tiny, tmp_path)
    params = final(tmp_path)
    np.testing.assert_array_equal(params["vision/norm/mean"], np.zeros(8))
    np.testing.assert_array_equal(params["vision/norm/var"], np.ones(8))


def test_they_have_no_optimizer_slot_and_stay_float32(tiny):
    tiny.compute.dtype = "bfloat16"
    training = build_step(tiny, sharding.make_mesh())
    slots = [
        jax.tree_util.keystr(path)
        for path, _ in jax.tree.leaves_with_path(training.state.opt_state)
    ]
    assert any("scale" in slot for slot in slots)
    assert not any("mean" in slot or "'var'" in slot for slot in slots)
    state = paths.flatten(training.state.statistics)
    assert tuple(sorted(state)) == STATISTICS
    assert all(leaf.dtype == jnp.float32 for leaf in state.values())
    assert training.optimizer.table["decay"]["vision/norm/mean"] == 0


@pytest.mark.parametrize("accumulate", ["cached", "average"])
def test_micro_batches_give_their_mean(rng, accumulate):
    model = Tiny(TinyConfig())
    params = jax.jit(model.init)(jax.random.key(0), model.dummy_batch(2))["params"]
    params, statistics = split_statistics(params)
    objective = build_objective({"name": "contrastive", "accumulate": accumulate}, model)
    batch = {
        "image": rng.integers(0, 256, (16, 48, 48, 3)).astype(np.uint8),
        "text": rng.integers(1, 32, (16, 18)).astype(np.int32),
    }

    @jax.jit
    def new_statistics(batch, count):
        given = dict(teacher=None, extra={}, rng=jax.random.key(0), step=0)
        batches = micro_batches(batch, len(count))
        out, _ = objective.value_and_grad(params, batches, frozen=statistics, **given)
        return paths.flatten(out.statistics)

    halves = [
        new_statistics({k: v[row::2] for k, v in batch.items()}, np.zeros(1)) for row in (0, 1)
    ]
    got = new_statistics(batch, np.zeros(2))
    for path in STATISTICS:
        want = (halves[0][path] + halves[1][path]) / 2
        np.testing.assert_allclose(got[path], want, rtol=1e-5, err_msg=path)
    # A part that is not trained runs as in evaluation and has nothing new to say.
    frozen = dataclasses.replace(objective, trained=frozenset({"text_proj/kernel"}))
    whole = merge(params, statistics)
    _, new = frozen.embed(whole, batch, rng=jax.random.key(0))
    assert new == {} and split(whole, dict.fromkeys(paths.flatten(whole), True))[1] == {}
