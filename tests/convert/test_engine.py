# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Import is export backwards; what does not fit is said; tensors go straight to their devices."""

import copy
import json
import tracemalloc
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jvlm
from jvlm import convert, paths, sharding
from jvlm.convert import engine
from jvlm.convert.engine import OPS, Rule
from jvlm.convert.files import Safetensors, write_safetensors
from jvlm.errors import UserError
from jvlm.models import build_model
from tests.convert import conftest


@pytest.mark.parametrize("kind", ["clip", "chinese_clip", "siglip", "resnet", "wide"])
def test_round_trip(tiny, tmp_path, kind):
    m = tiny[kind]
    m.export(tmp_path / "out", format="open_clip" if kind in ("resnet", "wide") else "hf")
    again = jvlm.load(tmp_path / "out")
    assert again.model.cfg == dataclass_like(again.model.cfg, m.model.cfg)
    jax.tree.map(np.testing.assert_array_equal, again.params, m.params)
    m.save(tmp_path / "saved")
    saved = jvlm.load(tmp_path / "saved")
    assert saved.model == m.model
    jax.tree.map(np.testing.assert_array_equal, saved.params, m.params)


def dataclass_like(cfg, wanted):
    """`wanted` with what a format does not record: initial temperatures (weights follow)."""
    import dataclasses

    return dataclasses.replace(
        wanted,
        logit_scale_init=cfg.logit_scale_init,
        logit_bias_init=cfg.logit_bias_init,
        vision=dataclasses.replace(wanted.vision, **heads(cfg.vision)),
    )


def heads(vision):
    return {name: getattr(vision, name) for name in ("num_heads",) if hasattr(vision, name)}


def test_sharded_and_cast_on_the_way(tiny, published):
    folder = published()
    mesh = sharding.make_mesh(2, 2, 2)
    m = jvlm.load(folder, mesh=mesh, dtype="bfloat16")
    for path, leaf in paths.flatten(m.params).items():
        want = paths.flatten(tiny["clip"].params)[path]
        assert leaf.sharding.spec == sharding.partition_spec(path, leaf.shape, mesh), path
        matmul = path.endswith(("kernel", "embedding"))
        assert leaf.dtype == (jnp.bfloat16 if matmul else jnp.float32), path
        np.testing.assert_array_equal(leaf, want.astype(leaf.dtype))


class Counting:
    """Tensors that note what is read."""

    def __init__(self, tensors):
        self.name, self.shapes, self._tensors, self.reads = "x", tensors.shapes, tensors, []

    def read(self, key, part=(0, 1), axis=0):
        self.reads.append(key)
        return self._tensors.read(key, part, axis)


def test_each_tensor_is_read_once(published):
    from jvlm.convert import open_published
    from jvlm.models.clip import CLIP
    from jvlm.pretrained import abstract_params

    found = open_published(published())
    tensors = Counting(found.tensors)
    mesh = sharding.make_mesh(2, 2, 2)
    engine.load(tensors, found.rules, found.skip, abstract_params(CLIP(found.config), mesh))
    assert sorted(tensors.reads) == sorted(found.tensors.shapes)


@pytest.mark.parametrize(
    "op, shape",
    [
        *(("same", (3, 4)), ("row", (1, 4)), ("squeeze", (1, 4)), ("scalar", ())),
        *(("heads", (2, 3)), ("linear", (4, 2, 3)), ("linear", (4, 5)), ("linear_out", (2, 3, 4))),
        *(("conv", (2, 2, 3, 5)), ("matrix", (4, 2, 3)), ("matrix_out", (2, 3, 4))),
    ],
)
def test_ops_are_invertible(op, shape, rng):
    value = rng.normal(size=shape).astype(np.float32)
    tensor = OPS[op].store(value)
    assert tensor.shape == OPS[op].source_shape(shape)
    np.testing.assert_array_equal(OPS[op].load(tensor, shape), value)


def test_a_linear_is_transposed(rng):
    """torch: y = x W^T with W [out, in]."""
    x, weight = rng.normal(size=(7, 4)), rng.normal(size=(6, 4))
    kernel = OPS["linear"].load(weight, (4, 2, 3))
    np.testing.assert_allclose(np.einsum("bd,dnh->bnh", x, kernel).reshape(7, 6), x @ weight.T)


def on_one_device(*shape):
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(shape, np.float32, sharding=one)


@pytest.mark.parametrize("op", ["linear", "matrix"])
def test_parts_of_a_fused_tensor(tmp_path, rng, op):
    """[out, in], or as GPT-2 has it, [in, out]."""
    fused = rng.normal(size=(6, 4)).astype(np.float32)
    stored = fused if op == "linear" else np.ascontiguousarray(fused.T)
    path = tmp_path / "x.safetensors"
    write_safetensors(path, [("qkv", stored.shape, lambda: stored)], np.float32)
    rules = [Rule("qkv", f"{n}/kernel", op, (i, 3)) for i, n in enumerate("qkv")]
    abstract = {n: {"kernel": on_one_device(4, 2)} for n in "qkv"}
    params = engine.load(Safetensors([path]), rules, (), abstract)
    np.testing.assert_array_equal(params["k"]["kernel"], fused[2:4].T)
    back = {key: make() for key, _, make in engine.store(rules, params)}
    np.testing.assert_array_equal(back["qkv"], stored)


