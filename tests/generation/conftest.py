# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tiny language models whose next tokens differ clearly."""

import functools

import jax
import numpy as np
import pytest

from jvlm import sharding
from jvlm.generation import Generator
from jvlm.generation.weights import unstack_all
from jvlm.models import build_model

SIZES = dict(vocab_size=40, width=16, depth=1, num_heads=2, mlp_dim=24, pad_id=0, eos_id=3)
SECTIONS = {
    "gpt2": dict(name="gpt2", max_len=96, **SIZES),
    "t5": dict(name="t5", head_dim=8, **SIZES),
}


@functools.cache
def make(kind, **changes):
    """(model, stacked params)."""
    model = build_model({**SECTIONS[kind], **changes})
    params = jax.jit(model.init)(jax.random.key(0), model.dummy_batch(1))["params"]
    return model, jax.tree.map(
        lambda x: x * (8 if kind == "gpt2" else 2) if x.ndim > 1 else x, params
    )


@functools.cache
def generator_of(kind, **changes):
    model, params = make(kind, **changes)
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    params = unstack_all(jax.tree.map(lambda x: x, params))
    return Generator(model, mesh), params


@pytest.fixture
def lm():
    """(kind, **changed sizes) -> (model, stacked params)."""
    return make


@pytest.fixture
def generate():
    """(kind, batch, rows=None, **options) -> ids."""

    def call(kind, batch, rows=None, sizes=(), **options):
        generator, params = generator_of(kind, **dict(sizes))
        return generator.ids(params, batch, options, rows)

    return call


@pytest.fixture
def generator():
    """(kind, **changed sizes) -> (Generator, unstacked params)."""
    return generator_of


@pytest.fixture
def prompts():
    """Five prompts of 1 to 7 tokens, padded on the right."""
    rng = np.random.default_rng(0)
    mask = np.arange(7) < np.array([7, 3, 5, 1, 6])[:, None]
    text = np.where(mask, rng.integers(4, 40, mask.shape), 0).astype(np.int32)
    return {"text": text, "text_mask": mask}
