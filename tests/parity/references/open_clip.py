# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of open_clip: a folder with open_clip_config.json."""

import functools
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.parity.references import common
from tests.parity.references.common import Reference, write_json
from tests.parity.stubs import import_open_clip

# What published configs leave out has open_clip's defaults: heads of 64 dimensions, MLPs of four
# widths, exact gelu.
VISION = dict(image_size=32, patch_size=8, width=32, layers=3, head_width=16)
TEXT = dict(context_length=12, vocab_size=60, width=24, heads=2, layers=2)


def open_clip(
    folder: Path,
    *,
    vision: dict = VISION,
    text: dict = TEXT,
    other_size: tuple[int, int] | None = None,
    file: str = "open_clip_model.safetensors",
    preprocess: dict | None = None,
    **model_cfg,
) -> Reference:
    """A checkpoint.

    Args:
      folder: to write to.
      vision, text: sections of `model_cfg`.
      other_size: height and width of images of another size than the configured one.
      file: name of the weights.
      preprocess: section `preprocess_cfg`; default CLIP's mean and std.
      **model_cfg: the rest of the config.
    """
    library = import_open_clip()
    model_cfg = dict(embed_dim=16, vision_cfg=vision, text_cfg=text, **model_cfg)
    custom = model_cfg.pop("custom_text", False)
    model = (library.CustomTextCLIP if custom else library.CLIP)(**model_cfg)
    common.randomize(model)
    common.calibrate(model.visual, vision["image_size"])
    if custom:
        model_cfg["custom_text"] = True
    if preprocess is None:
        preprocess = dict(mean=library.OPENAI_DATASET_MEAN, std=library.OPENAI_DATASET_STD)
    config = dict(model_cfg=model_cfg, preprocess_cfg=preprocess)
    write_json(folder / "open_clip_config.json", config)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    if file.endswith(".safetensors"):
        save_file(state, folder / file)
    else:
        torch.save(state, folder / file)
    return record(folder, model_cfg, other_size)


@torch.no_grad()
def record(folder, model_cfg, other_size) -> Reference:
    """What open_clip's loader makes of the folder."""
    load = import_open_clip().create_model
    model = load(f"local-dir:{folder}").eval()
    size = model_cfg["vision_cfg"]["image_size"]
    size = (size, size) if isinstance(size, int) else tuple(size)
    ids, mask = common.make_text(12, (1, 59), end=59, pad=0)
    batch = {"image": common.make_image(size), "text": ids, "text_mask": mask}
    image, text = common.to_torch(batch)
    image_features = model.encode_image(image, normalize=True)
    text_features = model.encode_text(text, normalize=True)
    other = None
    if other_size is not None:
        images = common.make_image(other_size, rows=2)
        resized = load(f"local-dir:{folder}", force_image_size=other_size).eval()
        features = resized.encode_image(common.image_to_torch(images), normalize=True)
        other = images, common.to_numpy(features)
    return Reference(
        folder,
        batch,
        common.to_numpy(image_features),
        common.to_numpy(text_features),
        common.to_numpy(model.get_logits(image, text)[0]),
        other_size=other,
    )


RESNET = dict(image_size=96, patch_size=None, width=4, layers=[1, 2, 1, 1])
REFERENCES = {
    "open_clip_vit": functools.partial(open_clip, other_size=(40, 24)),
    "open_clip_bin": functools.partial(
        open_clip,
        file="open_clip_pytorch_model.bin",
        # Some of LAION's models: the first mean and std, resized without keeping the aspect ratio.
        preprocess=dict(
            size=32,
            mode="RGB",
            mean=[0.5] * 3,
            std=[0.5] * 3,
            interpolation="bicubic",
            resize_mode="squash",
            fill_color=0,
        ),
    ),
    "open_clip_quickgelu": functools.partial(open_clip, quick_gelu=True),
    "open_clip_rn": functools.partial(open_clip, vision=RESNET),
    "open_clip_rn_quickgelu": functools.partial(
        open_clip, vision={**RESNET, "head_width": 32}, quick_gelu=True
    ),
    "open_clip_nonsquare": functools.partial(open_clip, vision={**VISION, "image_size": [48, 32]}),
    "open_clip_custom_text": functools.partial(open_clip, custom_text=True),
    # As ViT-g-14: 24 * 1.73 is cut to 41, heads of 12; and the text tower likewise.
    "open_clip_odd": functools.partial(
        open_clip,
        vision={**VISION, "width": 24, "head_width": 12, "mlp_ratio": 1.73},
        text={**TEXT, "width": 20, "layers": 4, "mlp_ratio": 2.0},
        other_size=(16, 16),
    ),
}
