# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""ALBEF's own files, and LAVIS's of it.

Sources: salesforce/ALBEF models/model_*.py; salesforce/LAVIS lavis/models/albef_models,
configs/models/med_config_albef.json. LAVIS gives the same names to the same tensors, but its texts
have no token types and end with [SEP].
"""

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from jvlm.convert.bert import FIELDS, bert_rules, embedding_rules, layer_rules, word_rules
from jvlm.convert.engine import Rule
from jvlm.convert.files import Tensors
from jvlm.convert.hf import fields_to_hf
from jvlm.convert.openai import count_layers
from jvlm.convert.pickled import PickledFamily, Reading
from jvlm.convert.rules import heads, linear
from jvlm.convert.timm import vit_config, vit_rules
from jvlm.models.albef import ALBEFClassifierConfig, ALBEFConfig, ALBEFVQAConfig
from jvlm.models.towers.bert import BertConfig
from jvlm.models.towers.bert_lm import BertLMConfig

CLS_ID, SEP_ID = 101, 102  # Of bert-base-uncased: an answer's first and last token.

# Buffers; the average, which a file's own training goes on with; what is held twice: the output
# layer of words, and the keys and values that two layers share.
SKIP = (
    r".*_m\..*",
    r".*(position_ids|_queue|queue_ptr|ptr_queue)",
    r".*predictions\.decoder\.(weight|bias)",
    r"text_encoder\.encoder\.layer\.\d+\.crossattention\.self\.(key|value)\..*",
    r"(text_proj\..*|temp)",  # Of text assignment, which does not use them.
)

# Name of a model -> its config.
KINDS = {config.kind: config for config in (ALBEFConfig, ALBEFVQAConfig, ALBEFClassifierConfig)}
QUEUES = {"image": "image_queue", "text": "text_queue", "pointer": "queue_ptr"}
TYPES = r".*embeddings\.token_type_embeddings\.weight"
# Tokens of a text: configs/*.yaml of the official code; LAVIS's `max_txt_len`, and 35 of
# `compute_sim_matrix`.
LENGTH = 30
LAVIS_LENGTHS = {"albef": 35, "albef_vqa": 25, "albef_classifier": 40}


def is_own(keys: Collection[str]) -> bool:
    """Whether tensors have ALBEF's names. BLIP's text attends to the image in every layer."""
    first = re.compile(r"text_encoder\.(bert\.)?encoder\.layer\.0\.(\w+)\..*")
    parts = {match[2] for key in keys if (match := first.fullmatch(key))}
    is_text_alone = "attention" in parts and "crossattention" not in parts
    return is_text_alone and "visual_encoder.cls_token" in keys


def config_from_tensors(
    tensors: Tensors,
) -> ALBEFConfig | ALBEFVQAConfig | ALBEFClassifierConfig:
    """A model's shape from its weights. Heads are 64 wide, or one in a miniature."""
    shapes = tensors.shapes
    vision = vit_config(shapes, "visual_encoder.")
    mlm = "text_encoder.cls.predictions.bias" in shapes
    prefix = "text_encoder.bert" if mlm else "text_encoder"
    layers = count_layers(shapes, re.escape(prefix) + r"\.encoder\.layer\.(\d+)\..*")
    crossed = f"{prefix}.encoder.layer.{{}}.crossattention.self.query.weight"
    alone = next(i for i in range(layers + 1) if i == layers or crossed.format(i) in shapes)
    text = _text(shapes, prefix, alone)
    if "text_decoder.cls.predictions.bias" in shapes:
        depth = count_layers(shapes, r"text_decoder\.bert\.encoder\.layer\.(\d+)\..*")
        lower = dataclasses.asdict(_text(shapes, "text_decoder.bert", depth))
        special = dict(causal=True, memory_width=text.width, bos_id=CLS_ID, eos_id=SEP_ID)
        return ALBEFVQAConfig(vision, text, layers - alone, BertLMConfig(**lower, **special))
    for head in ("ta_head", "cls_head.2"):
        if f"{head}.weight" in shapes:
            classes = shapes[f"{head}.weight"][0]
            linear = head == "ta_head"
            # Text assignment's file is NLVR2's start; SNLI-VE's layers are those of pretraining.
            images = 2 if linear or layers - alone > alone else 1
            return ALBEFClassifierConfig(
                vision,
                text,
                (layers - alone) // images,
                classes,
                images,
                "linear" if linear else "mlp",
                shapes["vision_proj.weight"][0] if linear else None,
            )
    return ALBEFConfig(
        vision,
        text,
        layers - alone,
        shapes["vision_proj.weight"][0],
        mlm=mlm,
    )


