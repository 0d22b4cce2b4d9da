# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""CLIP: published sizes, pooling, pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm import paths, sharding
from jvlm.errors import UserError
from jvlm.layers.image import CLIP_MEAN, CLIP_STD, normalize_image
from jvlm.models import build_model, chinese_clip, clip, siglip
from jvlm.models.towers.text_transformer import TextConfig, TextTransformer
from jvlm.precision import is_statistic

# openai/CLIP's notebook (B/32), open_clip's docs/model_profile.csv and, in whole millions,
# Chinese-CLIP's README; running statistics do not count.
COUNTS = {
    "RN50": 102.01,
    "RN101": 119.69,
    "RN50x4": 178.3,
    "RN50x16": 290.98,
    "RN50x64": 623.26,
    "ViT-B/32": 151.28,
    "ViT-B/16": 149.62,
    "ViT-L/14": 427.62,
    "ViT-L/14@336": 427.94,
    "ViT-H/14": 986.11,
    "ViT-g/14": 1366.68,
    "ViT-bigG/14": 2539.57,
}

SIGLIP_COUNTS = {
    "B/16": 203.16,
    "B/16-256": 203.2,
    "B/16-384": 203.45,
    "B/16-512": 203.79,
    "L/16-256": 652.15,
    "L/16-384": 652.48,
    "So400m/14": 877.36,
    "So400m/14-384": 877.96,
}
CHINESE_COUNTS = {
    "RN50": 77,
    "ViT-B/16": 188,
    "ViT-L/14": 406,
    "ViT-L/14@336": 407,
    "ViT-H/14": 958,
}


def shapes(model):
    return jax.eval_shape(model.init, jax.random.key(0), model.dummy_batch(8))["params"]


def millions(name, variant, digits):
    params = paths.flatten(shapes(build_model({"name": name, "variant": variant})))
    weights = {path: leaf for path, leaf in params.items() if not is_statistic(path)}
    return round(paths.count(weights) / 1e6, digits)


@pytest.mark.parametrize("variant", clip.VARIANTS)
def test_published_sizes(variant):
    assert millions("clip", variant, 2) == COUNTS[variant.removesuffix("-quickgelu")]


@pytest.mark.parametrize("variant", siglip.VARIANTS)
def test_published_sizes_of_siglip(variant):
    assert millions("siglip", variant, 2) == SIGLIP_COUNTS[variant]


@pytest.mark.parametrize("variant", chinese_clip.VARIANTS)
def test_published_sizes_of_chinese_clip(variant):
    assert millions("chinese_clip", variant, None) == CHINESE_COUNTS[variant]


def test_b32_to_the_last_parameter():
    assert paths.count(shapes(build_model({"name": "clip", "variant": "ViT-B/32"}))) == 151_277_313


@pytest.mark.parametrize("variant", ["ViT-B/16", "ViT-H/14", "RN50"])
def test_every_parameter_can_be_sharded(variant):
    params = shapes(build_model({"name": "clip", "variant": variant}))
    mesh = sharding.make_mesh(2, 2, 2)
    for path, place in paths.flatten(sharding.tree_shardings(params, mesh)).items():
        if path.endswith("kernel"):
            assert place.spec != jax.sharding.PartitionSpec(), path


def test_pixels_are_normalised_on_the_device(rng):
    pixels = rng.integers(0, 256, (2, 4, 4, 3)).astype(np.uint8)
    want = (pixels / 255 - np.array(CLIP_MEAN)) / np.array(CLIP_STD)
    np.testing.assert_allclose(normalize_image(pixels, CLIP_MEAN, CLIP_STD), want, atol=1e-5)
    ready = want.astype(np.float32)
    assert normalize_image(ready, CLIP_MEAN, CLIP_STD) is ready


