# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Update rules: their formulas, layer by layer, on any mesh; what their state is stored in."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from jvlm import optim, paths, sharding
from jvlm.errors import UserError

SHAPES = {
    "logit_scale": (),
    "text/blocks/attn/out/kernel": (3, 2, 32, 64),
    "text/blocks/attn/q/kernel": (3, 64, 2, 32),
    "text/blocks/mlp/down/kernel": (3, 96, 64),
    "text/blocks/mlp/up/bias": (3, 96),
    "text/blocks/mlp/up/kernel": (3, 64, 96),
    "text/token/embedding": (40, 64),
    "vision/pool/mlp/up/kernel": (64, 96),
}
UP, Q = "text/blocks/mlp/up/kernel", "text/blocks/attn/q/kernel"
DEEP = "text/blocks/norm1/scale"  # More layers than MIN_FACTORED_SIZE.


def draw(seed, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    leaf = lambda shape: rng.normal(size=shape).astype(np.float32)
    return paths.unflatten({path: leaf(shape) for path, shape in shapes.items()})


def build(name, shapes=SHAPES, **options):
    params = paths.flatten(draw(0, shapes))
    options = {"steps": 10, "lr": 1e-2, "schedule": "constant", **options}
    return optim.make_optimizer(params, dict.fromkeys(params, True), name=name, **options).tx


def run(tx, params, *gradients):
    """(flat parameters, state) after a step with each gradient."""

    @jax.jit
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for grads in gradients:
        params, state = step(params, state, grads)
    return {k: np.asarray(v) for k, v in paths.flatten(params).items()}, state


def moved(name, *gradients, shapes=SHAPES, **options):
    """path -> -(change) / rate after steps from zero, so that nothing decays."""
    zeros = jax.tree.map(np.zeros_like, draw(0, shapes))
    params, state = run(build(name, shapes, **options), zeros, *gradients)
    return {k: -v / 1e-2 for k, v in params.items()}, state


def test_adafactor_is_big_visions():
    """Two steps of a matrix whose second moment is its row and column means, and of one whole."""
    first, second = draw(1), draw(2)
    got, _ = moved("adafactor", first, second, b2=0.4)
    for path, axes in ((UP, (2, 1)), (Q, (1, 3)), ("text/blocks/mlp/up/bias", None)):
        row = column = whole = memory = total = 0.0
        for step, grads in enumerate((first, second), 1):
            g = paths.flatten(grads)[path].astype(np.float64)
            keep = min(0.4, 1 - step**-0.8)
            if axes is None:
                whole = keep * whole + (1 - keep) * g**2
                update = g / np.sqrt(whole)
            else:
                row = keep * row + (1 - keep) * (g**2).mean(axes[0], keepdims=True)
                column = keep * column + (1 - keep) * (g**2).mean(axes[1], keepdims=True)
                update = g / np.sqrt(row * column / row.mean(axes[1], keepdims=True))
            memory = 0.9 * memory + 0.1 * update
            total = total + memory
        np.testing.assert_allclose(got[path], total, rtol=1e-4, atol=1e-5, err_msg=path)


def test_adafactor_never_factors_over_layers():
    shapes = {DEEP: (40, 64), UP: (40, 64, 96)}
    grads = draw(1, shapes)
    got, state = moved("adafactor", grads, shapes=shapes)
    np.testing.assert_allclose(got[DEEP], 0.1 * np.sign(paths.flatten(grads)[DEEP]), rtol=1e-4)
    assert paths.flatten(state[1][0].inner_states["factored"].inner_state.v_row).keys() >= {UP}


def test_adafactor_clips_each_layer():
    grads = jax.tree.map(lambda g: g * 0 + 1, draw(1))
    layer = np.array([1.0, 100.0, 1.0]).reshape(3, 1, 1)
    second = paths.unflatten(
        {k: v * layer if k == UP else v for k, v in paths.flatten(grads).items()}
    )
    free, _ = moved("adafactor", grads, second, momentum=0.0)
    clipped, _ = moved("adafactor", grads, second, momentum=0.0, clip_rms=1.0)
    np.testing.assert_allclose(clipped[UP][[0, 2]], free[UP][[0, 2]], rtol=1e-5)
    np.testing.assert_allclose(clipped[UP][1], 2.0, rtol=1e-5)
    assert (free[UP][1] > 2.05).all()


def test_muon_orthogonalizes_each_layer():
    grads = draw(1)
    got, _ = moved("muon", grads)
    want, _ = moved("adamw", grads)
    matrices = {
        UP: lambda x: x,
        Q: lambda x: x.reshape(64, 64),
        "text/blocks/attn/out/kernel": lambda x: x.reshape(64, 64),
        "text/blocks/mlp/down/kernel": lambda x: x,
    }
    for path, join in matrices.items():
        for layer, gradient in zip(got[path], paths.flatten(grads)[path]):
            update, gradient = join(layer), join(gradient)
            values = np.linalg.svd(update / (0.2 * np.sqrt(max(update.shape))), compute_uv=False)
            assert values.max() < 1.3 and np.median(values) > 0.6  # The iteration's own spread.
            one = optax.contrib.muon(-1.0, consistent_rms=0.2)
            expected, _ = one.update({"w": gradient}, one.init({"w": gradient}), {"w": gradient})
            np.testing.assert_allclose(update, expected["w"], rtol=1e-2, atol=1e-3)
    for path in ("logit_scale", "text/token/embedding", "text/blocks/mlp/up/bias"):
        np.testing.assert_allclose(got[path], want[path], rtol=1e-5)


DTYPES = {
    "adamw": {"mu": "bfloat16", "nu": "float32"},
    "lion": {"mu": "bfloat16"},
    "sgd": {"trace": "bfloat16"},
    "adafactor": {"ema": "bfloat16", "v": "float32", "v_row": "float32", "v_col": "float32"},
    "muon": {"trace": "bfloat16", "mu": "bfloat16", "nu": "float32"},
}
assert DTYPES.keys() == optim.RULES.keys()


@pytest.mark.parametrize("name", DTYPES)
def test_first_moments_in_bfloat16(name):
    """Half the bytes, and the same updates to the dtype's three digits."""
    grads = [draw(seed) for seed in (1, 1, 1)]
    want, _ = moved(name, *grads)
    got, state = moved(name, *grads, state_dtype="bfloat16")
    found = {}
    for keys, leaf in jax.tree.leaves_with_path(state):
        fields = [key.name for key in keys if isinstance(key, jax.tree_util.GetAttrKey)]
        if leaf.size > 1:
            found.setdefault(fields[-1], set()).add(leaf.dtype.name)
    assert found == {field: {dtype} for field, dtype in DTYPES[name].items()}
    for path in want:
        np.testing.assert_allclose(got[path], want[path], atol=0.02 * np.abs(want[path]).max())


@pytest.mark.parametrize("name", DTYPES)
def test_decay_and_rates_are_the_same_for_all(name):
    """Without a gradient a weight shrinks by rate x decay, where it decays, at its own rate."""
    params = draw(0)
    rules = dict(weight_decay=((".*up/kernel", 0.5), (".*", 0.0)))
    rules["lr_scale"] = ((f"{UP}[1:2]", 2.0), (".*", 1.0))
    got, _ = run(build(name, **rules), params, jax.tree.map(np.zeros_like, params))
    rate = 1e-2 * np.array([1.0, 2.0, 1.0]).reshape(3, 1, 1)
    for path, leaf in paths.flatten(params).items():
        if path.endswith("up/kernel"):
            leaf = leaf * (1 - 0.5 * (rate if path == UP else 1e-2))
        np.testing.assert_allclose(got[path], leaf, rtol=1e-5, err_msg=path)


@functools.cache
def two_steps(sizes):
    """name -> (parameters, slots) after two steps of every rule, on a mesh or one device."""
    devices = None if sizes else jax.devices()[:1]
    mesh = sharding.make_mesh(*(sizes or ()), devices=devices)
    place = functools.partial(sharding.tree_shardings, mesh=mesh)
    params, first, second = (jax.device_put(tree, place(tree)) for tree in map(draw, (0, 1, 2)))
    # Steps of the size of training's: Newton-Schulz multiplies small singular values, and their
    # rounding, by up to 3.44^5.
    options = dict(lr=1e-3, clip_norm=100.0, weight_decay=((".*", 0.1),))

    @jax.jit
    def all_rules(params, first, second):
        results = {}
        for name in optim.RULES:
            tx, new = build(name, **options), params
            state = tx.init(params)
            state = jax.lax.with_sharding_constraint(
                state, sharding.of_result(tx.init, params, place(params), mesh)
            )
            for grads in (first, second):
                updates, state = tx.update(grads, state, new)
                new = optax.apply_updates(new, updates)
            results[name] = new
        return results

    with jax.set_mesh(mesh):
        results = all_rules(params, first, second)
    return jax.tree.map(np.asarray, results)


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 2, 2), (1, 4, 2)])
def test_sharded_equals_unsharded(sizes):
    got, want = two_steps(sizes), two_steps(None)
    for name in optim.RULES:
        given = paths.flatten(draw(0))
        for path, leaf in paths.flatten(want[name]).items():
            assert np.abs(leaf - given[path]).max() > 1e-4, (name, path)
            other = paths.flatten(got[name])[path]
            np.testing.assert_allclose(other, leaf, atol=1e-5, err_msg=f"{name} {path}")


