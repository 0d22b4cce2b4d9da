# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""transformers' config.json and preprocessor_config.json, as far as all families share them."""

import re
from collections.abc import Mapping
from typing import Any

from jvlm.errors import UserError
from jvlm.layers.image import CLIP_MEAN, CLIP_STD

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
}
# Our name of a field -> theirs, the same in every family.
NAMES = {
    "activation": "hidden_act",
    "bos_id": "bos_token_id",
    "depth": "num_hidden_layers",
    "eos_id": "eos_token_id",
    "image_size": "image_size",
    "max_len": "max_position_embeddings",
    "mlp_dim": "intermediate_size",
    "norm_eps": "layer_norm_eps",
    "num_heads": "num_attention_heads",
    "num_types": "type_vocab_size",
    "pad_id": "pad_token_id",
    "patch_size": "patch_size",
    "tied": "tie_word_embeddings",
    "vocab_size": "vocab_size",
    "width": "hidden_size",
}
TO_HF = {"gelu_tanh": "gelu_pytorch_tanh"}
# Pillow's numbers.
FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


def tower_section(config: Mapping[str, Any], side: str) -> Mapping[str, Any]:
    """What config.json says of a tower, 'text' or 'vision'.

    Files of 2021 may carry a second section, which wins whole: what it is silent about has the
    class's value, whatever the first one says (CLIPConfig.__post_init__).
    """
    second = config.get(f"{side}_config_dict")
    return (config.get(f"{side}_config") or {}) if second is None else second


def fields_from_hf(
    config: Mapping[str, Any], side: str, table: Mapping[str, Any]
) -> dict[str, Any]:
    """A tower's fields.

    Args:
      config: config.json.
      side: 'text' or 'vision'.
      table: our field -> the value where the file is silent.

    Raises:
      UserError: an unknown activation.
    """
    return read_fields(tower_section(config, side), table, where=f"{side}_config.")


def read_fields(
    section: Mapping[str, Any],
    table: Mapping[str, Any],
    names: Mapping[str, str] = NAMES,
    where: str = "",
) -> dict[str, Any]:
    """What a section says of our fields.

    Args:
      section: of config.json.
      table: our field -> the value where the section is silent.
      names: our field -> theirs.
      where: for messages.

    Raises:
      UserError: an unknown activation.
    """
    fields = {ours: section.get(names[ours], silent) for ours, silent in table.items()}
    activation = fields["activation"]
    if activation not in ACTIVATIONS:
        raise UserError(f"{where}{names['activation']} {activation!r} is unknown")
    fields["activation"] = ACTIVATIONS[activation]
    if (fields.get("pad_id") or 0) < 0:  # In old files of LLaMA; no such token.
        fields["pad_id"] = None
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}


