# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm plan --decode`: the bytes of real weights and a real cache, and the verdict."""

import json

import jax
import jax.numpy as jnp
import pytest

import jvlm
from jvlm import plan_decode, sharding
from jvlm.errors import UserError
from jvlm.models import build_model
from jvlm.precision import Compute, cast_weights
from jvlm.pretrained import Pretrained, Processor

SIZES = dict(vocab_size=64, max_len=32, width=16, depth=2, num_heads=2, mlp_dim=32)
MESH = dict(data=2, fsdp=2, tensor=2)


@pytest.fixture(scope="module")
def model():
    return build_model(dict(name="gpt2", **SIZES), Compute(dtype="bfloat16"))


def planned(model, **options):
    given = dict(mesh=MESH, batch=8, length=16, sequences=3) | options
    return plan_decode.plan_decode(model, "cpu:8", **given)


def test_weights_and_cache_are_those_of_a_real_call(model):
    chip = planned(model)["per_chip"]
    mesh = sharding.make_mesh(**MESH)
    with jax.set_mesh(mesh):
        shapes = jax.eval_shape(model.init, jax.random.key(0), model.dummy_batch(4))["params"]
        places = sharding.tree_shardings(shapes, mesh)

        def made():
            params = model.init(jax.random.key(0), model.dummy_batch(4))["params"]
            return cast_weights(params, "bfloat16")

        params = jax.jit(made, out_shardings=places)()
        text = jax.device_put(jnp.ones((8, 16), jnp.int32), sharding.batch_sharding(mesh))
        prefill = jax.jit(
            lambda params, text: model.apply(
                {"params": params}, {"text": text}, 48, method="prefill"
            )
        )
        _, cache = prefill(params, text)
    device = mesh.devices.flat[0]

    def held(tree):
        shards = [s for x in jax.tree.leaves(tree) for s in x.addressable_shards]
        return sum(s.data.nbytes for s in shards if s.device == device)

    assert chip["parameters_bytes"] == held(params)
    assert chip["cache_bytes"] == held(cache)
    # Keys and values of 2 layers, 8 rows / 4, 3 x 16 slots, 2 heads / 2 of 8 numbers of 2 bytes.
    assert held(cache.layers) == 2 * 2 * 2 * 48 * 8 * 2
    assert chip["step_peak_bytes"] > chip["parameters_bytes"] + chip["cache_bytes"]


@pytest.mark.parametrize(("kind", "most"), [("int8", 0.5), ("int4", 0.3)])
def test_quantised_kernels_take_less(model, kind, most):
    config = dict(name="gpt2", **SIZES | dict(width=64, mlp_dim=256, vocab_size=8))
    wide = build_model(config, Compute(dtype="bfloat16"))
    given = dict(sequences=1, mesh=dict(data=8))
    plain, small = planned(wide, **given), planned(wide, **given, quantise=kind)
    size = lambda result: result["per_chip"]["parameters_bytes"]
    assert size(small) < (0.15 + most) * size(plain)


def test_verdict(model):
    assert planned(model)["fits"]
    tight = planned(model, memory=1e-5)
    assert not tight["fits"]
    assert plan_decode.describe(tight)[-1].startswith("does not fit: ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(length=33), "--length 33: the model has 32 positions"),
        (dict(batch=0), "--batch 0: at least 1"),
        (dict(batch=3), "batch_size 3 is not a multiple of 4"),
        (dict(mesh=dict(tensor=8)), "kv_heads, which mesh.tensor=8 does not divide"),
    ],
)
def test_bad_requests(model, options, words):
    with pytest.raises(UserError, match=words):
        planned(model, **options)


def test_a_model_without_decoder():
    tower = dict(width=16, depth=1, num_heads=2, mlp_dim=32)
    vision = dict(image_size=32, patch_size=16, **tower)
    clip = build_model(dict(name="clip", variant="ViT-B/32", vision=vision, text=tower))
    with pytest.raises(UserError, match="has no decoder"):
        planned(clip)


def test_command(tmp_path, call):
    config = tmp_path / "tiny.py"
    config.write_text(
        "from configs import common\n"
        "def get_config(arg):\n"
        "    c = common.base()\n"
        f"    c.model = dict(name='gpt2', **{SIZES})\n"
        "    return c\n"
    )
    line = ["plan", "--decode", "--topology=cpu:8", "--length=16", "--json"]
    of_config = [*line, f"--config={config}"]
    status, out, _ = call(*of_config, "--mesh=data=4,tensor=-1", "--batch=4", "--beams=2")
    result = json.loads(out)
    assert status == 0 and result["sequences"] == 2
    assert result["mesh"] == dict(data=4, fsdp=1, tensor=2)

    for bad, words in (
        ([*of_config, "--mesh=tensor=x"], "--mesh 'tensor=x': give sizes of axes"),
        (line, "give --config or --model"),
        (["plan", "--topology=cpu:8"], "give --config, or --decode with --model"),
        ([*line, f"--model={tmp_path}"], "no checkpoint in it"),
    ):
        status, _, error = call(*bad)
        assert status == 2 and words in error


def test_a_saved_model_is_planned_in_its_form(tmp_path, call):
    wide = SIZES | dict(width=64, mlp_dim=256, vocab_size=8)
    model = build_model(dict(name="gpt2", **wide))
    params = jax.jit(model.init)(jax.random.key(0), model.dummy_batch(1))["params"]
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    plain = Pretrained(model, params, Processor(None, None), mesh, "gpt2")
    plain.save(tmp_path / "plain")
    jvlm.load(tmp_path / "plain", quantise="int8").save(tmp_path / "int8")

    def parameters(name, *options):
        line = ["plan", "--decode", "--topology=cpu:8", "--length=16", "--mesh=data=8", "--batch=8"]
        status, out, error = call(*line, f"--model={tmp_path / name}", "--json", *options)
        return json.loads(out)["per_chip"]["parameters_bytes"] if status == 0 else error

    assert parameters("int8") == parameters("plain", "--quantise=int8") < parameters("plain")
    assert "the model is quantised already" in parameters("int8", "--quantise=int8")
