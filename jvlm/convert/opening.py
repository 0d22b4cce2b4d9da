# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a published checkpoint is: its family, config, preprocessing and table.

a folder of transformers    config.json, model.safetensors, preprocessor_config.json, ...
a folder of open_clip       open_clip_config.json, open_clip_model.safetensors, ...
a file of OpenAI's CLIP     a TorchScript archive, .pt
a folder of timm            config.json, model.safetensors
a file of DeiT              a pickled training state with timm's names, .pth
a file of Google's ViT      .npz
a file of cn_clip           a pickled state dict, .pt
a file of ALBEF or BLIP     a pickled training state, .pth or .pt; LAVIS's of them too
a folder that we exported   such a file, albef.pth or blip.pth, and a config.json of jvlm's
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jvlm.config import replace
from jvlm.convert import albef, blip, chinese_clip, openai, tied, timm
from jvlm.convert.engine import Rule
from jvlm.convert.families import HF_FAMILIES, NAMES, PICKLED
from jvlm.convert.files import (
    Npz,
    Pickled,
    Renamed,
    Safetensors,
    Supplied,
    Tensors,
    find_tensors,
    is_torchscript,
    malformed,
    read_json,
)
from jvlm.convert.hf import preprocess_from_hf
from jvlm.convert.pickled import PickledFamily, Reading
from jvlm.errors import UserError, did_you_mean
from jvlm.models import MODELS
from jvlm.models.clip import CLIPConfig

TORCH_RESIZE = {"antialias": False}


@dataclasses.dataclass
class Published:
    """An opened checkpoint: everything but the numbers has been read.

    Attributes:
      model: key of `models.MODELS`.
      config: the model's.
      tensors, rules, skip: what `engine.load` needs.
      preprocess: image transforms; None where the checkpoint does not say.
      folder: where its tokenizer files lie.
      code: whose tokenizer reads texts: 'hf', 'open_clip', 'openai', 'cn_clip', 'albef', 'blip' or
        'lavis'.
      resize: options of `layers.resize_positions` with which its code takes another image size.
      generation: what its generation_config.json says; empty where there is none.
      max_len: tokens of a text; None where the model or the tokenizer's files say it.
      cleaning: text transforms with which its code prepares every text, see `Processor`.
    """

    model: str
    config: Any
    tensors: Tensors
    rules: tuple[Rule, ...]
    skip: tuple[str, ...]
    preprocess: tuple | None
    folder: Path
    code: str
    resize: dict[str, bool]
    generation: dict[str, Any] = dataclasses.field(default_factory=dict)
    max_len: int | None = None
    cleaning: tuple = ()

    @property
    def is_language_model(self) -> bool:
        """Whether it reads texts only."""
        return not hasattr(self.config, "vision")

    @property
    def reads_texts(self) -> bool:
        """Whether it has a tokenizer."""
        return self.is_language_model or hasattr(self.config, "text")


def open_published(
    path: str | Path, family: str | None = None, variant: str | None = None, fields: Any = None
) -> Published:
    """Finds out what a checkpoint is.

    Args:
      path: see the top of the file.
      family: what a pickled file is, where it does not tell: one of `families.NAMES`.
      variant: its size, a key of the model's VARIANTS; default from the weights.
      fields: config fields that override what was found, nested as the config is.

    Raises:
      UserError: no checkpoint, an unknown kind, or a config that jvlm cannot express.
    """
    path = Path(path)
    if family is not None and family not in NAMES:
        raise UserError(f"family {family!r} is unknown.{did_you_mean(family, NAMES)}")
    if path.is_dir():
        published = _open_folder(path, variant)
    elif path.is_file():
        published = _open_file(path, family, variant)
    else:
        raise UserError(f"{path}: no such file or folder")
    if fields:
        kind = type(published.config)
        published.config = replace(kind, published.config, fields, where="config")
    return published


def is_published(path: Path) -> bool:
    """Whether a path looks like a published checkpoint (as opposed to a run of jvlm)."""
    if path.is_file():
        return True
    has = lambda name: (path / name).is_file()
    return has("open_clip_config.json") or (has("config.json") and _model_type(path) is not None)


def _model_type(folder: Path) -> str | None:
    config = read_json(folder / "config.json")
    return config.get("model_type", "timm" if "pretrained_cfg" in config else None)


