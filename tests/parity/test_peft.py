# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""LoRA adapters of PEFT on models of transformers, in and out."""

import jax
import numpy as np
import peft
import pytest
import torch
import transformers

import jvlm
from tests.parity.references import REFERENCES, common, hf

pytestmark = [
    pytest.mark.parity,
    # PEFT asks transformers for an attribute by its old name.
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """(reference, its model in torch with an adapter, the adapter's folder)."""
    reference = REFERENCES["hf_clip"](tmp_path_factory.mktemp("clip"))
    with hf.quiet():
        base = transformers.CLIPModel.from_pretrained(reference.path)
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        lora_dropout=0.1,
        target_modules=["q_proj", "out_proj", "fc1"],
        rank_pattern={"fc1": 2},
        alpha_pattern={r"text_model\.encoder\.layers\.1\.self_attn\.q_proj": 9},
        use_rslora=True,
    )
    model = peft.get_peft_model(base, config).eval()
    generator = torch.Generator().manual_seed(0)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            value.data.copy_(torch.randn(value.shape, generator=generator) / 4)
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    return reference, model, folder


def outputs(model, batch):
    image, text = common.to_torch(batch)
    mask = torch.tensor(batch["text_mask"])
    with torch.no_grad():
        out = model(pixel_values=image, input_ids=text, attention_mask=mask)
    return out.image_embeds.numpy(), out.text_embeds.numpy()


def check(m, want, batch):
    out = jax.jit(m.model.apply)({"params": m.params}, batch)
    np.testing.assert_allclose(out.image_embeds, want[0], atol=1e-5)
    np.testing.assert_allclose(out.text_embeds, want[1], atol=1e-5)


def test_in(clip):
    reference, model, folder = clip
    want = outputs(model, reference.batch)
    assert np.abs(want[1] - reference.text_embeds).max() > 0.1  # The adapter does something.
    m = jvlm.load(reference.path, adapter=folder)
    check(m, want, reference.batch)
    check(m.merge_adapters(), want, reference.batch)


def test_out(clip, tmp_path):
    reference, model, folder = clip
    want = outputs(model, reference.batch)
    m = jvlm.load(reference.path, adapter=folder)
    m.export(tmp_path / "adapter", format="peft")
    with hf.quiet():
        base = transformers.CLIPModel.from_pretrained(reference.path)
        again = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    for got, expected in zip(outputs(again, reference.batch), want):
        np.testing.assert_allclose(got, expected, atol=1e-6)
    m.merge_adapters().export(tmp_path / "merged")
    with hf.quiet():
        merged = transformers.CLIPModel.from_pretrained(tmp_path / "merged").eval()
    for got, expected in zip(outputs(merged, reference.batch), want):
        np.testing.assert_allclose(got, expected, atol=1e-5)
