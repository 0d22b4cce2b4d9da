# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The compiled step: what full sharding must not gather."""

import math
import re

import jax
import pytest
from jax.sharding import PartitionSpec as P

from configs import common
from jvlm import paths, sharding
from jvlm.step import build_step

LAYERS, WIDTH, MLP, VOCAB = 5, 32, 96, 80


def make_training(optimizer: str = "adamw", remat: str = "none"):
    """A small SigLIP, everything split over eight devices."""
    c = common.base()
    tower = dict(width=WIDTH, depth=LAYERS, num_heads=2, mlp_dim=MLP)
    c.steps = 10
    c.model.update(dict(name="siglip", variant="B/16", embed_dim=WIDTH))
    c.model.vision = dict(image_size=32, **tower)
    c.model.text = dict(vocab_size=VOCAB, max_len=6, **tower)
    c.objective = dict(name="contrastive", kind="sigmoid", max_scale=None)
    c.compute.update(dict(dtype="bfloat16", remat=remat, query_chunk=2))
    c.data.batch_size = 16
    c.optim.update(dict(name=optimizer, lr=1e-3, state_dtype="bfloat16"))
    c.ema.decay = 0.9
    return build_step(c, sharding.make_mesh(data=1, fsdp=8))


def weights(training) -> set[tuple[int, ...]]:
    """Shapes that no device may hold whole; Muon pads a stack to a multiple of the devices."""
    shapes = {
        leaf.shape
        for path, leaf in paths.flatten(training.shapes).items()
        if ("/blocks/" in path and path.endswith("kernel")) or path.endswith("token/embedding")
    }
    return shapes | {(8, *shape[1:]) for shape in shapes if shape[0] == LAYERS}


@pytest.fixture(scope="module", params=[("adamw", "none"), ("adafactor", "dots"), ("muon", "full")])
def program(request):
    """A training and its optimised step."""
    training = make_training(*request.param)
    mesh = sharding.make_mesh(data=1, fsdp=8)
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


def arrays(text: str) -> set[tuple[int, ...]]:
    """Shapes in a program."""
    shapes = re.findall(r"(?:bf16|f32|u32|s32|pred)\[([\d,]+)\]", text)
    return {tuple(map(int, sizes.split(","))) for sizes in shapes}


def test_nothing_whole_is_kept(program):
    """Neither gradients, nor their moments, nor the gathered weights of all layers."""
    training, text = program
    assert not weights(training) & arrays(text)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_weights_are_born_in_pieces(optimizer):
    """No device draws, or holds at any time, more than about its share of the state."""
    training = make_training(optimizer)
    rng = jax.eval_shape(lambda: jax.random.key(0, impl="threefry2x32"))
    with jax.set_mesh(sharding.make_mesh(data=1, fsdp=8)):
        compiled = training.init.lower(rng).compile()
    assert not weights(training) & arrays(compiled.as_text())
    memory = compiled.memory_analysis()
    leaves = jax.tree.leaves(training.state)
    share = sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves)
    whole = sum(x.size * x.dtype.itemsize for x in leaves)
    assert memory.output_size_in_bytes < 1.1 * share < whole / 4
    assert memory.temp_size_in_bytes < share


def test_slots_lie_where_their_parameters_do():
    slots = {
        jax.tree_util.keystr(keys, simple=True, separator="/").split("/", 1)[1]: leaf
        for keys, leaf in jax.tree.leaves_with_path(make_training("adafactor").state.opt_state)
    }
    up = "vision/blocks/mlp/up/kernel"
    factored = {k.split(f"/{up}")[0]: leaf for k, leaf in slots.items() if k.endswith(up)}
    found = {
        k.rpartition("/")[2]: (x.shape, x.dtype.name, x.sharding.spec) for k, x in factored.items()
    }
    assert found == {
        "v_row": ((LAYERS, WIDTH), "float32", P(None, "fsdp")),
        "v_col": ((LAYERS, MLP), "float32", P(None, "tensor")),
        "v": ((1,), "float32", P(None)),
        "ema": ((LAYERS, WIDTH, MLP), "bfloat16", P(None, "fsdp", "tensor")),
    }
