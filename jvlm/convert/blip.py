# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""BLIP's own files, and LAVIS's of it.

A pretraining file holds what encoder and decoder share under both names. LAVIS gives the same names
to the same tensors; it cleans texts otherwise. Neither file nor vocabulary holds the rows' names of
[DEC] and [ENC], which are the last two of the token table. Sources: salesforce/BLIP
models/{blip,blip_*,med,nlvr_encoder}.py, data/*.py; salesforce/LAVIS lavis/models/blip_models.
"""

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from jvlm.convert.bert import (
    FIELDS,
    bert_rules,
    embedding_rules,
    layer_rules,
    queries_keys_values,
    self_rules,
    word_rules,
)
from jvlm.convert.engine import Rule
from jvlm.convert.files import Tensors
from jvlm.convert.hf import fields_to_hf
from jvlm.convert.openai import count_layers
from jvlm.convert.pickled import PickledFamily, Reading
from jvlm.convert.rules import heads_out, linear
from jvlm.convert.timm import vit_config, vit_rules
from jvlm.errors import UserError
from jvlm.models.blip import (
    BLIPCaptionerConfig,
    BLIPClassifierConfig,
    BLIPConfig,
    BLIPVQAConfig,
)
from jvlm.models.towers.bert import BertConfig
from jvlm.models.towers.med import MEDConfig
from jvlm.models.towers.vit import ViTConfig

SEP_ID = 102  # Of bert-base-uncased.
PROMPT = "a picture of "  # models/blip.py `BLIP_Decoder`.

# Name of a model -> its config.
KINDS = {
    config.kind: config
    for config in (BLIPConfig, BLIPCaptionerConfig, BLIPVQAConfig, BLIPClassifierConfig)
}
BUFFERS = (
    r".*_m\..*",
    r".*(position_ids|_queue|queue_ptr)",
    r".*predictions\.decoder\.(weight|bias)",
)
# What the official loader leaves in a pretraining file that it reads as something smaller
# (models/blip.py `load_checkpoint`, strict=False).
ALIGNMENT = r"(vision_proj|text_proj|itm_head)\..*|temp"
UNUSED = {
    "blip_captioner": (r"text_encoder\..*", ALIGNMENT),
    "blip_vqa": (ALIGNMENT,),
    "blip_classifier": (),
}
# Tied by models/blip_pretrain.py: all but self-attention and its norm.
SHARED = re.compile(r"text_encoder\.(embeddings\..*|encoder\.layer\.\d+\.(?!attention\.).*)")

VARIANTS = ("original", "lavis", "captioner", "retrieval", "itm", "vqa")
# (tokens of a text, its words), by what the file is of: models/blip_*.py `max_length`, data/*.py
# `max_words`. NLVR2's tokens are not cut there: these hold its 40 words.
PRETRAINING, LENGTHS = (
    (30, 30),
    {
        "blip": (35, 30),
        "blip_captioner": (40, 30),
        "blip_vqa": (35, 50),
        "blip_classifier": (64, 40),
    },
)
LAVIS_WORDS = 50  # processors/blip_processors.py.


def is_own(keys: Collection[str]) -> bool:
    """Whether tensors have BLIP's names, whose text attends to the image in every layer."""
    has = lambda prefix: any(key.startswith(prefix) for key in keys)
    text = "text_encoder" if has("text_encoder.") else "text_decoder.bert"
    return "visual_encoder.cls_token" in keys and has(f"{text}.encoder.layer.0.crossattention.")


def config_from_tensors(tensors: Tensors) -> Any:
    """A model's shape from its weights. Heads are 64 wide, or one in a miniature."""
    shapes = tensors.shapes
    vision = vit_config(shapes, "visual_encoder.")
    has = lambda prefix: any(key.startswith(prefix) for key in shapes)
    if has("cls_head."):
        return _classifier_config(vision, shapes, tensors.name)
    encoder, decoder = has("text_encoder."), has("text_decoder.")
    text = _text(shapes, "text_encoder" if encoder else "text_decoder.bert", encoder, not encoder)
    if not encoder:
        return BLIPCaptionerConfig(vision, text, PROMPT)
    if decoder and not has("itm_head."):
        words = _text(shapes, "text_decoder.bert", encoder=False, decoder=True)
        return BLIPVQAConfig(vision, text, words)
    text = dataclasses.replace(text, decoder=decoder)
    return BLIPConfig(vision, text, embed_dim=shapes["vision_proj.weight"][0])


def _text(
    shapes: Mapping[str, Sequence[int]], prefix: str, encoder: bool, decoder: bool
) -> MEDConfig:
    cfg = _bert(shapes, prefix)
    return MEDConfig(
        **dataclasses.asdict(cfg),
        memory_width=shapes[f"{prefix}.encoder.layer.0.crossattention.self.key.weight"][1],
        bos_id=cfg.vocab_size - 2,
        eos_id=SEP_ID,
        enc_id=cfg.vocab_size - 1,
        encoder=encoder,
        decoder=decoder,
    )


def _bert(shapes: Mapping[str, Sequence[int]], prefix: str) -> BertConfig:
    vocab_size, width = shapes[f"{prefix}.embeddings.word_embeddings.weight"]
    return BertConfig(
        vocab_size,
        shapes[f"{prefix}.embeddings.position_embeddings.weight"][0],
        width,
        count_layers(shapes, re.escape(prefix) + r"\.encoder\.layer\.(\d+)\..*"),
        max(1, width // 64),
        shapes[f"{prefix}.encoder.layer.0.intermediate.dense.weight"][0],
        num_types=0,
    )


def _classifier_config(
    vision: ViTConfig, shapes: Mapping[str, Sequence[int]], name: str
) -> BLIPClassifierConfig:
    text = _bert(shapes, "text_encoder")
    cross = "text_encoder.encoder.layer.{}.crossattention"
    if f"{cross.format(0)}.self0.key.weight" not in shapes:
        raise UserError(f"{name}: a classifier of one image, jvlm has BLIP's of two (NLVR2)")
    merge = f"{cross}.output.merge_layer.weight"
    merge_from = next((i for i in range(text.depth) if merge.format(i) in shapes), text.depth)
    classes = shapes["cls_head.2.weight"][0]
    return BLIPClassifierConfig(vision, text, merge_from, classes, enc_id=text.vocab_size - 1)


def read_as(cfg: Any, variant: str | None) -> Reading:
    """The model as BLIP's own code reads a file, for a task if the variant names one, or LAVIS.

    Raises:
      UserError: the official code cannot read such a file for the task.
    """
    pretrained = cfg.kind == "blip" and cfg.text.decoder
    if variant in ("captioner", "retrieval", "itm", "vqa"):
        cfg = _for_task(cfg, variant)
    length, words = LENGTHS[cfg.kind]
    if pretrained and cfg.kind == "blip" and cfg.text.decoder:
        length, words = PRETRAINING
    name = "pre_question" if cfg.kind == "blip_vqa" else "pre_caption"
    words = LAVIS_WORDS if variant == "lavis" else words
    return Reading(cfg, "blip", length, ((name, dict(variant="blip", max_words=words)),))


def _for_task(cfg: Any, task: str) -> Any:
    """models/blip.py `blip_decoder`, blip_retrieval.py, blip_itm.py, blip_vqa.py."""
    if cfg.kind == {"captioner": "blip_captioner", "vqa": "blip_vqa"}.get(task):
        return cfg
    retrieves = task in ("retrieval", "itm")
    if cfg.kind != "blip" or not (cfg.text.decoder or retrieves):
        raise UserError(f"variant {task!r} reads a pretraining file of BLIP, not {cfg.kind}'s")
    moments = dict(image_mean=cfg.image_mean, image_std=cfg.image_std)
    encoder = dataclasses.replace(cfg.text, encoder=True, decoder=False)
    decoder = dataclasses.replace(cfg.text, encoder=False, decoder=True)
    if task == "captioner":
        return BLIPCaptionerConfig(cfg.vision, decoder, PROMPT, **moments)
    if task == "vqa":
        if cfg.vision.width != cfg.text.width:
            raise UserError(
                f"variant 'vqa': this file's decoder attends to images of width "
                f"{cfg.vision.width}, one of answers to questions of width {cfg.text.width}"
            )
        return BLIPVQAConfig(cfg.vision, encoder, decoder, **moments)
    # blip_itm.py feeds texts as they are, [CLS] first.
    encoder = encoder if task == "retrieval" else dataclasses.replace(encoder, enc_id=None)
    return dataclasses.replace(cfg, text=encoder)


def skip(cfg: Any) -> tuple[str, ...]:
    """Patterns of keys that hold nothing to load."""
    if cfg.kind == "blip":
        tied = r"text_decoder\.bert\.(embeddings\..*|encoder\.layer\.\d+\.(?!attention\.).*)"
        return (*BUFFERS, tied if cfg.text.decoder else r"text_decoder\..*")
    return (*BUFFERS, *UNUSED[cfg.kind])


def rules(cfg: Any, momentum: bool = False) -> tuple[Rule, ...]:
    """The table of a model, or of the average of it that its file holds too."""
    m = "_m" if momentum else ""
    vision = vit_rules(f"visual_encoder{m}.", "vision/")
    tables = {
        "blip": _matching,
        "blip_captioner": _captions,
        "blip_vqa": _answers,
        "blip_classifier": _pairs,
    }
    return (*vision, *tables[cfg.kind](cfg, m))


def _matching(cfg: BLIPConfig, m: str) -> tuple[Rule, ...]:
    """models/blip_{pretrain,retrieval}.py. The decoder has no average of its own."""
    decoder = ()
    if cfg.text.decoder:
        decoder = (
            *self_rules("text_decoder.bert", "text/blocks", own="decoder_"),
            *word_rules("text_decoder.cls.predictions", "text/words"),
        )
    return (
        *bert_rules(f"text_encoder{m}", "text/"),
        *decoder,
        *linear(f"vision_proj{m}", "vision_proj"),
        *linear(f"text_proj{m}", "text_proj"),
        *linear("itm_head", "itm_proj"),
        Rule("temp", "temperature"),
    )


def _captions(cfg: BLIPCaptionerConfig, m: str) -> tuple[Rule, ...]:
    """models/blip.py `BLIP_Decoder`."""
    return decoder_rules("text_decoder", "text/")


def _answers(cfg: BLIPVQAConfig, m: str) -> tuple[Rule, ...]:
    """models/blip_vqa.py."""
    return (*bert_rules("text_encoder", "text/"), *decoder_rules("text_decoder", "decoder/"))


def decoder_rules(source: str, target: str) -> tuple[Rule, ...]:
    """A decoder alone: a `BertLMHeadModel`."""
    return (
        *embedding_rules(f"{source}.bert", target),
        *layer_rules(f"{source}.bert", f"{target}blocks", own="decoder_"),
        *word_rules(f"{source}.cls.predictions", f"{target}words"),
    )


def _pairs(cfg: BLIPClassifierConfig, m: str) -> tuple[Rule, ...]:
    """models/blip_nlvr.py: every layer attends to both images, the upper ones merge what they see.

    The lower ones average it.
    """
    source = "text_encoder"
    return (
        *embedding_rules(source, "text/"),
        *_pair_layers(source, "text/blocks", 0),
        *_pair_layers(source, "text/merge_blocks", cfg.merge_from),
        *linear("cls_head.0", "hidden_proj"),
        *linear("cls_head.2", "class_proj"),
    )


def _pair_layers(source: str, block: str, first: int) -> tuple[Rule, ...]:
    cross = source + ".encoder.layer.{layer}.crossattention"
    views = (
        (
            *queries_keys_values(f"{cross}.self{i}", f"{block}/cross_attn{i}"),
            *heads_out(f"{cross}.output.dense{i}", f"{block}/cross_attn{i}/out"),
        )
        for i in range(2)
    )
    own = [*sum(views, ()), *linear(f"{cross}.output.merge_layer", f"{block}/merge_proj")]
    return (
        *layer_rules(source, block, first=first),
        *(dataclasses.replace(rule, first=first) for rule in own),
    )


def copies(cfg: Any, keys: Iterable[str]) -> dict[str, str]:
    """Key -> the one whose values it has: tied word tables, and what pretraining shares."""
    keys, same = tuple(keys), {}
    shares = cfg.kind == "blip" and cfg.text.decoder
    if shares:
        for key in filter(SHARED.fullmatch, keys):
            same[key.replace("text_encoder", "text_decoder.bert", 1)] = key
    if cfg.kind in ("blip_captioner", "blip_vqa") or shares:
        output = "text_decoder.cls.predictions"
        table = "text_encoder" if shares else "text_decoder.bert"
        same[f"{output}.decoder.bias"] = f"{output}.bias"
        same[f"{output}.decoder.weight"] = f"{table}.embeddings.word_embeddings.weight"
    return same


def averaged(cfg: Any) -> tuple[str, ...]:
    """What has an average: what makes embeddings, in pretraining and retrieval."""
    parts = ("visual_encoder", "text_encoder", "vision_proj", "text_proj")
    return parts if cfg.kind == "blip" else ()


def absent(cfg: Any, shapes: Mapping[str, Sequence[int]]) -> dict[str, Sequence[int]]:
    """Nothing: all that the official models hold is used."""
    return {}


def queues(cfg: Any) -> Mapping[str, str]:
    """The objective's names -> the file's."""
    if cfg.kind != "blip":
        return {}
    features = {"image": "image_queue", "text": "text_queue"}
    if cfg.text.decoder:
        return features | {"pointer": "queue_ptr"}
    return features | {"image_id": "idx_queue", "pointer": "ptr_queue"}


def config_files(cfg: Any) -> dict[str, dict]:
    """configs/med_config.json; the official code overwrites `encoder_width` with the image's."""
    med = fields_to_hf(cfg.text, {name: None for name in FIELDS if name != "num_types"})
    return {
        "med_config.json": med
        | {
            "model_type": "bert",
            "type_vocab_size": 2,
            "encoder_width": cfg.text.width,
            "add_cross_attention": True,
        }
    }


FAMILY = PickledFamily(
    name="blip",
    title="BLIP",
    kinds=KINDS,
    config_from_tensors=config_from_tensors,
    variants=VARIANTS,
    read_as=read_as,
    rules=rules,
    skip=skip,
    copies=copies,
    averaged=averaged,
    absent=absent,
    queues=queues,
    queue_size=57600,  # configs/pretrain.yaml.
    config_files=config_files,
    untied="; variant='captioner' or 'retrieval' reads one of the two",
)
