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
a file of ALBEF or LAVIS    a pickled training state, .pth or .pt
a folder that we exported   such a file, albef.pth, and a config.json of jvlm's
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from jvlm import paths, quantise
from jvlm.config import from_dataclass, replace
from jvlm.convert import (
    albef,
    albef_export,
    bert,
    chinese_clip,
    clip,
    engine,
    gpt2,
    llama,
    openai,
    opt,
    siglip,
    t5,
    tied,
    timm,
)
from jvlm.convert.engine import Rule
from jvlm.convert.files import (
    Npz,
    Pickled,
    Renamed,
    Safetensors,
    Tensors,
    find_tensors,
    is_torchscript,
    malformed,
    read_json,
)
from jvlm.convert.hf import preprocess_from_hf
from jvlm.errors import UserError, did_you_mean
from jvlm.models import MODELS
from jvlm.models.clip import CLIPConfig
from jvlm.models.towers.bert import BertConfig
from jvlm.tokenizers import Tokenizer, from_checkpoint, has_tokenizer


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


def _family(table: ModuleType, **options: Any) -> HFFamily:
    """The parts of a table by their names."""
    rules = getattr(table, "rules_of", None) or (lambda cfg: table.HF_RULES)
    for name in ("rename", "copies", "head"):
        if hasattr(table, f"HF_{name.upper()}"):
            options[name] = getattr(table, f"HF_{name.upper()}")
    return HFFamily(rules, table.HF_SKIP, table.config_from_hf, table.config_to_hf, **options)


