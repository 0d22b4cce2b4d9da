# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""CLIP against transformers: random weights, layer by layer, losses and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm.layers import resize_positions, unstack
from jvlm.objectives import build_objective
from tests.parity import make_clip
from tests.parity.make_clip import convert, torch_inputs

pytestmark = pytest.mark.parity


@pytest.fixture(params=make_clip.CONVENTIONS)
def both(request):
    """(transformers model, ours, our parameters, batch); both end-of-text conventions."""
    model = make_clip.reference(*make_clip.CONVENTIONS[request.param])
    return model, make_clip.ours(request.param), convert(model), make_clip.make_batch()


def test_embeddings_and_logits(both):
    import torch

    model, ours, params, batch = both
    with torch.no_grad():
        want = model(**torch_inputs(batch))
    got = ours.apply({"params": params}, batch)
    np.testing.assert_allclose(got.image_embeds, want.image_embeds, atol=1e-5)
    np.testing.assert_allclose(got.text_embeds, want.text_embeds, atol=1e-5)
    error = np.abs(got.logits_per_image - want.logits_per_image.numpy())
    assert (error / np.maximum(1, np.abs(want.logits_per_image.numpy()))).max() <= 1e-4


def test_every_token(both):
    """Hidden states before pooling, scanned and unstacked."""
    import torch

    model, ours, params, batch = both
    inputs = torch_inputs(batch)
    with torch.no_grad():
        want = model.vision_model(inputs["pixel_values"]).last_hidden_state.numpy()
    encode = lambda model, image: model.vision(image).tokens
    for vision in (
        params["vision"],
        {**params["vision"], "blocks": unstack(params["vision"]["blocks"])},
    ):
        got = ours.apply({"params": {**params, "vision": vision}}, batch["image"], method=encode)
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_loss_and_gradients(both):
    model, ours, params, batch = both
    out = model(**torch_inputs(batch), return_loss=True)
    out.loss.backward()
    objective = build_objective({"name": "contrastive"}, ours)

    def loss(params):
        return objective.loss(params, batch, teacher=None, extra={}, rng=None, step=0).loss

    value, grads = jax.value_and_grad(loss)(jax.tree.map(jnp.asarray, params))
    np.testing.assert_allclose(value, out.loss.detach(), rtol=1e-5)
    with_grads = {name: p.grad for name, p in model.named_parameters()}
    model.state_dict = lambda: with_grads
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), grads, convert(model))


@pytest.mark.parametrize("new", [(6, 6), (3, 7), (4, 4)])
def test_position_resize(new, rng):
    """torch's bicubic interpolation, the kind that transformers, ALBEF and BLIP use."""
    import torch

    table = rng.normal(size=(17, 8)).astype(np.float32)
    grid = torch.tensor(table[1:].reshape(1, 4, 4, 8)).permute(0, 3, 1, 2)
    for antialias in (False, True):
        want = torch.nn.functional.interpolate(
            grid, size=new, mode="bicubic", align_corners=False, antialias=antialias
        )
        want = want.permute(0, 2, 3, 1).reshape(-1, 8).numpy()
        got = resize_positions(table, (4, 4), new, antialias=antialias)
        np.testing.assert_allclose(got[1:], want, atol=1e-5)
