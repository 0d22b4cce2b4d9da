# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""LoRA adapters of PEFT on models of transformers, in and out."""

import shutil

import jax
import numpy as np
import peft
import pytest
import safetensors.torch
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


def test_pickled(clip, tmp_path):
    reference, _, folder = clip
    shutil.copy(folder / "adapter_config.json", tmp_path)
    torch.save(
        safetensors.torch.load_file(folder / "adapter_model.safetensors"),
        tmp_path / "adapter_model.bin",
    )
    want, got = (jvlm.load(reference.path, adapter=path).params for path in (folder, tmp_path))
    jax.tree.map(np.testing.assert_array_equal, got, want)


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


SMALL = dict(vocab_size=64, bos_token_id=1, eos_token_id=2)
LMS = {
    # [in, out] matrices, and one adapter for q, k and v.
    "gpt2": (
        transformers.GPT2Config(n_positions=16, n_embd=32, n_layer=2, n_head=2, **SMALL),
        ["c_attn", "c_proj", "c_fc"],
    ),
    "llama": (
        transformers.LlamaConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=16,
            **SMALL,
        ),
        ["q_proj", "v_proj", "down_proj"],
    ),
}


@pytest.mark.parametrize("name", LMS)
def test_language_models(name, tmp_path, rng):
    config, targets = LMS[name]
    text = rng.integers(3, 64, (2, 9))
    with hf.quiet():
        base = common.randomize(transformers.AutoModelForCausalLM.from_config(config))
        base.save_pretrained(tmp_path / "base")
        lora = peft.LoraConfig(r=3, lora_alpha=5, target_modules=targets)
        lora.fan_in_fan_out = name == "gpt2"
        model = common.randomize(peft.get_peft_model(base, lora))
        model.save_pretrained(tmp_path / "adapter")
        model.get_base_model().config.use_cache = False
    with torch.no_grad():
        want = model(input_ids=torch.tensor(text)).logits.numpy()
        with model.disable_adapter():
            bare = model(input_ids=torch.tensor(text)).logits.numpy()
            model.unload().save_pretrained(tmp_path / "base")  # `randomize` redrew it.
    assert np.abs(want - bare).max() > 0.1
    m = jvlm.load(tmp_path / "base", adapter=tmp_path / "adapter")
    for one in (m, m.merge_adapters()):
        got = jax.jit(one.model.apply)({"params": one.params}, {"text": text.astype(np.int32)})
        assert (np.abs(got.logits - want) / np.maximum(1, np.abs(want))).max() <= 1e-4
    m.export(tmp_path / "again", format="peft")
    with hf.quiet():
        base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
        again = peft.PeftModel.from_pretrained(base, tmp_path / "again").eval()
    with torch.no_grad():
        got = again(input_ids=torch.tensor(text)).logits.numpy()
    np.testing.assert_allclose(got, want, atol=1e-4)