def refuse(config: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raises UserError where a config.json asks for what jvlm has not.

    Args:
      config: the file.
      known: key -> the value that jvlm has, which is the one of files that are silent.
    """
    for key, value in known.items():
        if (said := config.get(key, value)) != value:
            raise UserError(f"{key} {said!r}: jvlm has only {value!r}")


def fields_to_hf(
    cfg: Any, table: Mapping[str, Any], names: Mapping[str, str] = NAMES
) -> dict[str, Any]:
    """The same table backwards.

    Raises:
      UserError: a non-square image, which transformers' towers do not take.
    """
    fields = {names[ours]: getattr(cfg, ours) for ours in table}
    activation = fields[names["activation"]]
    fields[names["activation"]] = TO_HF.get(activation, activation)
    if isinstance(fields.get("image_size"), tuple):
        raise UserError(f"transformers' towers take square images, not {cfg.image_size}")
    return fields


_CLIP = dict(
    size={"shortest_edge": 224},
    do_center_crop=True,
    crop_size=224,
    image_mean=CLIP_MEAN,
    image_std=CLIP_STD,
)
# Image processors by class, with what they do where a file is silent.
PROCESSORS: dict[str, dict[str, Any]] = {
    "Blip": dict(
        size={"height": 384, "width": 384},
        do_center_crop=False,
        image_mean=CLIP_MEAN,
        image_std=CLIP_STD,
    ),
    "CLIP": _CLIP,
    "ChineseCLIP": _CLIP,
    "Siglip": dict(
        size={"height": 224, "width": 224},
        do_center_crop=False,
        image_mean=(0.5,) * 3,
        image_std=(0.5,) * 3,
    ),
}
_CLASS = re.compile(r"(\w+?)(ImageProcessor(Fast|Pil)?|FeatureExtractor)")


def preprocess_from_hf(
    config: Mapping[str, Any], default_class: str
) -> tuple[tuple, dict[str, Any]]:
    """preprocessor_config.json -> (image transforms, {'image_mean', 'image_std'}).

    Args:
      config: the file.
      default_class: where the file names no class: a key of `PROCESSORS`.

    Raises:
      UserError: something that no transform does, by name.
    """
    name = config.get("image_processor_type") or config.get("feature_extractor_type")
    match = _CLASS.fullmatch(name or f"{default_class}ImageProcessor")
    if not match or match[1] not in PROCESSORS:
        raise UserError(f"image processor {name!r} is unknown, jvlm knows {', '.join(PROCESSORS)}")
    config = {**PROCESSORS[match[1]], "do_resize": True, "resample": 3, **config}
    steps: list[tuple[str, dict]] = []
    if config["do_resize"]:
        size = config["size"]
        if config["resample"] not in FILTERS:
            raise UserError(f"resample {config['resample']} is unknown")
        options = {} if config["resample"] == 3 else {"resample": FILTERS[config["resample"]]}
        if isinstance(size, int):  # Before 2022: the shorter side.
            size = {"shortest_edge": size}
        if "shortest_edge" in size:
            steps.append(("resize_shortest", dict(size=size["shortest_edge"], **options)))
        elif "height" in size and "width" in size:
            steps.append(("resize", dict(height=size["height"], width=size["width"], **options)))
        else:
            raise UserError(f"size {size} is unknown")
    if config["do_center_crop"]:
        crop = config["crop_size"]
        crop = crop if isinstance(crop, Mapping) else {"height": crop, "width": crop}
        # transformers rounds the border down, torchvision to even.
        steps.append(("center_crop", dict(**crop, rounding="down")))
    factor = config.get("rescale_factor", 1 / 255)
    if not config.get("do_rescale", True) or abs(factor * 255 - 1) > 1e-6:
        raise UserError(f"rescale_factor {factor} is not 1/255")
    if not config.get("do_normalize", True):
        return tuple(steps), {"image_mean": (0.0,) * 3, "image_std": (1.0,) * 3}
    return tuple(steps), {
        key: tuple(map(float, config[key])) for key in ("image_mean", "image_std")
    }


def preprocess_to_hf(steps: tuple, mean: tuple, std: tuple, processor: str) -> dict[str, Any]:
    """The same backwards.

    Args:
      steps: image transforms.
      mean, std: of pixels in [0, 1].
      processor: name of transformers' class.

    Raises:
      UserError: a step that transformers' processors do not have.
    """
    numbers = {name: number for number, name in FILTERS.items()}
    config: dict[str, Any] = {
        "image_processor_type": processor,
        "do_convert_rgb": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
        "do_resize": False,
        "do_center_crop": False,
    }
    for name, options in steps:
        options = dict(options)
        if name == "resize_center_crop":
            size = options["size"]
            config.update(do_center_crop=True, crop_size={"height": size, "width": size})
            resize = {"shortest_edge": size}
        elif name == "resize_square":
            resize = {"height": options["size"], "width": options["size"]}
        elif name == "resize_shortest":
            resize = {"shortest_edge": options["size"]}
        elif name == "resize":
            resize = {"height": options["height"], "width": options["width"]}
        elif name == "center_crop":
            crop = {"height": options["height"], "width": options["width"]}
            config.update(do_center_crop=True, crop_size=crop)
            continue
        else:
            raise UserError(f"transformers has no image step {name!r}")
        resample = numbers[options.get("resample", "bicubic")]
        config.update(do_resize=True, size=resize, resample=resample)
    return config
