# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""LoRA: what an adapter computes, how it trains, and its way to PEFT's files and back."""

import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jvlm
from jvlm import adapters, checkpoint, paths, quantise, sharding, warm_start
from jvlm.adapters import LoRA
from jvlm.convert import peft
from jvlm.convert.engine import Rule
from jvlm.convert.files import Safetensors, write_safetensors
from jvlm.errors import UserError
from jvlm.layers import unstack
from jvlm.logs import parameter_table
from jvlm.models import build_model
from jvlm.pretrained import Pretrained, Processor
from jvlm.step import build_step
from jvlm.train import open_run
from tests.test_quantise import BATCH, LM, MIXED, forward, make_clip

TARGETS = (".*attn/(q|v|out)", ".*mlp/up")
TRAINED = (".*lora_(a|b)", True), (".*", False)


@pytest.fixture(scope="module")
def lm():
    model = build_model(LM)
    return model, jax.jit(model.init)(jax.random.key(0), BATCH)["params"]


def adapted(params, seed=1, **options):
    """With adapters that do something: B is not zero."""
    lora = LoRA(TARGETS, **{"rank": 3, **options})
    flat = paths.flatten(adapters.add(params, lora, jax.random.key(seed)))
    keys = iter(jax.random.split(jax.random.key(seed), len(flat)))
    draw = lambda leaf: 0.1 * jax.random.normal(next(keys), leaf.shape)
    return paths.unflatten({p: draw(x) if p.endswith("_b") else x for p, x in flat.items()})


def test_fresh_adapters_change_nothing(lm):
    model, params = lm
    fresh = adapters.add(params, LoRA(TARGETS, rank=64, alpha=3.0), jax.random.key(0))
    np.testing.assert_array_equal(forward(model)(fresh), forward(model)(params))
    flat = paths.flatten(fresh)
    assert flat["blocks/attn/out/lora_a"].shape == (2, 2, 32, 64)
    assert flat["blocks/attn/q/lora_b"].shape == (2, 64, 2, 32)
    np.testing.assert_array_equal(flat["blocks/mlp/up/lora_scale"], np.float32([3 / 64] * 2))
    for layer in ("attn/q", "attn/out", "mlp/up"):  # torch's kaiming_uniform with a = sqrt(5).
        a = np.asarray(flat[f"blocks/{layer}/lora_a"])
        assert 0.12 < np.abs(a).max() < 64**-0.5 and abs(a.std() * 3**0.5 * 8 - 1) < 0.03
    assert "blocks/attn/q/lora_dropout" not in flat and "blocks/attn/k/lora_a" not in flat
    assert LoRA(TARGETS, rank=16, alpha=8.0, rank_stabilised=True).scale == 2.0


def test_merged_and_unstacked_are_the_same(lm):
    model, params = lm
    with_adapters = adapted(params, dropout=0.5)  # Off without a key.
    got = forward(model)(with_adapters)
    assert np.abs(got - forward(model)(params)).max() > 0.1
    merged = adapters.merge(with_adapters)
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    np.testing.assert_allclose(got, forward(model)(merged), atol=1e-5)
    unstacked = {**with_adapters, "blocks": unstack(with_adapters["blocks"])}
    np.testing.assert_allclose(forward(model)(unstacked), got, atol=1e-5)


def test_dropout_is_of_the_input():
    """Scaled, on with a key only, and not on the frozen path."""
    from jvlm.layers import Linear

    layer = Linear((64,), (4,), use_bias=False)
    x = jnp.ones((50, 64))
    leaves = {"a": jnp.ones((64, 1)), "b": jnp.ones((1, 4)), "scale": 0.5, "dropout": 0.25}
    params = {
        "kernel": jnp.ones((64, 4)),
        **{f"lora_{k}": jnp.asarray(v) for k, v in leaves.items()},
    }
    still = layer.apply({"params": params}, x)
    np.testing.assert_allclose(still, 64 + 32)
    y = layer.apply({"params": params}, x, rngs={"dropout": jax.random.key(0)})
    kept = (np.asarray(y) - 64) / 32 * 0.75
    np.testing.assert_allclose(kept * 64, np.round(kept * 64), atol=1e-3)
    assert abs(kept.mean() - 0.75) < 0.02 and np.unique(kept[:, 0]).size > 5


