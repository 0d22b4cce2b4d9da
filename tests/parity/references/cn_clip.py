# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Chinese-CLIP's own files: pickled training checkpoints without a config."""

import functools
from pathlib import Path

import torch

from tests.parity.references import common
from tests.parity.references.common import Reference
from tests.parity.stubs import import_cn_clip

TEXT = dict(
    vocab_size=60,
    text_attention_probs_dropout_prob=0.1,
    text_hidden_act="gelu",
    text_hidden_dropout_prob=0.1,
    text_initializer_range=0.02,
    text_max_position_embeddings=20,
    text_type_vocab_size=2,
)


def cn_clip(
    folder: Path,
    *,
    vision: dict,
    text: tuple[int, int, int, int],
    flash: bool = False,
    other_size: int | None = None,
    **kwargs,
) -> Reference:
    """A `.pt` of OFA-Sys/Chinese-CLIP.

    Args:
      folder: to write to.
      vision: arguments of the image tower.
      text: width, depth, heads and MLP width of the text tower.
      flash: with the keys of a model that was trained with FlashAttention.
      other_size: side of images of another size than trained.
      **kwargs: for `jvlm.load`: the file holds no head counts.
    """
    library = import_cn_clip()
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    info = dict(embed_dim=16, **vision, **TEXT)
    info |= {f"text_{name}": value for name, value in zip(names, text)}
    model = common.randomize(library.model.CLIP(**info))
    common.calibrate(model.visual, vision["image_resolution"])
    # The loader rounds to half precision, whatever the file holds.
    model.half().float()
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    # Left from pretraining, and ignored.
    state["module.bert.pooler.dense.weight"] = torch.ones(text[0], text[0])
    state["module.bert.pooler.dense.bias"] = torch.ones(text[0])
    if flash:
        state = library.convert_state_dict(state)
    path = folder / "clip_cn.pt"
    torch.save(dict(epoch=3, step=12, name="tiny", state_dict=state), path)
    return record(path, info, other_size, kwargs)


@torch.no_grad()
def record(path, info, other_size, kwargs) -> Reference:
    """What Chinese-CLIP's loader makes of the file (clip/utils.py, create_model)."""
    model = load(path, info)
    size = info["image_resolution"]
    ids, mask = common.make_text(12, (4, 60), end=3, pad=0, start=2)
    batch = {"image": common.make_image((size, size)), "text": ids, "text_mask": mask}
    image, text = common.to_torch(batch)
    other = None
    if other_size is not None:
        images = common.make_image((other_size, other_size), rows=2)
        resized = load(path, {**info, "image_resolution": other_size})
        other = images, common.unit(resized.encode_image(common.image_to_torch(images)))
    return Reference(
        path,
        batch,
        common.unit(model.encode_image(image)),
        common.unit(model.encode_text(text)),
        common.to_numpy(model.get_similarity(image, text)[0]),
        text_tokens=common.to_numpy(model.bert(text, attention_mask=text.ne(0).float())[0]),
        other_size=other,
        kwargs={"family": "chinese_clip", **kwargs},
    )


def load(path, info):
    """A model with the file's weights."""
    library = import_cn_clip()
    state = torch.load(path, map_location="cpu")["state_dict"]
    if any("bert" in key and "Wqkv" in key for key in state):
        state = library.convert_state_dict(state)
    state = {k.removeprefix("module."): v for k, v in state.items() if "bert.pooler" not in k}
    model = library.model.CLIP(**info)
    library.model.convert_weights(model)
    library.model.resize_pos_embed(state, model)
    model.load_state_dict(state)
    return model.float().eval()


VIT = dict(image_resolution=32, vision_layers=3, vision_width=64, vision_patch_size=8)
REFERENCES = {
    # Heads of 64 dimensions, as all published models but the largest have.
    "cn_clip_vit": functools.partial(cn_clip, vision=VIT, text=(128, 2, 2, 40), other_size=48),
    "cn_clip_flash": functools.partial(cn_clip, vision=VIT, text=(128, 2, 2, 40), flash=True),
    # As ViT-H-14, whose heads have 80.
    "cn_clip_odd": functools.partial(
        cn_clip,
        vision={**VIT, "vision_width": 40, "vision_head_width": 20},
        text=(24, 2, 3, 40),
        config=dict(vision=dict(num_heads=2), text=dict(num_heads=3)),
    ),
    "cn_clip_rn": functools.partial(
        cn_clip,
        vision=dict(
            image_resolution=96, vision_layers=[1, 2, 1, 1], vision_width=4, vision_patch_size=None
        ),
        text=(64, 2, 1, 40),
    ),
}
