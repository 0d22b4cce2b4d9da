# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The families of published checkpoints: transformers' by model type, and systems' own files."""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from jvlm.convert import (
    albef,
    bert,
    blip,
    blip_hf,
    chinese_clip,
    clip,
    gpt2,
    llama,
    opt,
    siglip,
    t5,
)
from jvlm.convert.engine import Rule
from jvlm.convert.pickled import PickledFamily


class HFFamily(NamedTuple):
    """A model type of transformers.

    Attributes:
      rules: the table, of a config.
      skip: keys that hold nothing.
      from_hf, to_hf: config.json to our config, and back.
      towers: kinds of the image and the text tower; none in a language model.
      processor: stem of the image processor's class, a key of `hf.PROCESSORS`.
      rename: (pattern, replacement) of keys that some files have in another form.
      copies, head: what files may hold twice, see `tied.settle`.
      models: keys of `models.MODELS`, where one model type is several, told by their configs'
        `kind`.
      in_config: path of a parameter -> field of our config that stands for it, since the format
        has it not among the weights.
      max_len: model -> tokens of a text, where it has more positions than it was trained with.
    """

    rules: Callable[[Any], tuple[Rule, ...]]
    skip: tuple[str, ...]
    from_hf: Callable[[Mapping[str, Any]], Any]
    to_hf: Callable[[Any], dict[str, Any]]
    towers: tuple[str, ...] = ()
    processor: str | None = None
    rename: tuple[tuple[str, str], ...] = ()
    copies: Mapping[str, str] = {}
    head: tuple[str, str] | None = None
    models: tuple[str, ...] = ()
    in_config: Mapping[str, str] = {}
    max_len: Mapping[str, int] = {}


def _family(table: ModuleType, **options: Any) -> HFFamily:
    """The parts of a table by their names."""
    rules = getattr(table, "rules_of", None) or (lambda cfg: table.HF_RULES)
    for name in ("rename", "copies", "head", "models", "in_config", "max_len"):
        if hasattr(table, f"HF_{name.upper()}"):
            options[name] = getattr(table, f"HF_{name.upper()}")
    return HFFamily(rules, table.HF_SKIP, table.config_from_hf, table.config_to_hf, **options)


# By config.json's `model_type`, which is also jvlm's name of the model unless `models` says others.
HF_FAMILIES: dict[str, HFFamily] = {
    "bert": _family(bert),
    "blip": _family(blip_hf, processor="Blip"),
    "chinese_clip": _family(chinese_clip, towers=("vit", "bert"), processor="ChineseCLIP"),
    "clip": _family(clip, towers=("vit", "transformer"), processor="CLIP"),
    "gpt2": _family(gpt2),
    "llama": _family(llama),
    "opt": _family(opt),
    "siglip": _family(siglip, towers=("vit", "transformer"), processor="Siglip"),
    "t5": _family(t5),
}
# Key of `models.MODELS` -> its family.
HF_MODELS = {
    model: family for kind, family in HF_FAMILIES.items() for model in family.models or (kind,)
}
PICKLED: dict[str, PickledFamily] = {
    kind: family for family in (albef.FAMILY, blip.FAMILY) for kind in family.kinds
}
# What `open_published` may be told.
NAMES = (*HF_FAMILIES, "albef", "open_clip", "timm")
