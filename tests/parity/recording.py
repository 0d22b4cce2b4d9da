# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What recording the official code of ALBEF and BLIP shares: stand-ins, batches, golden files."""

import pathlib
import sys
import types
from functools import partial

import numpy as np

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"


def load_official(source: str) -> None:
    """Makes `models` of a clone importable, without timm and fairscale."""
    import torch
    import transformers.file_utils
    from torch import nn

    class PatchEmbed(nn.Module):
        def __init__(self, img_size, patch_size, in_chans, embed_dim):
            super().__init__()
            self.num_patches = (img_size // patch_size) ** 2
            self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, patch_size)

        def forward(self, x):
            return self.proj(x).flatten(2).transpose(1, 2)

    parts = {
        "timm.models.vision_transformer": dict(_cfg=None, PatchEmbed=PatchEmbed),
        "timm.models.registry": dict(register_model=lambda f: f),
        "timm.models.layers": dict(trunc_normal_=nn.init.trunc_normal_, DropPath=nn.Identity),
        "timm.models.helpers": dict(named_apply=None, adapt_input_conv=None),
        "timm.models.hub": dict(download_cached_file=None),
        "fairscale.nn.checkpoint.checkpoint_activations": dict(checkpoint_wrapper=None),
    }
    folders = {name.rpartition(".")[0] for name in parts} | {"timm", "fairscale", "fairscale.nn"}
    for name in (*folders, *parts):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__dict__.update(parts.get(name, {}))
    # Its arguments have changed; it writes documentation only.
    transformers.file_utils.add_code_sample_docstrings = lambda **_: lambda f: f
    sys.path.insert(0, source)
    torch.manual_seed(0)


def tiny_vit(side: int, patch: int, width: int = 8):
    """The image tower, whose sizes the sources have in their code."""
    from models.vit import VisionTransformer
    from torch import nn

    return VisionTransformer(
        img_size=side,
        patch_size=patch,
        embed_dim=width,
        depth=2,
        num_heads=2,
        mlp_ratio=2,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )


def shake(model, scale: float = 0.05) -> None:
    """Zeros, ones and equal copies become distinguishable."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * scale)


def inputs(rng, *, rows: int, length: int, vocab: int, side: int) -> dict:
    """A batch: normalised images and padded texts."""
    text = rng.integers(4, vocab, (rows, length))
    text[:, 0] = 1
    mask = np.arange(length) < rng.integers(3, length + 1, (rows, 1))
    image = rng.normal(size=(rows, side, side, 3)).astype(np.float32)
    return {"image": image, "text": text * mask, "text_mask": mask}


def record(name: str, versions: str, batch: dict, before: dict, model, **results) -> None:
    """Writes a golden file: what went in, what came out, gradients, and what a step changes."""
    gradients = {
        key: parameter.grad
        for key, parameter in model.named_parameters(remove_duplicate=False)
        if parameter.grad is not None
    }
    after = arrays(model.state_dict())
    parts = {
        "batch": batch,
        "before": before,
        "gradient": arrays(gradients),
        "after": {k: v for k, v in after.items() if "_m." in k or "queue" in k},
    }
    entries = {f"{part}/{k}": v for part, values in parts.items() for k, v in values.items()}
    np.savez_compressed(GOLDEN / f"{name}.npz", versions=versions, **results, **entries)


def arrays(tensors) -> dict:
    return {key: value.detach().clone().numpy() for key, value in tensors.items()}
