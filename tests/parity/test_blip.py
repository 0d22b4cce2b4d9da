# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""transformers' BLIP: the three classes, in and out, and what they generate."""

import json
import shutil

import jax
import numpy as np
import PIL.Image
import pytest
import torch
import transformers

import jvlm
from jvlm.convert import open_published
from tests.parity.references import blip, hf

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module", params=blip.REFERENCES)
def case(request, tmp_path_factory):
    """(reference, what jvlm makes of its folder)."""
    reference = blip.REFERENCES[request.param](tmp_path_factory.mktemp(request.param))
    return reference, jvlm.load(reference.path)


def test_outputs(case):
    reference, m = case
    out = jax.jit(m.model.apply)({"params": m.params}, reference.batch)
    mask = reference.batch.get("decoder_mask", reference.batch["text_mask"])
    for name, want in reference.outputs.items():
        rows = mask if name == "logits" else slice(None)
        error = np.abs(getattr(out, name) - want) / np.maximum(1, np.abs(want))
        assert error[rows].max() <= (1e-4 if name == "logits" else 1e-5), name


def test_token_for_token(case):
    reference, m = case
    for how, want in zip(blip.SETTINGS, reference.ids):
        np.testing.assert_array_equal(m.generate_ids(reference.prompts, **how), want)


@pytest.mark.parametrize("case", ["hf_blip_captions"], indirect=True)
def test_processor(case, tmp_path):
    """transformers prepares images and texts as we do, from what we write and what it writes."""
    reference, _ = case
    letters = [chr(97 + i) for i in range(26)]
    words = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", *letters, "##c", "##d"]
    (reference.path / "vocab.txt").write_text("\n".join(words))
    m = jvlm.load(reference.path)
    m.export(tmp_path / "ours")
    with hf.quiet():
        processor = transformers.AutoProcessor.from_pretrained(tmp_path / "ours", backend="pil")
    image = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    want = processor(images=PIL.Image.fromarray(image), text="a bc d", return_tensors="np")
    got = m.processor(images=[image], text=["a bc d"])
    assert isinstance(processor, transformers.BlipProcessor)
    np.testing.assert_array_equal(got["text"][:, : want["input_ids"].shape[1]], want["input_ids"])
    pixels = (got["image"] / 255 - np.array(hf.CLIP_MEAN)) / np.array(hf.CLIP_STD)
    np.testing.assert_allclose(pixels.transpose(0, 3, 1, 2), want["pixel_values"], atol=1e-6)
    again = tmp_path / "theirs"
    shutil.copytree(reference.path, again)
    (again / "preprocessor_config.json").unlink()
    processor.save_pretrained(again)
    assert open_published(again).preprocess == m.processor.steps


def test_export(case, tmp_path):
    """transformers reads what we write, and so do we."""
    reference, m = case
    m.export(tmp_path, format="hf")
    with hf.quiet():
        model, info = reference.model_class.from_pretrained(
            tmp_path, output_loading_info=True, dtype=torch.float32
        )
    assert not any(info.values()), info
    before, after = (
        reference.model_class.from_pretrained(reference.path, dtype=torch.float32).state_dict(),
        model.state_dict(),
    )
    assert all(torch.equal(before[key], value) for key, value in after.items())
    told, kept = (
        json.loads((path / "config.json").read_text()) for path in (tmp_path, reference.path)
    )
    for section in ("text_config", "vision_config"):
        assert kept[section].items() <= told[section].items()
    again = jvlm.load(tmp_path)
    assert again.model == m.model and again.processor.steps == m.processor.steps
    want = jvlm.load(reference.path).params
    jax.tree.map(np.testing.assert_array_equal, again.params, want)
