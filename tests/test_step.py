# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The compiled step: what full sharding must not gather."""

import re

import jax
import pytest

from configs import common
from jvlm import paths, sharding
from jvlm.step import build_step

LAYERS, WIDTH, MLP, VOCAB = 5, 32, 96, 80


@pytest.fixture(scope="module", params=["none", "dots", "full"])
def program(request):
    """A SigLIP's optimised step on eight devices, parameters and batch split over all of them."""
    c = common.base()
    tower = dict(width=WIDTH, depth=LAYERS, num_heads=2, mlp_dim=MLP)
    c.steps = 10
    c.model.update(dict(name="siglip", variant="B/16", embed_dim=WIDTH))
    c.model.vision = dict(image_size=32, **tower)
    c.model.text = dict(vocab_size=VOCAB, max_len=6, **tower)
    c.objective = dict(name="contrastive", kind="sigmoid", max_scale=None)
    c.compute.update(dict(dtype="bfloat16", remat=request.param, query_chunk=2))
    c.data.batch_size = 16
    c.optim.lr = 1e-3
    mesh = sharding.make_mesh(data=1, fsdp=8)
    training = build_step(c, mesh)
    rows = sharding.batch_sharding(mesh)
    batch = {
        "image": jax.ShapeDtypeStruct((16, 32, 32, 3), "uint8", sharding=rows),
        "text": jax.ShapeDtypeStruct((16, 6), "int32", sharding=rows),
    }
    with jax.set_mesh(mesh):
        text = training.step.lower(training.state, batch).compile().as_text()
    return training, text


def results(text: str, opcodes: str) -> set[tuple[int, ...]]:
    """Shapes that instructions of these kinds give."""
    shapes = set()
    for result in re.findall(rf"= (.*?) (?:{opcodes})(?:-start)?\(", text):
        for sizes in re.findall(r"\w+\[([\d,]*)\]", result):
            shapes.add(tuple(int(size) for size in sizes.split(",") if size))
    return shapes


def test_weights_are_gathered_layer_by_layer(program):
    training, text = program
    gathered = results(text, "all-gather")
    kernels = {
        leaf.shape
        for path, leaf in paths.flatten(training.shapes).items()
        if "/blocks/" in path and path.endswith("kernel")
    }
    assert all(shape[0] == LAYERS for shape in kernels)
    assert not gathered & kernels
    # What is split is gathered somewhere, or the search above would find nothing by itself.
    assert any(shape[-2:] == (WIDTH, MLP) for shape in gathered)


def test_nothing_whole_is_kept(program):
    """Neither gradients nor, for the backward, the gathered weights of all layers."""
    training, text = program
    whole = {
        leaf.shape
        for path, leaf in paths.flatten(training.shapes).items()
        if ("/blocks/" in path and path.endswith("kernel")) or path.endswith("token/embedding")
    }
    shapes = re.findall(r"(?:bf16|f32)\[([\d,]+)\]", text)
    assert not whole & {tuple(map(int, sizes.split(","))) for sizes in shapes}