def _text(shapes: Mapping[str, Sequence[int]], prefix: str, depth: int) -> BertConfig:
    embeddings = f"{prefix}.embeddings"
    vocab_size, width = shapes[f"{embeddings}.word_embeddings.weight"]
    return BertConfig(
        vocab_size,
        shapes[f"{embeddings}.position_embeddings.weight"][0],
        width,
        depth,
        max(1, width // 64),
        shapes[f"{prefix}.encoder.layer.0.intermediate.dense.weight"][0],
        num_types=shapes.get(f"{embeddings}.token_type_embeddings.weight", (0,))[0],
    )


def read_as(cfg: Any, variant: str | None) -> Reading:
    """The model as ALBEF's own code reads a file, or LAVIS."""
    if variant == "lavis" or (variant is None and not cfg.text.num_types):
        cfg = without_types(cfg)
        return Reading(cfg, "lavis", LAVIS_LENGTHS[cfg.kind], cleaning(cfg.kind, lavis=True))
    return Reading(cfg, "albef", LENGTH, cleaning(cfg.kind, lavis=False))


def without_types(cfg: ALBEFConfig | ALBEFVQAConfig | ALBEFClassifierConfig) -> Any:
    """The model as LAVIS builds it, which leaves out the token types of the original's files."""
    towers = {
        name: dataclasses.replace(getattr(cfg, name), num_types=0)
        for name in ("text", "decoder")
        if hasattr(cfg, name)
    }
    return dataclasses.replace(cfg, **towers)


def cleaning(kind: str, lavis: bool) -> tuple:
    """Text transforms of its evaluation: dataset/*.py; LAVIS processors/blip_processors.py."""
    name = "pre_question" if kind == "albef_vqa" else "pre_caption"
    words = 50 if lavis or kind == "albef_vqa" else 30
    return ((name, dict(variant="blip" if lavis else "albef", max_words=words)),)


def skip(cfg: ALBEFConfig | ALBEFVQAConfig | ALBEFClassifierConfig) -> tuple[str, ...]:
    """Patterns of keys that hold nothing to load."""
    return SKIP if cfg.text.num_types else (*SKIP, TYPES)


def rules(
    cfg: ALBEFConfig | ALBEFVQAConfig | ALBEFClassifierConfig, momentum: bool = False
) -> tuple[Rule, ...]:
    """The table of a model, or of the average of it that its file holds too."""
    tables = {"albef": _matching, "albef_vqa": _answers, "albef_classifier": _classifier}
    return tables[cfg.kind](cfg, "_m" if momentum else "")


def _matching(cfg: ALBEFConfig, m: str) -> tuple[Rule, ...]:
    """models/model_{pretrain,retrieval}.py.

    Pretraining keeps BERT below `text_encoder.bert`, beside its word head; the others do not.
    """
    return (
        *_encoders(m, f"text_encoder{m}.bert" if cfg.mlm else f"text_encoder{m}", cfg.text.depth),
        *linear(f"vision_proj{m}", "vision_proj"),
        *linear(f"text_proj{m}", "text_proj"),
        *linear("itm_head", "itm_proj"),
        *word_rules(f"text_encoder{m}.cls.predictions", "words"),
        Rule("temp", "temperature"),
    )


def _answers(cfg: ALBEFVQAConfig, m: str) -> tuple[Rule, ...]:
    """models/model_vqa.py."""
    decoder = f"text_decoder{m}"
    return (
        *_encoders(m, f"text_encoder{m}", cfg.text.depth),
        *bert_rules(f"{decoder}.bert", "decoder/"),
        *word_rules(f"{decoder}.cls.predictions", "decoder/words"),
    )


def _classifier(cfg: ALBEFClassifierConfig, m: str) -> tuple[Rule, ...]:
    """models/model_{ve,nlvr,pretrain_nlvr}.py."""
    text, depth = f"text_encoder{m}", cfg.text.depth
    head = (*linear(f"cls_head{m}.0", "hidden_proj"), *linear(f"cls_head{m}.2", "class_proj"))
    if cfg.head == "linear":
        head = (*linear("ta_head", "class_proj"), *linear("vision_proj", "vision_proj"))
    if cfg.num_images == 1:
        return (*_encoders(m, text, depth), *head)
    # Both layers of a pair hold the keys and values that they share.
    cross = f"{text}.encoder.layer." + "{layer}.crossattention.self"
    shared = (
        *heads(f"{cross}.key", "fusion/blocks/shared_attn/k"),
        *heads(f"{cross}.value", "fusion/blocks/shared_attn/v"),
    )
    return (
        *_encoders(m, text, depth),
        *layer_rules(text, "fusion/blocks/first", first=depth, step=2),
        *layer_rules(text, "fusion/blocks/second", first=depth + 1, step=2),
        *(dataclasses.replace(rule, first=depth + 1, step=2) for rule in shared),
        *head,
    )


def _encoders(m: str, text: str, depth: int) -> tuple[Rule, ...]:
    return (
        *vit_rules(f"visual_encoder{m}.", "vision/"),
        *embedding_rules(text, "text/"),
        *layer_rules(text, "text/blocks"),
        *layer_rules(text, "fusion/blocks", first=depth),
    )


def copies(cfg: Any, keys: Iterable[str]) -> dict[str, str]:
    """Key -> the one whose values it has."""
    same = {}
    for key in keys:
        stem, found, _ = key.partition(".predictions.bias")
        if found:
            model = stem.removesuffix(".cls")
            same[f"{stem}.predictions.decoder.bias"] = key
            table = f"{model}.bert.embeddings.word_embeddings.weight"
            same[f"{stem}.predictions.decoder.weight"] = table
        if cfg.kind == "albef_classifier" and cfg.num_images == 2:
            match = re.fullmatch(
                r"(.*layer\.)(\d+)(\.crossattention\.self\.(?:key|value)\..*)", key
            )
            if match and (int(match[2]) - cfg.text.depth) % 2:
                same[f"{match[1]}{int(match[2]) - 1}{match[3]}"] = key
    return same


def averaged(cfg: Any) -> tuple[str, ...]:
    """What has an average: everything but the head of matches; nothing in text assignment."""
    if cfg.kind == "albef_classifier" and cfg.head == "linear":
        return ()
    towers = ("visual_encoder", "text_encoder", "text_decoder")
    return (*towers, "vision_proj", "text_proj", "cls_head")


def absent(cfg: Any, shapes: Mapping[str, Sequence[int]]) -> dict[str, Sequence[int]]:
    """The token types of LAVIS's models; `text_proj` and `temp` of text assignment."""
    types = ((key.partition(".word_embeddings.")[0], key) for key in shapes if ".word_emb" in key)
    more = {f"{stem}.token_type_embeddings.weight": (2, shapes[key][1]) for stem, key in types}
    if cfg.kind == "albef_classifier" and cfg.head == "linear":
        more["text_proj.weight"] = (cfg.embed_dim, cfg.text.width)
        more |= {"text_proj.bias": (cfg.embed_dim,), "temp": ()}
    return {key: shape for key, shape in more.items() if key not in shapes}


def queues(cfg: Any) -> Mapping[str, str]:
    """The objective's names -> the file's."""
    if cfg.kind != "albef":
        return {}
    return QUEUES if cfg.mlm else QUEUES | {"image_id": "idx_queue"}


def config_files(cfg: Any) -> dict[str, dict]:
    """configs/config_bert.json of the official code."""
    bert = fields_to_hf(cfg.text, FIELDS) | {
        "model_type": "bert",
        "type_vocab_size": 2,
        "num_hidden_layers": cfg.text.depth + cfg.fusion_depth,
        "fusion_layer": cfg.text.depth,
        "encoder_width": cfg.vision.width,
    }
    return {"config_bert.json": bert}


FAMILY = PickledFamily(
    name="albef",
    title="ALBEF",
    kinds=KINDS,
    config_from_tensors=config_from_tensors,
    variants=("original", "lavis"),
    read_as=read_as,
    rules=rules,
    skip=skip,
    copies=copies,
    averaged=averaged,
    absent=absent,
    queues=queues,
    queue_size=65536,  # configs/Pretrain.yaml.
    config_files=config_files,
)
