# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Grad-CAM (arXiv:1610.02391) on attention maps: where a model looks when it says that a text fits.

ALBEF section 6.4; salesforce/ALBEF Grounding.py, visualization.ipynb.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jvlm.errors import UserError, did_you_mean
from jvlm.layers import Tap

MODES = ("itm", "itc")


def choose_layer(model: Any, mode: str, layer: int | None = None) -> int:
    """The layer whose attention is looked at.

    Args:
      model: with `image_states` and `pair_logits`, such as `models.albef.ALBEF`.
      mode: 'itm' or 'itc'.
      layer: among the layers with cross-attention ('itm') or of the image tower ('itc'), from 0 on.
        By default the one two thirds up the transformer, which is block 8 of 12 in ALBEF: the third
        of its six fusion layers, or the ninth of the image tower. Where the whole text attends to
        the image, as in BLIP, the one half-way, the seventh of 12 (LAVIS's `compute_gradcam`).

    Raises:
      UserError: there is no such layer or mode, or the model has no such maps.
    """
    if mode not in MODES:
        raise UserError(f"Grad-CAM: mode {mode!r} is unknown.{did_you_mean(mode, MODES)}")
    cfg = model.cfg
    if not hasattr(model, "pair_logits"):
        kind = getattr(cfg, "kind", type(model).__name__)
        raise UserError(f"Grad-CAM: {kind} has no head that matches an image with a text")
    if mode == "itc" and not cfg.vision.use_cls:
        raise UserError("Grad-CAM: 'itc' looks at what the class token attends to: there is none")
    if mode == "itc":
        depth, default = cfg.vision.depth, 2 * cfg.vision.depth // 3
    elif hasattr(cfg, "fusion_depth"):
        depth, default = cfg.fusion_depth, cfg.fusion_depth // 3
    else:
        depth, default = cfg.text.depth, cfg.text.depth // 2
    if layer is None:
        return default
    if not isinstance(layer, int) or not 0 <= layer < depth:
        raise UserError(f"Grad-CAM: layer {layer!r}: {mode} has layers 0 to {depth - 1}")
    return layer


def token_maps(model: Any, params: dict, batch: Mapping, layer: int | None = None) -> jax.Array:
    """Where each token looks in the cross-attention of a layer, as far as it speaks for a match.

    relu(d match logit / d attention) * attention, mean over the heads.

    Args:
      model: see `choose_layer`.
      params: nested dict.
      batch: `image`, `text`, `text_mask` of pairs.
      layer: see `choose_layer`.

    Returns:
      float32[B, T, rows, columns] of the image's patches, 0 on padding.
    """
    cfg, variables = model.cfg, {"params": params}
    layer, text, mask = choose_layer(model, "itm", layer), batch["text"], batch["text_mask"]
    image = model.apply(variables, batch["image"], method="image_states")

    def logits(ones):
        tap = Tap(ones, layer)
        pairs = model.apply(variables, image, text, mask, tap, method="pair_logits")
        return pairs[:, 1].sum()  # No row has a part in another one's.

    ones = jnp.ones((text.shape[0], cfg.text.num_heads, text.shape[1], image.shape[1]))
    # Attention is never negative, so relu(gradient) * attention = relu(gradient * attention).
    heat = jax.nn.relu(jax.grad(logits)(ones)).mean(1) * mask[:, :, None]
    return _patches(cfg, heat)


def phrase_maps(
    model: Any, params: dict, batch: Mapping, mode: str = "itm", layer: int | None = None
) -> jax.Array:
    """Where a model looks for a whole text.

    Args:
      model, params, batch, layer: see `token_maps`; 'itc' asks for `embed_image` and `encode_text`.
      mode: 'itm' is the mean of `token_maps` over all T places, the [CLS] and padding among them;
        'itc' is what the class token looks at in a layer of the image tower, as far as it speaks
        for the similarity of the embeddings.

    Returns:
      float32[B, rows, columns].
    """
    if mode == "itm":
        return token_maps(model, params, batch, layer).mean(1)
    cfg, variables = model.cfg, {"params": params}
    layer, image = choose_layer(model, mode, layer), batch["image"]
    embeds = model.apply(variables, batch["text"], batch["text_mask"], method="encode_text")
    temperature = model.apply(variables, method="temperature")

    def similarity(ones):
        states = model.apply(variables, image, Tap(ones, layer), method="image_states")
        own = model.apply(variables, states, method="embed_image")
        return jnp.sum(own * embeds) / temperature

    rows, columns = cfg.vision.grid
    tokens = rows * columns + cfg.vision.use_cls
    ones = jnp.ones((image.shape[0], cfg.vision.num_heads, tokens, tokens))
    heat = jax.nn.relu(jax.grad(similarity)(ones)[:, :, 0]).mean(1)
    return _patches(cfg, heat)


def _patches(cfg: Any, heat: jax.Array) -> jax.Array:
    """[..., P + 1] -> [..., rows, columns], without the class token."""
    heat = heat[..., int(cfg.vision.use_cls) :]
    return heat.reshape(*heat.shape[:-1], *cfg.vision.grid)