@pytest.fixture
def lora_config(config):
    config.lora = dict(targets=(".*attn/(q|v)",), rank=2, dropout=0.1)
    config.quantise = ((".*blocks/.*kernel", "int8"), (".*", None))
    config.trainable = TRAINED
    config.optim.weight_decay = ((".*", 0.0),)
    return config


def test_training(lora_config, tmp_path, rng):
    """QLoRA: only adapters move, have slots and are written at each step; resumed bit for bit."""
    c, run = lora_config, tmp_path / "run"
    model = build_model(c.model.to_dict())
    params = jax.jit(model.init)(jax.random.key(7), model.dummy_batch(1))["params"]
    mesh = sharding.make_mesh(1, devices=jax.devices()[:1])
    Pretrained(model, params, Processor(None, None), mesh, "clip").save(tmp_path / "base")
    c.init, c.tokenizer = ((r"(.*)", str(tmp_path / "base"), r"\1", ()),), {}
    draw = lambda high, *shape: rng.integers(0, high, (16, *shape))
    batch = {
        "image": draw(256, 48, 48, 3).astype(np.uint8),
        "text": draw(128, 18).astype(np.int32),
        "text_mask": np.ones((16, 18), bool),
        "image_id": np.arange(16, dtype=np.int32),
    }
    training = build_step(c, mesh)
    table = parameter_table(training.state, training.optimizer.table, mesh)
    assert table.count("  yes  ") == table.count(" mu float32, nu float32") == 8
    open_run(run, c)
    checkpoints = checkpoint.Checkpoints(run)
    with jax.set_mesh(mesh):
        state, fresh = warm_start.apply(
            c.init,
            training.init(jax.random.key(3)),
            lambda path: warm_start.Source(jvlm.load(path).params),
        )
        assert len(fresh) == 4 * 4  # A, B, scale and dropout rate of q and v in two towers.
        step = lambda state: training.step(state, sharding.put_whole_batch(batch, mesh), None)[0]
        for done in (1, 2):
            state = step(state)
            checkpoints.save(done, state, {})
        checkpoints.wait()
        again = step(checkpoints.restore(1, training.state))
        jax.tree.map(np.testing.assert_array_equal, again.eval_params(), state.eval_params())
    checkpoints.close()
    got = jvlm.load(run, step=2).params
    jax.tree.map(np.testing.assert_array_equal, got, state.eval_params())
    got, want = paths.flatten(got), jvlm.load(tmp_path / "base", quantise=c.quantise).params
    for path, leaf in paths.flatten(want).items():
        np.testing.assert_array_equal(got[path], leaf, err_msg=path)
    assert all(np.abs(got[path]).max() > 0 for path in fresh if path.endswith("lora_b"))


def put(flat, mesh):
    tree = paths.unflatten(flat)
    return paths.flatten(jax.device_put(tree, sharding.tree_shardings(tree, mesh)))


def test_sharded_is_unsharded(lm):
    """Loss and gradients of adapters over quantised kernels."""
    model, params = lm
    flat = paths.flatten(params)
    flat = paths.flatten(quantise.quantise_tree(adapted(params), quantise.resolve(MIXED, flat)))
    trained = {path: leaf for path, leaf in flat.items() if path.endswith(("lora_a", "lora_b"))}
    frozen = {path: leaf for path, leaf in flat.items() if path not in trained}

    def loss(trained, frozen):
        params = paths.unflatten(trained | frozen)
        return model.apply({"params": params}, BATCH).logits.var()

    results = []
    for mesh in (sharding.make_mesh(1, devices=jax.devices()[:1]), sharding.make_mesh(2, 2, 2)):
        place = functools.partial(put, mesh=mesh)
        with jax.set_mesh(mesh):
            results.append(jax.jit(jax.value_and_grad(loss))(place(trained), place(frozen)))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, *jax.device_get(results))