def test_output_is_what_the_methods_give(rng):
    model = build_model(
        {
            "name": "clip",
            "embed_dim": 8,
            "vision": dict(image_size=16, patch_size=8, width=16, depth=1, num_heads=2, mlp_dim=32),
            "text": dict(vocab_size=32, max_len=6, width=16, depth=1, num_heads=2, mlp_dim=32),
        }
    )
    batch = {
        "image": rng.integers(0, 256, (3, 16, 16, 3)).astype(np.uint8),
        "text": rng.integers(1, 32, (3, 6)).astype(np.int32),
    }
    variables = model.init(jax.random.key(0), batch)
    out = model.apply(variables, batch)
    np.testing.assert_allclose(jnp.linalg.norm(out.image_embeds, axis=-1), 1, atol=1e-6)
    image = model.apply(variables, batch["image"], method="encode_image")
    np.testing.assert_allclose(image, out.image_embeds, atol=1e-6)
    want = out.image_embeds @ out.text_embeds.T / 0.07
    np.testing.assert_allclose(out.logits_per_image, want, rtol=1e-4)
    # Another image size than the model's is refused by name.
    with pytest.raises(UserError, match="24 x 24 px"):
        model.apply(variables, np.zeros((1, 24, 24, 3), np.uint8), method="encode_image")
    with pytest.raises(UserError, match="7 tokens"):
        model.apply(variables, np.zeros((1, 7), np.int32), method="encode_text")


@pytest.mark.parametrize("pool", ["argmax", "eos", "last", "mean"])
def test_text_pooling(pool):
    cfg = TextConfig(32, 6, 16, 1, 2, 32, pool=pool, eos_id=2, causal=pool != "mean")
    tower = TextTransformer(cfg)
    text = jnp.asarray([[5, 31, 2, 0, 2, 0]])
    mask = jnp.asarray([[1, 1, 1, 0, 0, 0]], bool)
    variables = tower.init(jax.random.key(0), text)
    out = tower.apply(variables, text, mask)
    want = {"argmax": 1, "eos": 2, "last": 5}
    if pool == "mean":
        np.testing.assert_allclose(out.pooled, out.tokens[:, :3].mean(1), atol=1e-6)
    else:
        np.testing.assert_array_equal(out.pooled[0], out.tokens[0, want[pool]])


def test_image_features_before_and_after_the_projection(rng):
    shapes = dict(width=16, depth=1, num_heads=2, mlp_dim=16)
    text = dict(vocab_size=8, max_len=4, **shapes)
    vision = dict(image_size=8, patch_size=4, **shapes)
    model = build_model({"name": "clip", "embed_dim": 6, "vision": vision, "text": text})
    variables = jax.jit(model.init)(jax.random.key(0), model.dummy_batch(1))
    image = jnp.asarray(rng.integers(0, 255, (2, 8, 8, 3)), jnp.uint8)
    pooled, projected, unit = (
        model.apply(variables, image, *args, method=method)
        for method, *args in (("image_features",), ("image_features", True), ("encode_image",))
    )
    assert pooled.shape == (2, 16)
    want = pooled @ variables["params"]["vision_proj"]["kernel"]
    np.testing.assert_allclose(projected, want, atol=1e-6)
    np.testing.assert_allclose(
        unit, projected / np.linalg.norm(projected, axis=-1, keepdims=True), atol=1e-6
    )


def test_padding_does_not_reach_a_bidirectional_text(rng):
    cfg = TextConfig(32, 6, 16, 2, 2, 32, pool="mean", causal=False)
    tower = TextTransformer(cfg)
    text = jnp.asarray(rng.integers(3, 32, (2, 4)), jnp.int32)
    variables = tower.init(jax.random.key(0), text)
    want = tower.apply(variables, text).pooled
    padded = jnp.pad(text, ((0, 0), (0, 2)), constant_values=7)
    mask = jnp.arange(6)[None] < jnp.asarray([[4], [4]])
    np.testing.assert_allclose(tower.apply(variables, padded, mask).pooled, want, atol=1e-6)


@pytest.mark.parametrize(
    "section, message",
    [
        ({"name": "clop"}, "Did you mean 'clip'"),
        ({"name": "clip", "variant": "ViT-B-32"}, "Did you mean 'ViT-B/32'"),
        ({"name": "clip", "variant": "ViT-B/32", "vision": {"widht": 3}}, "Did you mean 'width'"),
        ({"name": "clip", "embed_dim": 3}, "missing vision, text"),
        ({"name": "clip", "variant": "ViT-B/32", "vision": {"pool": "max"}}, "pool 'max'"),
    ],
)
def test_bad_sections_are_named(section, message):
    with pytest.raises(UserError, match=message):
        build_model(section)
