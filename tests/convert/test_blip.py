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