def _open_folder(folder: Path, variant: str | None) -> Published:
    has = lambda name: (folder / name).is_file()
    kind = _model_type(folder) if has("config.json") else None
    if kind in PICKLED and has(PICKLED[kind].file):
        file = folder / PICKLED[kind].file
        return _open_pickled(file, Pickled([file]), variant, PICKLED[kind])
    names = ("model.safetensors", "pytorch_model.bin")
    weights = (*names, *(f"{name}.index.json" for name in names))
    # LAION's folders hold both forms, timm's hold a config.json of timm.
    if kind in HF_FAMILIES and (not has("open_clip_config.json") or any(map(has, weights))):
        return _open_hf(folder, kind)
    if has("open_clip_config.json"):
        return _open_open_clip(folder)
    if kind == "timm":
        return _open_timm(find_tensors(folder), folder, read_json(folder / "config.json"))
    if not has("config.json") and not has("jvlm.json"):
        raise UserError(f"{folder}: no config.json and no open_clip_config.json")
    if has("jvlm.json") or (folder / "checkpoints").is_dir():
        raise UserError(f"{folder}: jvlm's own, not a published checkpoint")
    known = ", ".join(HF_FAMILIES)
    raise UserError(f"{folder}/config.json: model_type {kind!r}; jvlm reads {known}")


def _open_hf(folder: Path, kind: str) -> Published:
    family = HF_FAMILIES[kind]
    where = folder / "config.json"
    with malformed(where, "not a config of this family"):
        cfg = family.from_hf(read_json(where))
    preprocess = None
    if family.processor is not None:
        moments: dict[str, Any] = {"image_mean": None, "image_std": None}
        where, processor = _image_processor(folder)
        if processor is not None:
            with malformed(where, "not an image processor's config"):
                preprocess, moments = preprocess_from_hf(processor, family.processor)
        cfg = dataclasses.replace(cfg, **moments)
    tensors = find_tensors(folder)
    if family.rename:
        tensors = Renamed(tensors, functools.partial(_rename, family.rename))
    cfg, tensors, twice = tied.settle(cfg, tensors, family.copies, family.head)
    stated = {path: getattr(cfg, field, None) for path, field in family.in_config.items()}
    tensors = Supplied(tensors, {path: x for path, x in stated.items() if x is not None})
    where = folder / "generation_config.json"
    model = cfg.kind if family.models else kind
    return Published(
        model,
        cfg,
        tensors,
        family.rules(cfg),
        (*family.skip, *map(re.escape, twice)),
        preprocess,
        folder,
        "hf",
        TORCH_RESIZE,
        read_json(where) if where.is_file() else {},
        max_len=family.max_len.get(model),
    )


def _image_processor(folder: Path) -> tuple[Path, Mapping[str, Any] | None]:
    """(file, its image processor's config); in files of transformers 5 that is a section."""
    where = folder / "preprocessor_config.json"
    if where.is_file():
        return where, read_json(where)
    where = folder / "processor_config.json"
    return where, read_json(where).get("image_processor") if where.is_file() else None


def _rename(rename: tuple[tuple[str, str], ...], key: str) -> str:
    for pattern, replacement in rename:
        key = re.sub(pattern, replacement, key)
    return key


def _open_open_clip(folder: Path) -> Published:
    where = folder / "open_clip_config.json"
    with malformed(where, "not a config of open_clip"):
        config = read_json(where)
        cfg = openai.config_from_open_clip(config["model_cfg"])
        preprocess = config.get("preprocess_cfg") or {}
        for key in ("mean", "std"):
            if key in preprocess:
                moments = tuple(map(float, preprocess[key]))
                cfg = dataclasses.replace(cfg, **{f"image_{key}": moments})
        steps = _open_clip_steps(cfg, preprocess)
    tensors = find_tensors(folder, "open_clip_model", "open_clip_pytorch_model")
    return _openai_form(tensors, cfg, folder, steps, "open_clip")


def _openai_form(
    tensors: Tensors, cfg: CLIPConfig, folder: Path, steps: tuple, code: str
) -> Published:
    prefix = "text." if "text.token_embedding.weight" in tensors.shapes else ""
    rules = openai.openai_rules(cfg, prefix)
    resize = {"antialias": True} if code == "open_clip" else TORCH_RESIZE
    return Published("clip", cfg, tensors, rules, openai.SKIP, steps, folder, code, resize)


def _open_clip_steps(cfg: CLIPConfig, preprocess: Mapping[str, Any]) -> tuple:
    """open_clip transform.py `image_transform_v2` for evaluation."""
    size, mode = cfg.vision.image_size, preprocess.get("resize_mode", "shortest")
    filter_ = preprocess.get("interpolation", "bicubic")
    options = {} if filter_ == "bicubic" else {"resample": filter_}
    height, width = (size, size) if isinstance(size, int) else size
    square = dict(height=height, width=width)
    if mode == "squash":
        return (("resize", dict(**square, **options)),)
    if mode == "shortest" and height == width:
        return (("resize_shortest", dict(size=height, **options)), ("center_crop", square))
    if mode == "shortest":
        return (("resize_cover", dict(**square, **options)), ("center_crop", square))
    raise UserError(f"preprocess_cfg.resize_mode {mode!r}: jvlm has 'shortest' and 'squash'")