def test_layers_are_dealt_out_without_gathering_a_stack():
    mesh = sharding.make_mesh(2, 2, 2)
    shape = (3, 64, 96)
    place = jax.sharding.NamedSharding(mesh, sharding.partition_spec(UP, shape, mesh))
    x = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=place)
    seen = []

    def fn(x):
        jax.debug.inspect_array_sharding(x, callback=seen.append)
        return 2 * x

    with jax.set_mesh(mesh):
        compiled = jax.jit(lambda x: sharding.whole_layers(fn, UP, x)).lower(x).compile()
    assert seen[0].shard_shape((8, *shape[1:])) == (1, 64, 96)
    assert "f32[8,64,96]" not in compiled.as_text()
    assert compiled.output_shardings.spec == P(None, "fsdp", "tensor")


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("lion", dict(eps=1e-6), "optim.name='lion': unknown key 'eps'"),
        ("adamw", dict(momentum=0.9), "optim.name='adamw': unknown key 'momentum'"),
        ("adafactor", dict(b1=0.9), "optim.name='adafactor': unknown key 'b1'"),
        ("sgd", dict(momentum="high"), "optim.momentum 'high': a number"),
        ("adamw", dict(state_dtype="bf16"), "Did you mean 'bfloat16'"),
        ("moun", {}, "Did you mean 'muon'"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(UserError, match=message):
        build(name, **options)
