# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""ALBEF's files: written as the official code writes them, and LAVIS's variant of them."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jvlm
from jvlm import sharding
from jvlm.checkpoint import Checkpoints
from jvlm.convert import albef, pickled, torch_file
from jvlm.errors import UserError
from jvlm.models import MODELS, build_model
from jvlm.pretrained import abstract_params
from jvlm.state import TrainState
from jvlm.train import open_run
from tests import published_shapes
from tests.objectives.test_albef import config

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
HEADS = {  # Of a width that is no multiple of 64 -> what must be said.
    "pretrain": ("vision", "text"),
    "retrieval": ("vision", "text"),
    "vqa": ("vision", "text", "decoder"),
    "ve": ("vision", "text"),
    "nlvr": ("vision", "text"),
}
WORDS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", *(chr(97 + i) for i in range(19))]


def recorded(name, part="before"):
    """What the official code kept or made."""
    with np.load(GOLDEN / f"albef_{name}.npz") as file:
        return {k.partition("/")[2]: v for k, v in file.items() if k.startswith(f"{part}/")}


def write(path, arrays):
    tensors = ((k, v.shape, v.dtype, lambda v=v: v) for k, v in arrays.items())
    torch_file.write(path, tensors, {})
    (path.parent / "vocab.txt").write_text("\n".join(WORDS))
    return path


def load(name, path):
    return jvlm.load(path, config={part: {"num_heads": 2} for part in HEADS[name]})


def read(path):
    return {key: tensor.read() for key, tensor in torch_file.read(path)["model"].items()}


@pytest.mark.parametrize("name", HEADS)
def test_export_is_the_official_file(name, tmp_path):
    """Every tensor comes back with its bits: weights, averages, queues, what is stored twice."""
    before = recorded(name)
    m = load(name, write(tmp_path / "x.pth", before))
    m.export(tmp_path / "out", format="albef")
    after = read(tmp_path / "out" / "albef.pth")
    assert after.keys() == before.keys()
    for key, value in before.items():
        assert after[key].dtype == value.dtype and after[key].shape == value.shape, key
        np.testing.assert_array_equal(after[key], value, err_msg=key)
    again = jvlm.load(tmp_path / "out")  # It says how many heads there are.
    assert again.model == m.model
    assert (
        again.processor(text=["a b"])["text"].tolist() == m.processor(text=["a b"])["text"].tolist()
    )
    jax.tree.map(np.testing.assert_array_equal, again.params, m.params)
    m.save(tmp_path / "saved")
    kept = [x.processor.clean(["A  b? C-d."]) for x in (m, again, jvlm.load(tmp_path / "saved"))]
    assert kept == [["a  b c d" if name == "vqa" else "a b c d"]] * 3


def sections():
    """Published name -> (kind, variant)."""
    return {
        "ALBEF": ("albef", "base"),
        "mscoco": ("albef", "base@384"),
        "vqa": ("albef_vqa", "base@384"),
        "ve": ("albef_classifier", "ve@384"),
        "nlvr": ("albef_classifier", "nlvr@384"),
        "pretrain_model_nlvr": ("albef_classifier", "text_assignment"),
    }


@pytest.mark.parametrize("name", sections())
def test_every_published_tensor_is_written(name):
    kind, variant = sections()[name]
    cfg = MODELS[kind][2][variant]
    module = MODELS[kind][0](cfg)
    params = jax.eval_shape(module.init, jax.random.key(0), module.dummy_batch(1))["params"]
    weights, same = pickled.lay_out(albef.FAMILY, cfg, params, np.float32, None, {})
    shapes = {key: tuple(entry.shape) for key, entry in weights.items()}
    shapes |= {key: shapes[original] for key, original in same.items()}
    assert shapes == published_shapes.read("albef")[name].tensors


def test_what_albef_cannot_express_is_said(tmp_path):
    m = load("retrieval", write(tmp_path / "x.pth", recorded("retrieval")))
    with pytest.raises(UserError, match="'peft' has no albef: export with format='albef'"):
        m.export(tmp_path / "x", format="peft")
    with pytest.raises(UserError, match="'hf' has no albef: export with format='albef'"):
        m.export(tmp_path / "hf")
    with pytest.raises(UserError, match="adapter: .* not for albef"):
        jvlm.load(tmp_path / "x.pth", adapter=tmp_path)
    vision = dataclasses.replace(m.config.vision, activation="quick_gelu")
    cfg = dataclasses.replace(m.config, vision=vision)
    with pytest.raises(UserError, match="vision/activation='quick_gelu' .only 'gelu'"):
        pickled.lay_out(albef.FAMILY, cfg, m.params, np.float32, None, {})


LAVIS = {
    "coco_retrieval": ("image_embeds", "text_embeds", "itm_logits"),
    "snli_ve": ("logits",),
    "nlvr": ("logits",),
    "vqav2": ("logits",),
}