def test_all_problems_in_one_line():
    rules = [Rule("a.{layer}.weight", "blocks/up/kernel", "linear"), Rule("b", "scale")]
    leaf = lambda *shape: types.SimpleNamespace(shape=shape)
    params = {"blocks/up/kernel": leaf(3, 4, 5), "scale": leaf(2)}
    shapes = {"a.0.weight": (5, 4), "a.1.weight": (4, 5), "c.0": (1,), "c.1": (1,), "skipped": ()}
    tensors = types.SimpleNamespace(name="file", shapes=shapes)
    with pytest.raises(UserError) as error:
        engine.check(tensors, engine.plan(rules, params), ("skip.*",), params)
    assert str(error.value) == (
        "file: misses a.2.weight, b; has no use for c.0 (and 1 like it); a.1.weight is [4, 5], not "
        "[5, 4] as the config says"
    )
    with pytest.raises(UserError, match="no place for bias"):
        engine.plan(rules, {"bias": leaf(2)})


def edit(folder, change):
    """Changes config.json."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


BAD = {
    "a list for a section": (
        lambda f: edit(f, lambda c: c.update(vision_config=[1])),
        "config.json: not a config of this family",
    ),
    "no heads": (
        lambda f: edit(f, lambda c: c["vision_config"].update(num_attention_heads=0)),
        "config.json: vit: num_heads 0: give a whole number, at least 1",
    ),
    "a header that is a list": (
        lambda f: (f / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"[]"),
        "model.safetensors: not a safetensors file",
    ),
    "an index of nothing": (
        lambda f: (
            (f / "model.safetensors").unlink(),
            (f / "model.safetensors.index.json").write_text('{"weight_map": [1]}'),
        ),
        "index.json: not an index of weights",
    ),
    "preprocessing for another size": (
        lambda f: (f / "preprocessor_config.json").write_text('{"crop_size": 224}'),
        "its preprocessing gives 224 x 224 px, its config says 16 x 16",
    ),
    "another image processor": (
        lambda f: (f / "preprocessor_config.json").write_text(
            '{"image_processor_type": "ViTImageProcessor"}'
        ),
        "image processor 'ViTImageProcessor' is unknown, jvlm knows Blip, CLIP",
    ),
    "another family": (
        lambda f: edit(f, lambda c: c.update(model_type="vilt")),
        "config.json: model_type 'vilt'; jvlm reads bert, blip, chinese_clip, clip, gpt2, llama",
    ),
    "a config of another depth": (
        lambda f: edit(f, lambda c: c["vision_config"].update(num_hidden_layers=3)),
        r"misses vision_model.encoder.layers.2.\S+, .* other kinds",
    ),
    "another vocabulary": (
        lambda f: edit(f, lambda c: c["text_config"].update(vocab_size=41)),
        r"token_embedding.weight is \[40, 16\], not \[41, 16\] as the config says",
    ),
    "an unknown activation": (
        lambda f: edit(f, lambda c: c["text_config"].update(hidden_act="swish9")),
        "text_config.hidden_act 'swish9' is unknown",
    ),
    "heads that do not divide": (
        lambda f: edit(f, lambda c: c["text_config"].update(num_attention_heads=3)),
        "config.json: text: width 16 is no multiple of num_heads 3",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no weights"),
    "a truncated file": (
        lambda f: (f / "model.safetensors").write_bytes(
            (f / "model.safetensors").read_bytes()[:-10]
        ),
        "it is truncated: fetch it again",
    ),
    "a page of HTML": (
        lambda f: (f / "model.safetensors").write_bytes(b"<html>" * 100),
        "model.safetensors: 600 bytes, less than its header",
    ),
    "a missing shard": (
        lambda f: (
            (f / "model.safetensors").rename(f / "model-00001-of-00002.safetensors"),
            (f / "model.safetensors.index.json").write_text(
                json.dumps(
                    {
                        "weight_map": {
                            "a": "model-00001-of-00002.safetensors",
                            "b": "model-00002-of-00002.safetensors",
                        }
                    }
                )
            ),
        ),
        "names model-00002-of-00002.safetensors, not in the folder",
    ),
    "a damaged config": (lambda f: (f / "config.json").write_text("{"), "config.json: not JSON"),
    "an unknown filter": (
        lambda f: (f / "preprocessor_config.json").write_text('{"resample": 9}'),
        "resample 9 is unknown",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(published, case):
    folder = published()
    change, message = BAD[case]
    change(folder)
    with pytest.raises(UserError, match=message) as error:
        jvlm.load(folder)
    assert str(folder) in str(error.value) or "preprocessor_config.json" in str(error.value)


def test_a_vocabulary_of_another_model(published):
    folder, tokens = published("chinese_clip"), ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join([*tokens, *map(str, range(36))]))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    with pytest.raises(UserError, match="tokenizer has 41 entries, its weights 40: the vocabulary"):
        jvlm.load(folder)


def test_pixels_without_their_config_are_refused(published, rng):
    folder = published()
    (folder / "preprocessor_config.json").unlink()
    m = jvlm.load(folder)
    with pytest.raises(UserError, match="preprocessor_config.json"):
        m.embed_images([np.zeros((9, 9, 3), np.uint8)])
    with pytest.raises(UserError, match="normalised floats"):
        m.model.apply(
            {"params": m.params}, np.zeros((1, 16, 16, 3), np.uint8), method="encode_image"
        )
    with pytest.raises(UserError, match="no tokenizer"):
        m.embed_text(["x"])


def test_nothing_half_written(tiny, tmp_path):
    m = tiny["resnet"]
    with pytest.raises(UserError, match="towers vit and transformer, the model resnet and"):
        m.export(tmp_path / "out")
    assert not list(tmp_path.iterdir())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    with pytest.raises(UserError, match="exists"):
        m.save(tmp_path / "full")
    assert [p.name for p in tmp_path.rglob("*")] == ["full", "x"]


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(vision=dict(pre_norm=False)), r"cannot express vision/pre_norm=False \(only True\)"),
        (dict(vision=dict(image_size=(16, 8))), "square images"),
        (dict(text=dict(causal=False)), "text/causal=False"),
        (dict(text_proj="affine"), "text_proj='affine'"),
        (dict(logit_bias_init=0.0), "logit_bias_init"),
        (dict(text=dict(kind="bert", vocab_size=40, max_len=6)), "the model vit and bert"),
    ],
)
def test_what_a_format_cannot_express_is_named(change, message, tmp_path):
    """And never written: the file would load as another model."""
    section = copy.deepcopy(conftest.SECTIONS["clip"])
    for key, value in change.items():
        if isinstance(value, dict):
            section[key].update(value)
        else:
            section[key] = value
    model = build_model({"name": "clip", **section})
    with pytest.raises(UserError, match=message):
        convert.export(tmp_path, "hf", "clip", model.cfg, {})


def test_open_clip_options_are_all_known():
    from jvlm.convert.openai import config_from_open_clip

    model = dict(embed_dim=8, vision_cfg=dict(width=64), text_cfg=dict(heads=1, width=64))
    config_from_open_clip(model)
    for key, value in (("ls_init_value", 0.1), ("norm_type", "rmsnorm"), ("timm_model_name", "x")):
        with pytest.raises(UserError, match=f"vision_cfg.{key} is"):
            config_from_open_clip({**model, "vision_cfg": {key: value}})
    with pytest.raises(UserError, match="multimodal_cfg"):
        config_from_open_clip({**model, "multimodal_cfg": {}})


def test_both_forms_in_one_folder(tiny, tmp_path):
    """LAION's folders hold both, timm's a config.json of timm's own."""
    tiny["clip"].export(tmp_path / "both", format="open_clip")
    assert jvlm.load(tmp_path / "both").resize["antialias"]
    (tmp_path / "both" / "config.json").write_text('{"architecture": "vit_base"}')
    (tmp_path / "both" / "model.safetensors").write_bytes(b"timm's")
    assert jvlm.load(tmp_path / "both").resize["antialias"]


