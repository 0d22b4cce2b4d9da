# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Published formats, read by the importer, against the published code: `references/`."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file

import jvlm
from jvlm.objectives import build_objective
from tests.parity.references import REFERENCES, common, hf

pytestmark = pytest.mark.parity

HF = [name for name in REFERENCES if name.startswith("hf_")]
RESIZED = [*HF, "open_clip_vit", "open_clip_odd", "cn_clip_vit"]
# Everything that transformers has a class for.
EXPORTED = [*HF, "openai_vit", "open_clip_vit", "open_clip_quickgelu", "cn_clip_vit", "cn_clip_odd"]


@pytest.fixture(scope="module", params=REFERENCES)
def case(request, tmp_path_factory):
    """(reference, what jvlm makes of its file)."""
    reference = REFERENCES[request.param](tmp_path_factory.mktemp(request.param))
    return reference, jvlm.load(reference.path, **reference.kwargs)


def choose(names):
    return pytest.mark.parametrize("case", names, indirect=True)


def check(got, reference):
    """Within the tolerances of design.md, section 1."""
    np.testing.assert_allclose(got.image_embeds, reference.image_embeds, atol=1e-5)
    np.testing.assert_allclose(got.text_embeds, reference.text_embeds, atol=1e-5)
    want = reference.logits_per_image
    error = np.abs(np.asarray(got.logits_per_image) - want) / np.maximum(1, np.abs(want))
    assert error.max() <= 1e-4


def test_outputs(case):
    reference, m = case
    check(jax.jit(m.model.apply)({"params": m.params}, reference.batch), reference)


@choose(HF)
def test_every_token(case):
    """What the towers return before pooling."""
    reference, m = case
    batch, mask = reference.batch, reference.batch.get("text_mask")

    @jax.jit
    def tokens(params):
        image = lambda model: model.vision(batch["image"]).tokens
        text = lambda model: model.text(batch["text"], mask).tokens
        return [m.model.apply({"params": params}, method=tower) for tower in (image, text)]

    image, text = tokens(m.params)
    np.testing.assert_allclose(image, reference.image_tokens, atol=1e-4)
    valid = np.ones(batch["text"].shape, bool) if mask is None else mask
    np.testing.assert_allclose(text[valid], reference.text_tokens[valid], atol=1e-4)


@choose(["hf_clip", "hf_clip_laion", "hf_chinese_clip", "cn_clip_odd"])
def test_padding_changes_nothing(case):
    reference, m = case
    length = int(reference.batch["text_mask"][0].sum())
    text = reference.batch["text"][:1, :length]
    assert length < reference.batch["text"].shape[1]
    encode = jax.jit(lambda params: m.model.apply({"params": params}, text, method="encode_text"))
    np.testing.assert_allclose(encode(m.params), reference.text_embeds[:1], atol=1e-5)


@choose(RESIZED)
def test_other_size(case):
    """Position embeddings interpolated as the checkpoint's own code does it."""
    reference, _ = case
    image, want = reference.other_size
    m = jvlm.load(reference.path, image_size=image.shape[1:3], **reference.kwargs)
    encode = jax.jit(lambda params: m.model.apply({"params": params}, image, method="encode_image"))
    np.testing.assert_allclose(encode(m.params), want, atol=1e-5)


def test_bfloat16(case):
    reference, _ = case
    m = jvlm.load(reference.path, dtype="bfloat16", **reference.kwargs)
    out = jax.jit(m.model.apply)({"params": m.params}, reference.batch)
    assert (out.image_embeds * reference.image_embeds).sum(-1).min() > 0.99
    assert (out.text_embeds * reference.text_embeds).sum(-1).min() > 0.99


@choose(EXPORTED)
def test_export(case, tmp_path):
    """transformers reads what we write, and so do we."""
    reference, m = case
    m.export(tmp_path, format="hf")
    with hf.quiet():
        model, info = transformers.AutoModel.from_pretrained(
            tmp_path, output_loading_info=True, dtype=torch.float32
        )
    assert not any(info.values()), info
    with torch.no_grad():
        check(model.eval()(**transformers_inputs(reference.batch)), reference)
    again = jvlm.load(tmp_path)
    assert again.model == m.model
    jax.tree.map(np.testing.assert_array_equal, again.params, m.params)


@choose(["hf_clip", "hf_clip_laion", "hf_chinese_clip"])
def test_loss_and_gradients(case, tmp_path):
    """The gradient of transformers' loss, imported as if it were weights."""
    reference, m = case
    with hf.quiet():
        model = transformers.AutoModel.from_pretrained(reference.path).eval()
    out = model(**transformers_inputs(reference.batch), return_loss=True)
    out.loss.backward()
    grads = {name: p.grad.contiguous() for name, p in model.named_parameters()}
    weights = shutil.ignore_patterns("*.safetensors", "*.bin")
    shutil.copytree(reference.path, tmp_path, ignore=weights, dirs_exist_ok=True)
    save_file(grads, tmp_path / "model.safetensors", {"format": "pt"})
    want = jvlm.load(tmp_path).params
    objective = build_objective({"name": "contrastive"}, m.model)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        batch = jax.tree.map(jnp.asarray, dict(reference.batch))
        return objective.loss(params, batch, teacher=None, extra={}, rng=None, step=0).loss

    value, got = loss(m.params)
    np.testing.assert_allclose(value, out.loss.detach(), rtol=1e-5)

    def compare(got, want):  # The gradients of the small embeddings are large.
        atol = 1e-5 * max(1, np.abs(want).max())
        np.testing.assert_allclose(got, want, rtol=0, atol=atol)

    jax.tree.map(compare, got, want)


def transformers_inputs(batch):
    """A batch as keyword arguments of a transformers model."""
    image, text = common.to_torch(batch)
    inputs = dict(pixel_values=image, input_ids=text)
    if "text_mask" in batch:
        inputs["attention_mask"] = torch.tensor(batch["text_mask"])
    return inputs
