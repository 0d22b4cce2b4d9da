# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tiny random CLIPs of transformers, as ours: the reference of the parity tests.

python -m tests.parity.make_clip    # records tests/golden/clip_<convention>.npz
"""

import pathlib

import jax
import numpy as np

from jvlm import paths
from jvlm.models import build_model

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"

# Convention -> activation, end-of-text id in the config (2 means: pool at the greatest id).
CONVENTIONS = {"openai": ("quick_gelu", 2), "open_clip": ("gelu", 98)}

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


def ours(convention):
    """Our model of the same shape."""
    act, eos = CONVENTIONS[convention]
    pool = {"pool": "argmax"} if eos == 2 else {"pool": "eos", "eos_id": eos}
    return build_model(
        {
            "name": "clip",
            "embed_dim": 16,
            "vision": dict(image_size=32, patch_size=8, activation=act, **VISION),
            "text": dict(vocab_size=99, max_len=12, activation=act, **pool, **TEXT),
        }
    )


def make_batch():
    """Five rows; their texts end at different places and are padded."""
    rng = np.random.default_rng(0)
    text = rng.integers(3, 97, (5, 12)).astype(np.int32)
    for row, end in zip(text, (3, 5, 7, 9, 11)):
        row[end], row[end + 1 :] = 98, 0
    return {"image": rng.normal(size=(5, 32, 32, 3)).astype(np.float32), "text": text}


def torch_inputs(batch):
    import torch

    return dict(
        pixel_values=torch.tensor(batch["image"].transpose(0, 3, 1, 2)),
        input_ids=torch.tensor(batch["text"]).long(),
    )


def main():
    import torch
    import transformers

    for convention in CONVENTIONS:
        model, batch = reference(*CONVENTIONS[convention]), make_batch()
        with torch.no_grad():
            out = model(**torch_inputs(batch))
        np.savez_compressed(
            GOLDEN / f"clip_{convention}.npz",
            versions=f"torch {torch.__version__}, transformers {transformers.__version__}",
            **{f"params/{path}": leaf for path, leaf in paths.flatten(convert(model)).items()},
            **{f"batch/{key}": value for key, value in batch.items()},
            image_embeds=out.image_embeds,
            text_embeds=out.text_embeds,
            logits_per_image=out.logits_per_image,
        )


if __name__ == "__main__":
    main()
