# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""transformers' config.json and preprocessor_config.json, as far as all families share them."""

from collections.abc import Mapping
from typing import Any

from jvlm.errors import UserError

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
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
    config: Mapping[str, Any], side: str, table: Mapping[str, tuple[str, Any]]
) -> dict[str, Any]:
    """A tower's fields.

    Args:
      config: config.json.
      side: 'text' or 'vision'.
      table: our field -> (theirs, the value where the file is silent).

    Raises:
      UserError: an unknown activation.
    """
    section = tower_section(config, side)
    fields = {ours: section.get(theirs, silent) for ours, (theirs, silent) in table.items()}
    activation = fields["activation"]
    if activation not in ACTIVATIONS:
        raise UserError(f"config.json: {side}_config.hidden_act {activation!r} is unknown")
    fields["activation"] = ACTIVATIONS[activation]
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}


def fields_to_hf(cfg: Any, table: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """The same table backwards."""
    fields = {theirs: getattr(cfg, ours) for ours, (theirs, _) in table.items()}
    fields["hidden_act"] = TO_HF.get(fields["hidden_act"], fields["hidden_act"])
    if getattr(cfg, "head_dim", None) not in (None, cfg.width // cfg.num_heads):
        raise UserError(f"transformers has no head_dim {cfg.head_dim} at width {cfg.width}")
    return fields


def preprocess_from_hf(config: Mapping[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """preprocessor_config.json -> (image transforms, {'image_mean', 'image_std'}).

    Raises:
      UserError: something that no transform does, by name.
    """
    steps: list[tuple[str, dict]] = []
    if config.get("do_resize", True):
        size, resample = config.get("size", 224), config.get("resample", 3)
        if resample not in FILTERS:
            raise UserError(f"preprocessor_config.json: resample {resample} is unknown")
        options = {} if resample == 3 else {"resample": FILTERS[resample]}
        if isinstance(size, int):  # Before 2022: the shorter side.
            size = {"shortest_edge": size}
        if "shortest_edge" in size:
            steps.append(("resize_shortest", dict(size=size["shortest_edge"], **options)))
        elif "height" in size and "width" in size:
            steps.append(("resize", dict(height=size["height"], width=size["width"], **options)))
        else:
            raise UserError(f"preprocessor_config.json: size {size} is unknown")
    if config.get("do_center_crop", "crop_size" in config):
        crop = config.get("crop_size", 224)
        crop = crop if isinstance(crop, Mapping) else {"height": crop, "width": crop}
        # transformers rounds the border down, torchvision to even.
        steps.append(("center_crop", dict(**crop, rounding="down")))
    factor = config.get("rescale_factor", 1 / 255)
    if not config.get("do_rescale", True) or abs(factor * 255 - 1) > 1e-6:
        raise UserError(f"preprocessor_config.json: rescale_factor {factor} is not 1/255")
    if not config.get("do_normalize", True):
        return tuple(steps), {"image_mean": (0.0,) * 3, "image_std": (1.0,) * 3}
    moments = {}
    for key in ("image_mean", "image_std"):
        if key not in config:
            raise UserError(f"preprocessor_config.json: no {key}")
        moments[key] = tuple(config[key])
    return tuple(steps), moments


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