# config.json's `model_type`, which is also jvlm's name of the model.
HF_FAMILIES: dict[str, HFFamily] = {
    "bert": _family(bert),
    "chinese_clip": _family(chinese_clip, towers=("vit", "bert"), processor="ChineseCLIP"),
    "clip": _family(clip, towers=("vit", "transformer"), processor="CLIP"),
    "gpt2": _family(gpt2),
    "llama": _family(llama),
    "opt": _family(opt),
    "siglip": _family(siglip, towers=("vit", "transformer"), processor="Siglip"),
    "t5": _family(t5),
}
FAMILIES = (*HF_FAMILIES, "albef", "open_clip", "timm")
CHINESE_LENGTH = 52
ENDLESS = 512  # Tokens of a text for models without a limit; T5 was trained with as many.
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
      code: whose tokenizer reads texts: 'hf', 'open_clip', 'openai', 'cn_clip', 'albef' or 'lavis'.
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
      family: what a pickled file is, where it does not tell: one of `FAMILIES`.
      variant: its size, a key of the model's VARIANTS; default from the weights.
      fields: config fields that override what was found, nested as the config is.

    Raises:
      UserError: no checkpoint, an unknown kind, or a config that jvlm cannot express.
    """
    path = Path(path)
    if family is not None and family not in FAMILIES:
        raise UserError(f"family {family!r} is unknown.{did_you_mean(family, FAMILIES)}")
    if path.is_dir():
        published = _open_folder(path)
    elif path.is_file():
        published = _open_file(path, family, variant)
    else:
        raise UserError(f"{path}: no such file or folder")
    if fields:
        kind = type(published.config)
        published.config = replace(kind, published.config, fields, where="config")
    return published


def load(
    published: Published,
    abstract: Mapping,
    tokenizer: Tokenizer | None = None,
    quantised: quantise.Rules | None = None,
) -> tuple[dict, Tokenizer | None]:
    """Reads the weights, once everything has been found to fit.

    Args:
      published: the checkpoint.
      abstract: the parameters' shapes, dtypes and shardings.
      tokenizer: in place of the checkpoint's.
      quantised: which kernels to quantise, see `quantise.resolve`.

    Returns:
      (parameters, the tokenizer or None where the checkpoint has none).

    Raises:
      UserError: all that does not fit: weights, preprocessing, vocabulary.
    """
    tokenizer, problems = find_problems(published, abstract, tokenizer)
    if problems:
        raise UserError("; ".join(problems))
    kinds = quantise.resolve(quantised, paths.flatten(abstract))
    table = (published.rules, published.skip)
    return engine.load(published.tensors, *table, abstract, kinds), tokenizer


def load_momentum(published: Published, abstract: Mapping) -> tuple[dict | None, dict]:
    """What ALBEF's files hold beside the weights.

    Args:
      published: the checkpoint.
      abstract: shapes, dtypes and shardings of the parameters.

    Returns:
      (the moving average of some of the parameters, or None; queues as `objectives.albef` has them,
      or nothing).
    """
    if published.model not in albef.KINDS:
        return None, {}
    tensors, flat = published.tensors, paths.flatten(abstract)
    table = albef.rules(published.config, momentum=True)
    own, average = (engine.plan(rules, flat) for rules in (published.rules, table))
    kept = {
        path: leaf
        for path, leaf in flat.items()
        if average[path].keys != own[path].keys
        and all(key in tensors.shapes for key in average[path].keys)
    }
    queues = {
        name: tensors.read(key).T for name, key in albef.QUEUES.items() if key in tensors.shapes
    }
    if "image" in queues:
        queues["filled"] = np.int32(len(queues["image"]))  # Whoever trained it went through all.
    if not kept:
        return None, queues
    return engine.load(tensors, table, (".*",), paths.unflatten(kept)), queues


def find_problems(
    published: Published, params: Mapping, tokenizer: Tokenizer | None = None
) -> tuple[Tokenizer | None, list[str]]:
    """(the tokenizer or None, everything that does not fit together)."""
    problems: list[str] = []

    def trying(check: Callable[[], Any]) -> Any:
        try:
            return check()
        except UserError as error:
            problems.append(str(error))

    flat = paths.flatten(params)
    pieces = trying(lambda: engine.plan(published.rules, flat))
    if pieces is not None:
        trying(lambda: engine.check(published.tensors, pieces, published.skip, flat))
    trying(lambda: _check_size(published))
    if tokenizer is None:
        tokenizer = trying(lambda: find_tokenizer(published))
    if tokenizer is not None and published.reads_texts:
        trying(lambda: _check_vocabulary(published, tokenizer))
    return tokenizer, problems


def find_tokenizer(published: Published) -> Tokenizer | None:
    """The tokenizer whose files lie beside the weights; None where there are none."""
    if not published.reads_texts or not has_tokenizer(published.folder, published.code):
        return None
    if published.is_language_model:
        max_len = published.config.max_len or ENDLESS
    else:
        text = published.config.text
        # BERTs have more positions than the texts that they were trained with.
        max_len = text.max_len
        if isinstance(text, BertConfig):
            max_len = min(published.max_len or CHINESE_LENGTH, max_len)
    return from_checkpoint(published.folder, max_len=max_len, family=published.code)


def _check_vocabulary(published: Published, tokenizer: Tokenizer) -> None:
    where = published.folder
    text = published.config if published.is_language_model else published.config.text
    # Language models round the rows of their tables up (T5: 32,100 tokens, 32,128 rows).
    fits = int.__le__ if published.is_language_model else int.__eq__
    if not fits(tokenizer.vocab_size, text.vocab_size):
        raise UserError(
            f"{where}: its tokenizer has {tokenizer.vocab_size} entries, its weights "
            f"{text.vocab_size}: the vocabulary files are another model's"
        )
    if published.is_language_model:
        return
    if isinstance(text, BertConfig) or text.pool not in ("argmax", "eos"):
        return
    last = text.vocab_size - 1 if text.pool == "argmax" else text.eos_id
    if tokenizer.eos_id != last:
        raise UserError(
            f"{where}: its tokenizer ends texts with {tokenizer.eos_id}, its text tower pools at "
            f"{last}: the vocabulary files or the config are another model's"
        )


def _check_size(published: Published) -> None:
    """The last image transform must give what the tower takes."""
    if published.is_language_model:
        return
    size = published.config.vision.image_size
    want = (size, size) if isinstance(size, int) else tuple(size)
    options = published.preprocess[-1][1] if published.preprocess else {}
    side = options.get("size")
    got = (options.get("height", side), options.get("width", side))
    if None not in got and got != want:
        raise UserError(
            f"{published.folder}: its preprocessing gives {got[0]} x {got[1]} px, its config says "
            f"{want[0]} x {want[1]}"
        )


def inspect(path: str | Path, family: str | None = None, variant: str | None = None) -> dict:
    """What a published checkpoint is, without reading its numbers.

    Returns:
      `model`, `code` (whose format), `parameters`, `config` (flat), `preprocess`, `cleaning` (of
      texts), `tensors` (key -> shape) and `problems`, one line or 'none'.
    """
    published = open_published(path, family, variant)
    module = MODELS[published.model][0](published.config)
    shapes = jax.eval_shape(module.init, jax.random.key(0), module.dummy_batch(1))["params"]
    _, problems = find_problems(published, shapes)
    return {
        "model": published.model,
        "code": published.code,
        "parameters": paths.count(shapes),
        "preprocess": published.preprocess,
        "cleaning": published.cleaning,
        "problems": "; ".join(problems) or "none",
        "config": paths.flatten(from_dataclass(published.config)),
        "tensors": {key: list(shape) for key, shape in sorted(published.tensors.shapes.items())},
    }


def is_published(path: Path) -> bool:
    """Whether a path looks like a published checkpoint (as opposed to a run of jvlm)."""
    if path.is_file():
        return True
    has = lambda name: (path / name).is_file()
    return has("open_clip_config.json") or (has("config.json") and _model_type(path) is not None)


def _model_type(folder: Path) -> str | None:
    config = read_json(folder / "config.json")
    return config.get("model_type", "timm" if "pretrained_cfg" in config else None)


def _open_folder(folder: Path) -> Published:
    has = lambda name: (folder / name).is_file()
    kind = _model_type(folder) if has("config.json") else None
    names = ("model.safetensors", "pytorch_model.bin")
    weights = (*names, *(f"{name}.index.json" for name in names))
    # LAION's folders hold both forms, timm's hold a config.json of timm.
    if kind in HF_FAMILIES and (not has("open_clip_config.json") or any(map(has, weights))):
        return _open_hf(folder, kind)
    if has("open_clip_config.json"):
        return _open_open_clip(folder)
    if kind == "timm":
        return _open_timm(find_tensors(folder), folder, read_json(folder / "config.json"))
    if kind in albef.KINDS:
        return _open_albef(folder / albef_export.NAME, Pickled([folder / albef_export.NAME]), None)
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
        where = folder / "preprocessor_config.json"
        moments: dict[str, Any] = {"image_mean": None, "image_std": None}
        if where.is_file():
            with malformed(where, "not an image processor's config"):
                preprocess, moments = preprocess_from_hf(read_json(where), family.processor)
        cfg = dataclasses.replace(cfg, **moments)
    tensors = find_tensors(folder)
    if family.rename:
        tensors = Renamed(tensors, functools.partial(_rename, family.rename))
    cfg, tensors, twice = tied.settle(cfg, tensors, family.copies, family.head)
    where = folder / "generation_config.json"
    return Published(
        kind,
        cfg,
        tensors,
        family.rules(cfg),
        (*family.skip, *map(re.escape, twice)),
        preprocess,
        folder,
        "hf",
        TORCH_RESIZE,
        read_json(where) if where.is_file() else {},
    )


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
    if family == "albef" or (family is None and albef.is_albef(keys)):
        return _open_albef(path, tensors, variant)
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
        f"{path}: neither OpenAI's TorchScript nor a file of cn_clip, ALBEF or DeiT: say family=, "
        f"one of {', '.join(FAMILIES)}, or give the folder with its config"
    )


def _open_albef(path: Path, tensors: Tensors, variant: str | None) -> Published:
    """A file of ALBEF's own code or of LAVIS; beside one that we wrote lies what it is."""
    if variant not in (None, "original", "lavis"):
        raise UserError(f"variant {variant!r} of ALBEF is unknown, choose 'original' or 'lavis'")
    folder, where = path.parent, path.parent / "config.json"
    ours = read_json(where) if where.is_file() else {}
    if ours.get("model_type") in albef.KINDS and path.name == albef_export.NAME:
        with malformed(where, "not a config of jvlm's"):
            cfg = replace(albef.KINDS[ours["model_type"]], None, ours["model"], where="model")
            steps, max_len, code = ours["preprocess"], ours["max_len"], "hf"
            cleaning = ours.get("cleaning") or ()
    else:
        with malformed(tensors.name, "not a checkpoint of this family"):
            cfg = albef.config_from_tensors(tensors)
        code, max_len = "albef", albef.LENGTH
        if variant == "lavis" or (variant is None and not cfg.text.num_types):
            cfg = albef.without_types(cfg)
            code, max_len = "lavis", albef.LAVIS_LENGTHS[cfg.kind]
        cleaning = albef.cleaning(cfg.kind, code == "lavis")
        steps = (("resize_square", dict(size=cfg.vision.image_size)),)
    return Published(
        *(cfg.kind, cfg, tensors, albef.rules(cfg), albef.skip(cfg), steps, folder, code),
        TORCH_RESIZE,
        max_len=max_len,
        cleaning=cleaning,
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