def test_files_of_others_beside_a_checkpoint(tiny, tmp_path):
    """A vocabulary that this form does not read is none of its business."""
    tiny["resnet"].export(tmp_path / "x", format="open_clip")
    (tmp_path / "x" / "README.md").write_text("x")
    assert jvlm.load(tmp_path / "x").processor.tokenizer is None


def test_another_image_size(tiny, published, rng):
    m = jvlm.load(published("siglip"), image_size=(24, 16))
    assert m.config.vision.grid == (3, 2)
    assert m.params["vision"]["pos"].shape == (6, 16)
    assert m.processor.steps == [("resize", dict(height=24, width=16))]
    assert m.embed_images([rng.integers(0, 255, (9, 9, 3)).astype(np.uint8)]).shape == (1, 16)


def test_host_memory_while_loading(tmp_path):
    """Beyond what is placed, at most 1.3 times the largest stacked leaf (design.md, section 3)."""
    layers, width = 12, 128
    shape = (layers, width, 4 * width)
    names = [f"{name}.{i}.weight" for name in ("up", "gate", "other") for i in range(layers)]
    make = lambda: np.ones(shape[:0:-1], np.float32)
    path = tmp_path / "x.safetensors"
    write_safetensors(path, [(name, shape[:0:-1], make) for name in names], np.float32)
    rules = [
        Rule(f"{name}.{{layer}}.weight", f"blocks/{name}", "linear")
        for name in ("up", "gate", "other")
    ]
    leaf = on_one_device(*shape)
    abstract = {"blocks": dict.fromkeys(("up", "gate", "other"), leaf)}
    tensors, largest = Safetensors([path]), leaf.size * 4
    engine.load(tensors, rules, (), abstract)  # What is imported and cached, once.
    tracemalloc.start()
    try:
        params = engine.load(tensors, rules, (), abstract)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(params["blocks"]["gate"], 1)
    assert largest < peak < 3 * largest + 0.3 * largest