@pytest.mark.parametrize(
    "lora, message",
    [
        (dict(targets=(".*atn/q",)), "'.*atn/q' is no layer with a kernel"),
        (dict(targets=("(",)), "lora.targets: not a regular expression"),
        (dict(targets=".*"), "give a list of patterns"),
        (dict(targets=(".*attn/q",), rnk=3), "unknown key 'rnk'. Did you mean 'rank'"),
        (dict(targets=(".*attn/q",), rank=0), "lora.rank 0"),
        (dict(targets=(".*attn/q",), dropout=1.0), "lora.dropout 1.0"),
    ],
)
def test_bad_section(lm, lora, message):
    with pytest.raises(UserError) as error:
        adapters.extend(lm[1], jax.random.key(0), lora=lora)
    assert message in str(error.value)


def test_layers_that_take_none_say_so():
    clip = make_clip()
    params = adapters.add(clip.params, LoRA(("vision_proj",)), jax.random.key(0))
    with pytest.raises(UserError, match="vision_proj is no linear layer that takes an adapter"):
        clip.model.apply({"params": params}, clip.model.dummy_batch(1))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """(a folder of transformers, an adapter for it, the model with both)."""
    folder, clip = tmp_path_factory.mktemp("peft"), make_clip()
    clip.export(folder / "hf")
    clip.params = adapted(clip.params, dropout=0.1)
    clip.export(folder / "adapter", format="peft")
    return folder / "hf", folder / "adapter", clip


def test_peft_round_trip(published, tmp_path):
    base, adapter, clip = published
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (3, 16.0, 0.1)
    assert config["target_modules"] == ["fc1", "out_proj", "q_proj", "v_proj"]
    mesh = sharding.make_mesh(2, 2, 2)
    for m in (jvlm.load(base, adapter=adapter), jvlm.load(base, adapter=adapter, mesh=mesh)):
        jax.tree.map(np.testing.assert_array_equal, m.params, clip.params)
    m.save(tmp_path / "saved")
    saved = jvlm.load(tmp_path / "saved")
    jax.tree.map(np.testing.assert_array_equal, saved.params, clip.params)
    with pytest.raises(UserError, match="merge_adapters\\(\\), or export format='peft'"):
        saved.export(tmp_path / "out")
    saved.merge_adapters().export(tmp_path / "out")
    with pytest.raises(UserError, match="has no adapters to write"):
        jvlm.load(tmp_path / "out").export(tmp_path / "none", format="peft")
    small = jvlm.load(base, adapter=adapter, quantise="int8")
    with pytest.raises(UserError, match="load the model without quantise="):
        small.merge_adapters()
    for path, leaf in paths.flatten(clip.params).items():
        if "lora_" in path:
            np.testing.assert_array_equal(paths.flatten(small.params)[path], leaf, err_msg=path)


def edit(adapter, target, config=None, drop="", rename=("", "")):
    """A copy of an adapter with something wrong."""
    shutil.copytree(adapter, target)
    path = target / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | (config or {})))
    tensors = Safetensors([adapter / "adapter_model.safetensors"])
    kept = [
        (key.replace(*rename), shape, lambda key=key: tensors.read(key))
        for key, shape in tensors.shapes.items()
        if not drop or drop not in key
    ]
    write_safetensors(target / "adapter_model.safetensors", kept, np.float32)
    return target


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(config={"use_dora": True}), "use_dora True: jvlm reads plain LoRA only"),
        (dict(config={"peft_type": "IA3"}), "peft_type 'IA3': jvlm reads LORA"),
        (dict(drop="text_model.encoder.layers.1.mlp"), "has 1 of 2 layers of text/blocks/mlp/up"),
        (dict(drop="layers.1.mlp.fc1.lora_A"), "has half of"),
        (dict(rename=("fc1", "fc7")), "no place in the model for base_model.model.text_model"),
        (dict(rename=("q_proj.lora_B", "q_proj.lora_magnitude")), "no place in the model for"),
        (dict(rename=("fc1", "fc2")), "adapter of text/blocks/mlp/down [2, 64, 32] has another"),
    ],
)
def test_adapter_that_does_not_fit(published, tmp_path, change, message):
    base, adapter, clip = published
    folder = edit(adapter, tmp_path / "bad", **change)
    with pytest.raises(UserError) as error:
        jvlm.load(base, adapter=folder)
    assert message in str(error.value) and str(folder) in str(error.value)


