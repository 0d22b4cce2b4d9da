# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The sharding tables."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jvlm import paths, sharding
from jvlm.errors import UserError
from jvlm.models import MODELS, build_model


def test_specs():
    mesh = sharding.make_mesh(2, 2, 2)
    spec = lambda path, *shape: sharding.partition_spec(path, shape, mesh)
    assert spec("vision/blocks/attn/q/kernel", 3, 8, 4, 2) == P(None, "fsdp", "tensor", None)
    assert spec("vision/blocks/mlp/down/kernel", 3, 16, 8) == P(None, "tensor", "fsdp")
    assert spec("text/token/embedding", 10, 8) == P("tensor", "fsdp")
    assert spec("text/token/embedding", 11, 8) == P(None, "fsdp")  # No vocabulary is refused.
    assert spec("logit_scale") == P()


@pytest.mark.parametrize(
    "path, shape, message",
    [
        ("vision/blocks/attn/q/kernel", (3, 8, 3, 2), "has 3 heads, which mesh.tensor=2"),
        ("vision/blocks/mlp/up/kernel", (3, 9, 8), "has 9 embed, which mesh.fsdp=2"),
        ("vision/blocks/mlp/up/kernel", (9, 8), "its row says"),
        ("vision/mystery/weight", (8, 8), "no row of PARAM_AXES matches"),
    ],
)
def test_bad_shapes_name_the_parameter(path, shape, message):
    with pytest.raises(UserError, match=message) as error:
        sharding.partition_spec(path, shape, sharding.make_mesh(2, 2, 2))
    assert path in str(error.value)


@pytest.mark.parametrize(
    "sizes, message",
    [((3, 1, 1), "set mesh.data=-1"), ((-1, -1, 1), "at most one"), ((0, 1, 1), "positive")],
)
def test_bad_meshes(sizes, message):
    with pytest.raises(UserError, match=message):
        sharding.make_mesh(*sizes)


def test_free_axis():
    assert dict(sharding.make_mesh(-1, 2, 2).shape) == {"data": 2, "fsdp": 2, "tensor": 2}


@dataclasses.dataclass(frozen=True)
class Chip:
    """A device of a TPU v5e slice, as far as a mesh asks."""

    id: int
    slice_index: int
    coords: tuple[int, int, int]
    core_on_chip: int = 0
    process_index: int = 0
    platform: str = "tpu"
    device_kind: str = "TPU v5 lite"


def chips(slices: int, side: int = 4) -> list[Chip]:
    places = [(s, x, y) for s in range(slices) for y in range(side) for x in range(side)]
    return [Chip(i, s, (x, y, 0)) for i, (s, x, y) in enumerate(places)]


@pytest.mark.parametrize("sizes", [(-1, 1, 1), (4, 4, 2), (2, -1, 1)])
def test_only_data_crosses_slices(sizes):
    mesh = sharding.make_mesh(*sizes, devices=chips(2))
    of_row = [{chip.slice_index for chip in row.flat} for row in mesh.devices]
    half = len(of_row) // 2
    assert of_row == [{0}] * half + [{1}] * half
    assert mesh.axis_types == (AxisType.Auto,) * 3


def test_a_replica_in_two_slices_is_refused():
    with pytest.raises(UserError, match="mesh.data 1 is not a multiple of 2 slices.*the 16 dev"):
        sharding.make_mesh(1, -1, 1, devices=chips(2))


def test_tensor_lies_along_links():
    """Neighbours of the mesh are neighbours on the torus, where an axis needs part of one too."""
    for sizes in ((4, 2, 2), (1, 8, 2), (2, 1, 8)):
        mesh = sharding.make_mesh(*sizes, devices=chips(1))
        for a, b in zip(mesh.devices[..., 0].flat, mesh.devices[..., 1].flat):
            steps = [abs(m - n) for m, n in zip(a.coords, b.coords)]
            assert sum(min(step, 4 - step) for step in steps) == 1


def test_every_row_is_used_by_some_model():
    used = set()
    small = dict(width=16, depth=1, num_heads=2, mlp_dim=32)
    # Of each system, the sizes that differ in more than numbers.
    variants = {"chinese_clip": "ViT-B/16", "siglip": "B/16", "llama": "llama-2-7b"}
    variants |= {"gpt2": "small", "opt": "350m", "bert": "base-uncased", "albef": "base"}
    variants |= {"albef_vqa": "base@384", "albef_classifier": "text_assignment"}
    variants |= {"blip": "base", "blip_captioner": "base@384", "blip_vqa": "base@480"}
    variants |= {"blip_classifier": "nlvr@384", "vit": "B/16"}
    sections = [{"name": name, "variant": variant} for name, variant in variants.items()]
    sections += [{"name": "clip", "variant": variant} for variant in ("RN50", "ViT-B/32")]
    sections += [{"name": "t5", "variant": variant} for variant in ("t5-small", "flan-t5-small")]
    assert {section["name"] for section in sections} == MODELS.keys()
    sections.append(
        {
            "name": "clip",
            "embed_dim": 8,
            "vision": dict(image_size=16, patch_size=8, stem="conv", stem_depth=1, **small),
            "text": dict(vocab_size=32, max_len=6, **small),
        }
    )
    for section in sections:
        model = build_model(section)
        shapes = jax.eval_shape(model.init, jax.random.key(0), model.dummy_batch(1))["params"]
        used |= {paths.first_match(sharding.PARAM_AXES, path) for path in paths.flatten(shapes)}
    assert used == set(range(len(sharding.PARAM_AXES)))


def test_patterns_compile_and_axes_are_known():
    for pattern, axes in sharding.PARAM_AXES:
        re.compile(pattern)
        assert all(axis is None or axis in sharding.AXIS_RULES for axis in axes)


def test_constrain_checks_names_and_rank():
    x = jnp.zeros((8, 4))
    assert sharding.constrain(x, "batch", None) is x  # No mesh, nothing to do.
    with pytest.raises(ValueError, match="unknown"):
        sharding.constrain(x, "btach", None)
    with pytest.raises(ValueError, match="rank"):
        sharding.constrain(x, "batch")
    with jax.set_mesh(sharding.make_mesh(4, 2, 1)):
        out = jax.jit(lambda x: sharding.constrain(x, "batch", None))(x)
        assert out.sharding.spec == P(("data", "fsdp"))
