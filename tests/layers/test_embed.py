# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Patches, convolutions, positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm import sharding
from jvlm.layers import Conv, ConvStem, PatchEmbed, TokenEmbed, resize_positions

DIMS = ("NHWC", "HWIO", "NHWC")


def test_patches_are_a_strided_convolution(rng):
    image = rng.normal(size=(2, 14, 21, 3)).astype(np.float32)
    patch = PatchEmbed(7, 16, use_bias=True)
    params = patch.init(jax.random.key(0), image)
    kernel = params["params"]["kernel"]
    want = jax.lax.conv_general_dilated(image, kernel, (7, 7), "VALID", dimension_numbers=DIMS)
    np.testing.assert_allclose(patch.apply(params, image), want, atol=1e-5)
    # Pixels that do not fill a patch are left out.
    odd = np.pad(image, ((0, 0), (0, 3), (0, 0), (0, 0)), constant_values=9.0)
    np.testing.assert_allclose(patch.apply(params, odd), want, atol=1e-5)


@pytest.mark.parametrize("channels", [3, 8])
@pytest.mark.parametrize("side, stride", [(12, 2), (11, 2), (9, 1)])
def test_both_ways_to_convolve_agree(rng, channels, side, stride):
    """Few channels go through gathered windows, many through XLA's convolution."""
    x = rng.normal(size=(2, side, side, channels)).astype(np.float32)
    conv = Conv(3, stride, 5)
    params = conv.init(jax.random.key(0), x)
    kernel = params["params"]["kernel"]
    strides = (stride, stride)
    want = jax.lax.conv_general_dilated(x, kernel, strides, "SAME", dimension_numbers=DIMS)
    np.testing.assert_allclose(conv.apply(params, x), want, atol=1e-5)


def test_stem_has_the_stride_of_its_patches(rng):
    image = rng.normal(size=(2, 48, 32, 3)).astype(np.float32)
    stem = ConvStem(8, 32, depth=2)
    params = stem.init(jax.random.key(0), image)
    assert stem.apply(params, image).shape == (2, 6, 4, 32)


def test_tied_output_layer(rng):
    embed = TokenEmbed(7, 4)
    params = embed.init(jax.random.key(0), jnp.zeros((1, 1), int))
    x = rng.normal(size=(2, 3, 4)).astype(np.float32)
    want = x @ np.asarray(params["params"]["embedding"]).T
    np.testing.assert_allclose(embed.apply(params, x, method="attend"), want, atol=1e-5)


def test_resized_positions_keep_the_class_token(rng):
    table = rng.normal(size=(17, 8)).astype(np.float32)
    for antialias in (True, False):
        bigger = resize_positions(table, (4, 4), (6, 5), antialias=antialias)
        assert bigger.shape == (31, 8)
        np.testing.assert_array_equal(bigger[0], table[0])
    assert resize_positions(table, (4, 4), (4, 4), antialias=True) is table
    with pytest.raises(ValueError, match="fewer"):
        resize_positions(table, (5, 5), (6, 6), antialias=True)


@pytest.mark.parametrize("sizes", [(2, 2, 2), (2, 4, 1), (1, 8, 1)])
def test_token_lookup_moves_vectors_and_no_more(sizes):
    """Neither the table nor the vectors of the global batch are whole anywhere, backward too."""
    mesh = sharding.make_mesh(*sizes)
    embed, shape = TokenEmbed(80, 32), (80, 32)
    place = jax.NamedSharding(mesh, sharding.partition_spec("text/token/embedding", shape, mesh))
    rows = sharding.batch_sharding(mesh)

    def gradient(table, ids):
        look_up = lambda table: embed.apply({"params": {"embedding": table}}, ids)
        return jax.grad(lambda table: jnp.square(look_up(table)).sum())(table)

    with jax.set_mesh(mesh):
        table = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=place)
        ids = jax.ShapeDtypeStruct((16, 6), jnp.int32, sharding=rows)
        text = jax.jit(gradient, out_shardings=place).lower(table, ids).compile().as_text()
    # A replica looks up all of its rows, each device its columns of them.
    whole = "f32[16,6" if mesh.shape["data"] > 1 else "f32[16,6,32]"
    assert whole not in text and "f32[80,32]" not in text
    assert "all-to-all" in text