def _open_file(path: Path, family: str | None, variant: str | None) -> Published:
    if path.suffix == ".npz":
        return _open_timm(Npz(path), path.parent)
    tensors = Safetensors([path]) if path.suffix == ".safetensors" else Pickled([path])
    keys, folder = tensors.shapes, path.parent
    if family is None and "bert.embeddings.word_embeddings.weight" in keys:
        family = "chinese_clip"
    if family is None and path.suffix != ".safetensors" and is_torchscript(path):
        family = "clip"
    for table in (albef, blip):
        if family == table.FAMILY.name or (family is None and table.is_own(keys)):
            return _open_pickled(path, tensors, variant, table.FAMILY)
    if family == "timm" or (family is None and timm.is_timm(keys)):
        return _open_timm(tensors, folder)
    if family == "chinese_clip":
        cfg = _sized("chinese_clip", variant, tensors, chinese_clip.config_from_cn)
        rules = chinese_clip.cn_rules(cfg, tensors)
        steps = (("resize_square", dict(size=cfg.vision.image_size)),)
        skip, resize = chinese_clip.CN_SKIP, {"antialias": False, "align_corners": True}
        return Published(family, cfg, tensors, rules, skip, steps, folder, "cn_clip", resize)
    if family in ("clip", "open_clip"):
        # Both forms have the same keys; only the activation differs, and cannot be seen in them.
        if family == "open_clip" and variant is None:
            raise UserError(
                f"{path}: weights do not tell their activation: give variant, such as ViT-B/32 "
                "(gelu) or ViT-B/32-quickgelu"
            )
        cfg = _sized("clip", variant, tensors, openai.config_from_openai)
        if family == "clip":  # OpenAI's own files: whatever the variant says, their gelu is quick.
            quick = lambda tower: dataclasses.replace(tower, activation="quick_gelu")
            towers = {"text": quick(cfg.text)}
            if cfg.vision.kind == "vit":
                towers["vision"] = quick(cfg.vision)
            cfg = dataclasses.replace(cfg, **towers)
        steps = (("resize_center_crop", dict(size=cfg.vision.image_size)),)
        code = "openai" if family == "clip" else family
        return _openai_form(tensors, cfg, folder, steps, code)
    raise UserError(
        f"{path}: neither OpenAI's TorchScript nor a file of cn_clip, ALBEF, BLIP or DeiT: "
        f"say family=, one of {', '.join(NAMES)}, or give the folder with its config"
    )


def _open_pickled(
    path: Path, tensors: Tensors, variant: str | None, family: PickledFamily
) -> Published:
    """A file of a system's own code or of LAVIS; beside one that we wrote lies what it is."""
    if variant not in (None, *family.variants):
        known = ", ".join(family.variants)
        raise UserError(f"variant {variant!r} of {family.title} is unknown, choose from {known}")
    folder, where = path.parent, path.parent / "config.json"
    ours = read_json(where) if where.is_file() and path.name == family.file else {}
    if ours.get("model_type") in family.kinds:
        with malformed(where, "not a config of jvlm's"):
            cfg = replace(family.kinds[ours["model_type"]], None, ours["model"], where="model")
            cleaning = tuple(map(tuple, ours.get("cleaning") or ()))
            reading = Reading(cfg, "hf", ours["max_len"], cleaning)
            steps = ours["preprocess"] and tuple(map(tuple, ours["preprocess"]))
        if variant is not None:
            reading = family.read_as(cfg, variant)._replace(code="hf")
    else:
        with malformed(tensors.name, "not a checkpoint of this family"):
            cfg = family.config_from_tensors(tensors)
        reading = family.read_as(cfg, variant)
        steps = (("resize_square", dict(size=cfg.vision.image_size)),)
    cfg = reading.config
    copies = family.copies(cfg, tensors.shapes)
    _, tensors, _ = tied.settle(cfg, tensors, copies, None, family.untied)
    return Published(
        *(cfg.kind, cfg, tensors, family.rules(cfg), family.skip(cfg), steps, folder),
        reading.code,
        TORCH_RESIZE,
        max_len=reading.max_len,
        cleaning=reading.cleaning,
    )


def _open_timm(tensors: Tensors, folder: Path, config: Mapping[str, Any] = {}) -> Published:
    """A vision transformer; only timm's config.json says how images are prepared for it."""
    with malformed(tensors.name, "not a vision transformer of timm's"):
        cfg = timm.config_from_tensors(tensors)
    steps = None
    if config:
        with malformed(folder / "config.json", "not a config of timm"):
            steps, moments = timm.preprocess_from_timm(config["pretrained_cfg"])
            cfg = dataclasses.replace(cfg, **moments)
    table = timm.rules(tensors), timm.SKIP
    return Published("vit", cfg, tensors, *table, steps, folder, "timm", TORCH_RESIZE)


def _sized(model: str, variant: str | None, tensors: Tensors, infer: Callable) -> CLIPConfig:
    if variant is None:
        with malformed(tensors.name, "not a checkpoint of this family"):
            return infer(tensors)
    variants = MODELS[model][2]
    if variant not in variants:
        raise UserError(f"variant {variant!r} is unknown.{did_you_mean(variant, variants)}")
    return variants[variant]
