# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""CLIP against transformers: random weights, layer by layer, losses and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm.layers import resize_positions, unstack
from jvlm.models import build_model
from jvlm.objectives import build_objective

pytestmark = pytest.mark.parity

# Widths that are no multiples of 64 per head, other depths and heads in the two towers.
VISION = dict(width=24, depth=3, num_heads=3, mlp_dim=40)
TEXT = dict(width=20, depth=2, num_heads=2, mlp_dim=36)


def reference(act, eos):
    import torch
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    names = dict(width="hidden_size", depth="num_hidden_layers", num_heads="num_attention_heads")
    names["mlp_dim"] = "intermediate_size"
    rename = lambda section: {names[key]: value for key, value in section.items()}
    config = CLIPConfig(
        text_config=dict(
            vocab_size=99,
            max_position_embeddings=12,
            hidden_act=act,
            eos_token_id=eos,
            bos_token_id=1,
            pad_token_id=0,
            **rename(TEXT),
        ),
        vision_config=dict(image_size=32, patch_size=8, hidden_act=act, **rename(VISION)),
        projection_dim=16,
    )
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # Also biases and norms, which start as 0 and 1.
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def tower(state, prefix, cfg, vision):
    """One transformers tower as our parameters."""
    get = lambda name: state[f"{prefix}.{name}"].numpy()
    heads = cfg["num_heads"]
    head_dim = cfg["width"] // heads

    def norm(name):
        return {"scale": get(f"{name}.weight"), "bias": get(f"{name}.bias")}

    def linear(name):
        return {"kernel": get(f"{name}.weight").T, "bias": get(f"{name}.bias")}

    def layer(i):
        at = f"encoder.layers.{i}"
        attn = {}
        for name in "qkv":
            part = linear(f"{at}.self_attn.{name}_proj")
            attn[name] = {
                "kernel": part["kernel"].reshape(-1, heads, head_dim),
                "bias": part["bias"].reshape(heads, head_dim),
            }
        out = linear(f"{at}.self_attn.out_proj")
        attn["out"] = {"kernel": out["kernel"].reshape(heads, head_dim, -1), "bias": out["bias"]}
        mlp = {"up": linear(f"{at}.mlp.fc1"), "down": linear(f"{at}.mlp.fc2")}
        norms = {"norm1": norm(f"{at}.layer_norm1"), "norm2": norm(f"{at}.layer_norm2")}
        return {"attn": attn, "mlp": mlp, **norms}

    layers = [layer(i) for i in range(cfg["depth"])]
    params = {"blocks": jax.tree.map(lambda *leaves: np.stack(leaves), *layers)}
    params["pos"] = get("embeddings.position_embedding.weight")
    if vision:
        params["cls"] = get("embeddings.class_embedding")[None]
        kernel = get("embeddings.patch_embedding.weight")
        params["patch"] = {"kernel": kernel.transpose(2, 3, 1, 0)}
        params["pre_norm"], params["final_norm"] = norm("pre_layrnorm"), norm("post_layernorm")
    else:
        params["token"] = {"embedding": get("embeddings.token_embedding.weight")}
        params["final_norm"] = norm("final_layer_norm")
    return params


def convert(model):
    state = model.state_dict()
    return {
        "vision": tower(state, "vision_model", VISION, vision=True),
        "text": tower(state, "text_model", TEXT, vision=False),
        "vision_proj": {"kernel": state["visual_projection.weight"].numpy().T},
        "text_proj": {"kernel": state["text_projection.weight"].numpy().T},
        "logit_scale": state["logit_scale"].numpy(),
    }


@pytest.fixture(params=[("quick_gelu", 2), ("gelu", 98)], ids=["openai", "open_clip"])
def both(request):
    """(transformers model, ours, our parameters, batch); both end-of-text conventions."""
    act, eos = request.param
    model = reference(act, eos)
    pool = {"pool": "argmax"} if eos == 2 else {"pool": "eos", "eos_id": eos}
    ours = build_model(
        {
            "name": "clip",
            "embed_dim": 16,
            "vision": dict(image_size=32, patch_size=8, activation=act, **VISION),
            "text": dict(vocab_size=99, max_len=12, activation=act, **pool, **TEXT),
        }
    )
    rng = np.random.default_rng(0)
    text = rng.integers(3, 97, (5, 12)).astype(np.int32)
    for row, end in zip(text, (3, 5, 7, 9, 11)):
        row[end], row[end + 1 :] = 98, 0
    image = rng.normal(size=(5, 32, 32, 3)).astype(np.float32)
    return model, ours, convert(model), {"image": image, "text": text}


def torch_inputs(batch):
    import torch

    return dict(
        pixel_values=torch.tensor(batch["image"].transpose(0, 3, 1, 2)),
        input_ids=torch.tensor(batch["text"]).long(),
    )


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
