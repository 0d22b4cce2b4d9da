# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Towers: their combinations, what training changes in them, what padding must not."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm import sharding
from jvlm.errors import UserError
from jvlm.layers import BatchNorm
from jvlm.models import build_model
from jvlm.models.towers.bert import Bert, BertConfig
from jvlm.models.towers.resnet import ResNet, ResNetConfig
from jvlm.models.towers.vit import ViT, ViTConfig, drop_patches

SIZES = dict(width=16, depth=2, num_heads=2, mlp_dim=24)
VISION = {
    "vit": dict(kind="vit", image_size=(16, 24), patch_size=8, **SIZES),
    "resnet": dict(kind="resnet", image_size=(32, 64), layers=(1, 1, 2, 1), width=4),
}
TEXT = {
    "transformer": dict(kind="transformer", vocab_size=30, max_len=6, **SIZES),
    "bert": dict(kind="bert", vocab_size=30, max_len=6, **SIZES),
}


@pytest.mark.parametrize("vision, text", [*itertools.product(VISION, TEXT)])
def test_any_image_tower_with_any_text_tower(vision, text):
    section = dict(name="clip", embed_dim=8, vision=VISION[vision], text=TEXT[text])
    model = build_model(section)
    assert (model.cfg.vision.kind, model.cfg.text.kind) == (vision, text)
    batch = model.dummy_batch(3)
    out = jax.eval_shape(lambda rng: model.init_with_output(rng, batch)[0], jax.random.key(0))
    assert out.logits_per_image.shape == (3, 3)


def test_a_section_may_change_the_kind_of_a_tower():
    base = dict(name="clip", variant="ViT-B/32")
    model = build_model({**base, "text": TEXT["bert"]})
    assert isinstance(model.cfg.text, BertConfig) and isinstance(model.cfg.vision, ViTConfig)
    with pytest.raises(UserError, match="Did you mean 'bert'"):
        build_model({**base, "text": dict(kind="brt")})
    with pytest.raises(UserError, match="missing image_size, layers, width"):
        build_model({**base, "vision": dict(kind="resnet")})


def statistics_of(module, params, x):
    """(output, new statistics) of a training forward."""
    current = {name: params[name] for name in ("mean", "var")}
    variables = {"params": params, "statistics": current}
    return module.apply(variables, x, mutable=["statistics"])


def test_batch_norm(rng):
    x = rng.normal(2, 3, (4, 5, 6, 7)).astype(np.float32)
    norm = BatchNorm()
    params = norm.init(jax.random.key(0), x)["params"]
    out, new = jax.jit(lambda params: statistics_of(norm, params, x))(params)
    want = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(out, want, atol=1e-5)
    mean, var = 0.1 * x.mean((0, 1, 2)), 0.9 + 0.1 * x.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(new["statistics"]["mean"], mean, atol=1e-5)
    np.testing.assert_allclose(new["statistics"]["var"], var, rtol=1e-5)
    # Frozen, it uses what is stored.
    params = {**params, "mean": jnp.full(7, 2.0), "var": jnp.full(7, 9.0)}
    np.testing.assert_allclose(norm.apply({"params": params}, x), (x - 2) / 3, atol=1e-4)


def test_statistics_are_those_of_the_global_batch(rng):
    tower = ResNet(ResNetConfig(32, (1, 1, 1, 1), 4))
    image = rng.normal(size=(8, 32, 32, 3)).astype(np.float32)
    params = jax.jit(tower.init)(jax.random.key(0), image)["params"]
    names = lambda tree: {
        key: names(value) if isinstance(value, dict) else value
        for key, value in tree.items()
        if key in ("mean", "var") or (isinstance(value, dict) and names(value))
    }

    def forward(params, image):
        variables = {"params": params, "statistics": names(params)}
        out, new = tower.apply(variables, image, mutable=["statistics"])
        return out.pooled, new["statistics"]

    want = jax.jit(forward)(params, image)
    mesh = sharding.make_mesh(4, 2, 1)
    with jax.set_mesh(mesh):
        got = jax.jit(forward)(params, sharding.put_whole_batch({"image": image}, mesh)["image"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), got, want)
    # A branch starts as nothing: its last scale is zero.
    assert not params["layer1_0"]["bn3"]["scale"].any()


def test_patch_dropout(rng):
    cfg = ViTConfig(32, 8, 16, 1, 2, 32, patch_dropout=0.5)
    tower, whole = ViT(cfg), ViT(dataclasses.replace(cfg, patch_dropout=0.0))
    image = rng.normal(size=(2, 32, 32, 3)).astype(np.float32)
    params = tower.init(jax.random.key(0), image)["params"]
    training = tower.apply({"params": params}, image, rngs={"dropout": jax.random.key(1)})
    assert training.tokens.shape == (2, 1 + 8, 16)
    plain, want = (t.apply({"params": params}, image).tokens for t in (tower, whole))
    np.testing.assert_array_equal(plain, want)


def test_dropped_patches_are_a_random_subset_of_each_image():
    x = jnp.broadcast_to(jnp.arange(10.0)[None, :, None], (3, 10, 2))
    kept = np.sort(drop_patches(x, 0.7, jax.random.key(0))[:, :, 0], axis=1)
    assert kept.shape == (3, 3)
    assert all(len(set(row)) == 3 for row in kept.tolist())
    assert len({tuple(row) for row in kept.tolist()}) > 1


def test_padding_does_not_reach_a_bert(rng):
    tower = Bert(BertConfig(30, 8, 16, 2, 2, 24))
    text = jnp.asarray(rng.integers(1, 30, (3, 5)), jnp.int32)
    params = tower.init(jax.random.key(0), text)["params"]
    apply = jax.jit(lambda text, mask=None: tower.apply({"params": params}, text, mask).pooled)
    want = apply(text)
    padded = jnp.pad(text, ((0, 0), (0, 3)))
    np.testing.assert_allclose(apply(padded), want, atol=1e-6)
    mask = jnp.arange(8)[None] < jnp.full((3, 1), 5)
    np.testing.assert_allclose(apply(padded.at[:, 5:].set(7), mask), want, atol=1e-6)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: ResNetConfig(48, (1, 1, 1, 1), 4), "no multiple of 32"),
        (lambda: ResNetConfig(32, (1, 1, 1), 4), "four stages"),
        (lambda: ViTConfig(32, 8, 16, 1, 2, 32, pool="map"), "norm_tokens=True"),
        (lambda: ViTConfig(32, 8, 16, 1, 2, 32, patch_dropout=1.0), "no share below 1"),
        (lambda: ViTConfig(4, 8, 16, 1, 2, 32), "less than a patch"),
        (lambda: BertConfig(30, 8, 16, 2, 2, 24, attn_dropout=1), "attn_dropout 1: a rate"),
        (lambda: BertConfig(30, 8, 16, 2, 2, 24, dropout="0.1"), "dropout '0.1': a rate"),
    ],
)
def test_bad_shapes_are_named(build, message):
    with pytest.raises(UserError, match=message):
        build()
