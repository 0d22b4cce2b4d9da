# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""BLIP's files: LAVIS's, those that we write as the official code does, and transformers'."""

import json

import jax
import numpy as np
import pytest

import jvlm
from jvlm.convert import open_published
from jvlm.convert.files import Safetensors
from tests.convert.test_albef import GOLDEN, read, write
from tests.convert.test_golden import load

HF = {
    "hf_blip_answers": ("logits",),
    "hf_blip_captions": ("logits",),
    "hf_blip_pairs": ("image_embeds", "text_embeds", "itm_logits"),
}
LAVIS = {
    "coco_caption_base": ("logits",),
    "coco_retrieval": ("image_embeds", "text_embeds", "itm_logits"),
    "nlvr": ("logits",),
    "okvqa": ("logits",),
}
# What a miniature's weights do not tell.
HEADS = {"num_heads": 2}
SPECIAL = HEADS | {"eos_id": 2}


def overrides(name):
    text = HEADS if name == "nlvr" else SPECIAL
    return {"vision": HEADS, "text": text} | ({"decoder": SPECIAL} if name == "okvqa" else {})


def recorded(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        golden = dict(file)
    part = lambda name: {k.removeprefix(name): v for k, v in golden.items() if k.startswith(name)}
    batch = {k: v.astype(np.int32) if v.dtype == np.int64 else v for k, v in part("batch/").items()}
    return golden, part("before/"), batch


@pytest.mark.parametrize("name", LAVIS)
def test_files_of_lavis(name, tmp_path):
    """What LAVIS computes, and the same file again."""
    golden, before, batch = recorded(f"lavis_blip_{name}")
    m = jvlm.load(write(tmp_path / "x.pth", before), variant="lavis", config=overrides(name))
    assert m.processor(text=["a b"])["text"][0, :5].tolist() == [1, 5, 6, 2, 0]
    if name == "nlvr":
        batch["image"] = np.stack([batch["image"], batch["image"][::-1]], axis=1)
    out = jax.jit(m.model.apply)({"params": m.params}, batch)
    rows = batch["decoder_text"] != 0 if name == "okvqa" else slice(None)
    rows = batch["text_mask"] if "caption" in name else rows
    for key in LAVIS[name]:
        np.testing.assert_allclose(getattr(out, key)[rows], golden[key][rows], atol=1e-5)
    m.export(tmp_path / "out", format="blip")
    after = read(tmp_path / "out" / "blip.pth")
    for key, value in before.items():
        if key != "queue_ptr":  # BLIP's retrieval has `ptr_queue`.
            np.testing.assert_array_equal(after[key], value, err_msg=key)
    if name != "coco_retrieval":
        assert after.keys() == before.keys()


@pytest.mark.parametrize("name", HF)
def test_files_of_transformers(name, tmp_path):
    """What transformers computes and generates; written again, the same files."""
    golden, part, m = load(name, tmp_path)
    batch = part("batch/")
    out = jax.jit(m.model.apply)({"params": m.params}, batch)
    mask = batch.get("decoder_mask", batch["text_mask"])
    for key in HF[name]:
        rows = mask if key == "logits" else slice(None)
        error = np.abs(getattr(out, key) - golden[key]) / np.maximum(1, np.abs(golden[key]))
        assert error[rows].max() <= (1e-4 if key == "logits" else 1e-5)
    m.export(tmp_path / "out")
    written = Safetensors([tmp_path / "out" / "model.safetensors"])
    before = part("tensor/")
    assert written.shapes.keys() == before.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(written.read(key), value, err_msg=key)
    again = open_published(tmp_path / "out")
    assert again.config == m.config and again.preprocess == m.processor.steps
    if "ids" in golden:
        ids = m.generate_ids(part("prompt/"), **json.loads(str(golden["options"])))
        np.testing.assert_array_equal(ids, golden["ids"])


TOWER = dict(width=8, depth=2, num_heads=1, mlp_dim=16)
VISION = dict(image_size=16, patch_size=8, norm_eps=1e-6, patch_bias=True, pre_norm=False)
VISION |= dict(norm_tokens=True, **TOWER)
V = len(WORDS) + 2


def text(**uses):
    ids = dict(bos_id=V - 2, enc_id=V - 1, eos_id=102)
    return dict(vocab_size=V, max_len=8, memory_width=8, **ids, **TOWER, **uses)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """(a pretraining model with random weights, our file of it)."""
    model = build_model(dict(name="blip", vision=VISION, text=text(), embed_dim=4))
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    rng = np.random.default_rng(0)
    draw = lambda x: rng.normal(size=x.shape).astype(np.float32)
    params = jax.tree.map(draw, abstract_params(model, mesh))
    average = jax.tree.map(draw, {k: params[k] for k in ("vision", "vision_proj", "text_proj")})
    queues = {name: draw(np.zeros((6, 4))) for name in ("image", "text")} | {"pointer": 4}
    processor = Processor((("resize_square", dict(size=16)),), None)
    momentum = lambda: (average, queues)
    m = Pretrained(model, params, processor, mesh, "blip", momentum=momentum)
    folder = tmp_path_factory.mktemp("pretrained") / "out"
    m.export(folder, format="blip")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    (folder / "config.json").rename(folder / "ours.json")  # As if it were not ours.
    return m, folder / "blip.pth"


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_pretraining_file(pretrained):
    """What encoder and decoder share is there twice; the average and the queues come back."""
    m, path = pretrained
    again = jvlm.load(path)
    assert again.config == m.config
    same(again.params, m.params)
    tensors = read(path)
    for key in ("embeddings.word_embeddings.weight", "encoder.layer.1.crossattention.self.key.bias"):
        shared = tensors[f"text_encoder.{key}"], tensors[f"text_decoder.bert.{key}"]
        np.testing.assert_array_equal(*shared)
    own = "encoder.layer.1.attention.self.key.weight"
    assert (tensors[f"text_encoder.{own}"] != tensors[f"text_decoder.bert.{own}"]).any()
    average, queues = again.momentum()
    want, kept = m.momentum()
    for name, tree in want.items():
        same(average[name], tree)
    same(average["text"]["blocks"]["attn"], m.params["text"]["blocks"]["attn"])
    assert "decoder_attn" not in average["text"]["blocks"]  # It has none.
    assert {k: np.asarray(v).tolist() for k, v in queues.items()} == {
        **{k: np.asarray(v).tolist() for k, v in kept.items() if k != "pointer"},
        **{"pointer": [4], "filled": 6},
    }


def test_pretraining_file_read_for_a_task(pretrained, tmp_path):
    m, path = pretrained
    params, cfg = m.params, m.config
    captioner = jvlm.load(path, variant="captioner")
    assert captioner.config.prompt == "a picture of " and captioner.processor.tokenizer.max_len == 8
    mine = captioner.params["text"]
    for part in ("embed", "words"):
        same(mine[part], params["text"][part])
    same(mine["blocks"], {k: params["text"]["blocks"][k] for k in mine["blocks"]})
    assert "attn" not in mine["blocks"] and captioner.momentum() == (None, {})
    retrieval, itm = (jvlm.load(path, variant=task) for task in ("retrieval", "itm"))
    assert (retrieval.config.text.enc_id, itm.config.text.enc_id) == (V - 1, None)
    assert "decoder_attn" not in retrieval.params["text"]["blocks"]
    assert retrieval.momentum()[0] is not None
    answers = jvlm.load(path, variant="vqa")
    same(answers.params["decoder"]["blocks"], mine["blocks"])
    same(answers.params["text"]["blocks"], itm.params["text"]["blocks"])
    # How texts are cleaned, and what transformers can be given.
    given = ["A (red) dog!", "what is it? " + 60 * "word "]
    cleaned = {m: m.processor.clean(given) for m in (retrieval, answers)} if False else None
    assert cleaned is None
    captioner.export(tmp_path / "hf")
    assert open_published(tmp_path / "hf").config == captioner.config
    for task, wrong in ((retrieval, "puts .ENC. before them"), (m, "puts .ENC. before them")):
        with pytest.raises(UserError, match=wrong):
            task.export(tmp_path / "x")
    assert cfg.text.decoder
