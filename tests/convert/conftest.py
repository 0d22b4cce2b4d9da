# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tiny models in published formats, written by our own exporter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm import sharding
from jvlm.models import build_model
from jvlm.pretrained import Pretrained, Processor

SIZES = dict(width=16, depth=2, num_heads=2, mlp_dim=24)
SECTIONS = {
    "clip": dict(
        embed_dim=8,
        vision=dict(image_size=16, patch_size=8, **SIZES),
        text=dict(vocab_size=40, max_len=6, **SIZES),
    ),
    "wide": dict(
        embed_dim=8,
        text_proj="affine",
        vision=dict(image_size=(16, 24), patch_size=8, **SIZES),
        text=dict(vocab_size=40, max_len=6, pool="last", **SIZES),
    ),
    "resnet": dict(
        embed_dim=8,
        vision_proj="affine",
        vision=dict(kind="resnet", image_size=32, layers=(1, 2, 1, 1), width=4),
        text=dict(vocab_size=40, max_len=6, **SIZES),
    ),
    "chinese_clip": dict(
        embed_dim=8,
        vision=dict(image_size=16, patch_size=8, **SIZES),
        text=dict(kind="bert", vocab_size=40, max_len=6, **SIZES),
    ),
    "siglip": dict(
        embed_dim=16,
        vision_proj="none",
        text_proj="affine",
        logit_bias_init=-10.0,
        vision=dict(
            image_size=16,
            patch_size=8,
            patch_bias=True,
            use_cls=False,
            pre_norm=False,
            pool="map",
            norm_tokens=True,
            **SIZES,
        ),
        text=dict(vocab_size=40, max_len=6, causal=False, see_padding=True, pool="last", **SIZES),
    ),
}


def make(kind: str, seed: int = 0) -> Pretrained:
    """A model with random weights, norms and biases included."""
    name = "clip" if kind in ("resnet", "wide") else kind
    model = build_model({"name": name, **SECTIONS[kind]})

    shapes = jax.eval_shape(model.init, jax.random.key(0), model.dummy_batch(1))["params"]
    rng = np.random.default_rng(seed)
    fill = lambda x: jnp.asarray(rng.uniform(0.1, 1.0, x.shape), x.dtype)
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    height, width = np.broadcast_to(SECTIONS[kind]["vision"]["image_size"], 2).tolist()
    processor = Processor((("resize", dict(height=height, width=width)),), None)
    return Pretrained(model, jax.tree.map(fill, shapes), processor, mesh, name)


@pytest.fixture(scope="session")
def tiny():
    """kind -> Pretrained, made once."""
    return {kind: make(kind) for kind in SECTIONS}


@pytest.fixture
def published(tiny, tmp_path):
    """kind -> folder of transformers with that model."""

    def write(kind="clip"):
        folder = tmp_path / f"{kind}_hf"
        tiny[kind].export(folder)
        return folder

    return write