@pytest.mark.parametrize("name", LAVIS)
def test_files_of_lavis(name, tmp_path):
    """The same names; without token types, and with [SEP]."""
    with np.load(GOLDEN / f"lavis_albef_{name}.npz") as file:
        golden = dict(file)
    part = lambda name: {k.removeprefix(name): v for k, v in golden.items() if k.startswith(name)}
    path = write(tmp_path / f"albef_{name}_lavis.pt", part("before/"))
    heads = {part: {"num_heads": 2} for part in HEADS["vqa" if "vqa" in name else "ve"]}
    m = jvlm.load(path, config=heads)
    assert m.processor(text=["a b"])["text"][0, :5].tolist() == [1, 5, 6, 2, 0]
    batch = part("batch/")
    for key in ("text", "decoder_text"):
        if key in batch:
            batch[key] = batch[key].astype(np.int32)
    if name == "nlvr":
        batch["image"] = np.stack([batch["image"], batch["image"][::-1]], axis=1)
    out = jax.jit(m.model.apply)({"params": m.params}, batch)
    rows = batch["decoder_text"] != 0 if "decoder_text" in batch else slice(None)
    for key in LAVIS[name]:
        np.testing.assert_allclose(getattr(out, key)[rows], golden[key][rows], atol=1e-5)
    # The official code has token types: rows of zeros are none.
    m.export(tmp_path / "out", format="albef")
    jax.tree.map(np.testing.assert_array_equal, jvlm.load(tmp_path / "out").params, m.params)
    types = "text_encoder.embeddings.token_type_embeddings.weight"
    assert not read(tmp_path / "out" / "albef.pth")[types].any()


def test_lavis_reads_the_original_file_its_own_way(tmp_path):
    """LAVIS's base model is ALBEF.pth without its token types."""
    path = write(tmp_path / "ALBEF.pth", recorded("pretrain"))
    heads = {part: {"num_heads": 2} for part in HEADS["pretrain"]}
    original = jvlm.load(path, config=heads, variant="original")
    lavis = jvlm.load(path, config=heads, variant="lavis")
    assert "type" in original.params["text"]["embed"]
    assert "type" not in lavis.params["text"]["embed"]
    first = [m.processor(text=["a"])["text"][0, :3].tolist() for m in (original, lavis)]
    assert first == [[1, 5, 0], [1, 5, 2]]
    # Each cleans texts its own way (`pre_caption`, `blip_caption`).
    text = ["A well-known <person>'s  dog.", "word " * 60]
    cleaned = [m.processor.clean(text) for m in (original, lavis)]
    assert [c[0] for c in cleaned] == ["a well known persons dog", "a well-known <person>'s dog"]
    assert [len(c[1].split()) for c in cleaned] == [30, 50]
    with pytest.raises(UserError, match="choose from original, lavis"):
        jvlm.load(path, variant="base")


def test_a_run_is_exported_with_its_average_and_queues(tmp_path):
    c = config(same="soft", mlm_probability=0.0)
    c.model = {**c.model, "mlm": False, "vision": {**c.model["vision"], "norm_eps": 1e-6}}
    open_run(tmp_path / "run", c)
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    model = build_model(c.model.to_dict())
    fill = lambda x: jnp.full(x.shape, 0.5, x.dtype)
    params = jax.tree.map(fill, abstract_params(model, mesh))
    teacher = {"vision": jax.tree.map(lambda x: x + 1, params["vision"])}  # The rest is frozen.
    extra = {name: jnp.full((32, 8), 0.1) for name in ("image", "text")}
    extra |= {"pointer": jnp.int32(16), "image_id": jnp.arange(32)}
    checkpoints = Checkpoints(tmp_path / "run")
    state = TrainState(jnp.int32(1), params, {}, teacher, None, extra, (), jax.random.key(0))
    checkpoints.save(1, state, {})
    checkpoints.close()
    m = jvlm.load(tmp_path / "run")
    m.export(tmp_path / "out", format="albef")
    for loaded in (m, jvlm.load(tmp_path / "out")):
        average, queues = loaded.momentum()
        jax.tree.map(np.testing.assert_array_equal, average["vision"], teacher["vision"])
        for name, value in extra.items():
            np.testing.assert_array_equal(np.ravel(queues[name]), np.ravel(value), err_msg=name)
    assert (average["text"]["embed"]["pos"] == 0.5).all()  # What has no average is its own.
    # For other images the average's positions are resized like the weights'.
    larger = jvlm.load(tmp_path / "run", image_size=16)
    assert larger.momentum()[0]["vision"]["pos"].shape == larger.params["vision"]["pos"].shape


def test_positions_for_other_images(tmp_path):
    """256 -> 384 px in small; the class token's row stays (models/vit.py interpolate_pos_embed)."""
    path = write(tmp_path / "x.pth", recorded("ve"))
    heads = {part: {"num_heads": 2} for part in HEADS["ve"]}
    table = recorded("ve")["visual_encoder.pos_embed"][0]
    m = jvlm.load(path, config=heads, image_size=24)
    got = m.params["vision"]["pos"]
    np.testing.assert_array_equal(got[0], table[0])
    # The middle of three lies in the middle of two: -0.75 bicubic weighs both alike.
    np.testing.assert_allclose(got[5], table[1:].mean(axis=0), atol=1e-6)
    assert m.processor(images=[np.zeros((30, 20, 3), np.uint8)])["image"].shape == (1, 24, 24, 3)
