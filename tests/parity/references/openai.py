# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""OpenAI's own files: TorchScript archives of traced models, in half precision."""

import functools
import warnings
from pathlib import Path

import torch

from tests.parity.references import common
from tests.parity.references.common import Reference
from tests.parity.stubs import import_openai_clip


def openai(folder: Path, *, image_size: int, layers, width: int, patch_size: int | None):
    """A `.pt` of openai/CLIP.

    Args:
      folder: to write to.
      image_size: in pixels.
      layers: number of blocks, or blocks of each stage of a ResNet.
      width: of the image tower; a head has always 64 dimensions (clip/model.py 263, 272, 419).
      patch_size: None for a ResNet.
    """
    clip = import_openai_clip()
    text = dict(
        context_length=12,
        vocab_size=60,
        transformer_width=128,
        transformer_heads=2,
        transformer_layers=2,
    )
    model = common.randomize(clip.CLIP(16, image_size, layers, width, patch_size, **text))
    common.calibrate(model.visual, image_size)
    clip.convert_weights(model)
    ids, mask = common.make_text(12, (1, 59), end=59, pad=0)
    batch = {
        "image": common.make_image((image_size, image_size)),
        "text": ids,
        "text_mask": mask,
    }
    trace(model, folder / "model.pt", common.to_torch(batch))
    return record(clip, folder / "model.pt", batch)


@torch.no_grad()
def trace(model, path, inputs):
    """Writes the archive; its three buffers are not parameters of the model."""
    image, text = inputs
    facts = dict(
        input_resolution=model.visual.input_resolution,
        context_length=model.context_length,
        vocab_size=model.vocab_size,
    )
    for name, value in facts.items():
        model.__dict__.pop(name, None)
        model.register_buffer(name, torch.tensor(value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; the files stay.
        methods = dict(forward=(image, text), encode_image=(image,), encode_text=(text,))
        torch.jit.trace_module(model, methods, check_trace=False).save(str(path))


@torch.no_grad()
def record(clip, path, batch) -> Reference:
    """What openai/CLIP's loader makes of the file on a CPU, where it computes in float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = torch.jit.load(str(path), map_location="cpu").state_dict()
    model = clip.build_model(state).float()
    image, text = common.to_torch(batch)
    return Reference(
        path,
        batch,
        common.unit(model.encode_image(image)),
        common.unit(model.encode_text(text)),
        common.to_numpy(model(image, text)[0]),
    )


REFERENCES = {
    "openai_vit": functools.partial(openai, image_size=32, layers=3, width=128, patch_size=8),
    "openai_rn": functools.partial(
        openai, image_size=96, layers=(1, 2, 1, 1), width=4, patch_size=None
    ),
}