def test_patterns_and_scales(published, tmp_path):
    """alpha_pattern, rslora."""
    base, adapter, _ = published
    config = {"alpha_pattern": {"fc1": 6, "layers.1.self_attn.q_proj": 5}, "use_rslora": True}
    m = jvlm.load(base, adapter=edit(adapter, tmp_path / "a", config))
    flat = paths.flatten(m.params)
    for layer, alphas in (("mlp/up", (6, 6)), ("attn/q", (16, 5)), ("attn/v", (16, 16))):
        want = np.float32(alphas) / np.float32(3**0.5)
        np.testing.assert_allclose(flat[f"text/blocks/{layer}/lora_scale"], want, rtol=1e-6)
    m.export(tmp_path / "b", format="peft")
    again = jvlm.load(base, adapter=tmp_path / "b")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), again.params, m.params)


FUSED = tuple(
    Rule("h.{layer}.attn.c_attn.weight", f"blocks/attn/{name}/kernel", "linear", (i, 3))
    for i, name in enumerate("qkv")
)


@pytest.mark.parametrize("parts", ["qkv", "qv"])
def test_fused_projection(lm, tmp_path, parts):
    """Different adapters of q, k and v become one of the fused projection, the same function."""
    model, params = lm
    lora = [LoRA((f".*attn/{n}",), rank=2 + i, alpha=3.0 + i) for i, n in enumerate(parts)]
    tree = params
    for one in lora:
        tree = adapters.add(tree, one, jax.random.key(0))
    keys = iter(jax.random.split(jax.random.key(1), 100))
    tree = paths.map_with_path(
        lambda p, x: jax.random.normal(next(keys), x.shape) if p.endswith("lora_b") else x, tree
    )
    peft.export(tmp_path, FUSED, tree)
    tensors = Safetensors([tmp_path / "adapter_model.safetensors"])
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    deltas = {n: merged_delta(tree, params, n) for n in "qkv"}
    for layer in range(2):
        name = f"base_model.model.h.{layer}.attn.c_attn.lora_"
        a, b = (tensors.read(f"{name}{x}.weight") for x in "AB")
        assert a.shape == (config["r"], 64) and b.shape == (3 * 64, config["r"])
        want = np.concatenate([deltas[n][layer].reshape(64, 64).T for n in "qkv"])
        np.testing.assert_allclose(config["lora_alpha"] / config["r"] * b @ a, want, atol=2e-5)
    # And in again: the parts share A, so that going out they are one of the same rank.
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    back = peft.load(tmp_path, FUSED, params, params, mesh)
    for n in "qkv":
        np.testing.assert_allclose(merged_delta(back, params, n), deltas[n], atol=2e-5)
    (tmp_path / "again").mkdir()
    peft.export(tmp_path / "again", FUSED, back)
    again = Safetensors([tmp_path / "again" / "adapter_model.safetensors"])
    assert again.shapes == tensors.shapes


def merged_delta(tree, params, name):
    kernel = lambda t: np.asarray(paths.flatten(t)[f"blocks/attn/{name}/kernel"])
    return kernel(adapters.merge(tree)) - kernel(params)
