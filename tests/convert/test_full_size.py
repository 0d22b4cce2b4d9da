# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Every published checkpoint, at full size and without its numbers: each tensor has its place."""

import dataclasses
import types

import jax
import pytest

from jvlm import paths
from jvlm.convert import HF_FAMILIES, albef, blip, chinese_clip, clip, engine, siglip
from jvlm.convert import openai as openai_form
from jvlm.models import MODELS as KINDS
from jvlm.models import build_model
from jvlm.models.albef import CLASSIFIER_VARIANTS as ALBEF_CLASSIFIERS
from jvlm.models.albef import VARIANTS as ALBEFS
from jvlm.models.albef import VQA_VARIANTS as VQA_ALBEFS
from jvlm.models.chinese_clip import VARIANTS as CHINESE
from jvlm.models.clip import CLIP, CLIPConfig
from jvlm.models.clip import VARIANTS as CLIPS
from jvlm.models.siglip import VARIANTS as SIGLIPS
from jvlm.precision import is_statistic
from tests import published_shapes


def named(model, name):
    """The tensors of a checkpoint, as `files` gives them."""
    shapes = {key.removeprefix("module."): shape for key, shape in model.tensors.items()}
    return types.SimpleNamespace(name=name, shapes=shapes)


def hf(table):
    """How a checkpoint of transformers is opened."""
    return lambda model, _: (
        table.config_from_hf(model.config),
        lambda cfg, _: table.HF_RULES,
        table.HF_SKIP,
    )


def hf_language(kind):
    family = HF_FAMILIES[kind]
    return lambda model, _: (family.from_hf(model.config), lambda cfg, _: family.rules(cfg), ())


def hf_blip(model, tensors):
    """Retrieval's temperature is in the config."""
    family = HF_FAMILIES["blip"]
    cfg = family.from_hf(model.config)
    tensors.shapes |= {path: () for path, field in family.in_config.items() if hasattr(cfg, field)}
    return cfg, lambda cfg, _: family.rules(cfg), family.skip


def openai(_, tensors):
    rules = lambda cfg, _: openai_form.openai_rules(cfg)
    return openai_form.config_from_openai(tensors), rules, openai_form.SKIP


def open_clip(model, _):
    rules = lambda cfg, _: openai_form.openai_rules(cfg)
    return openai_form.config_from_open_clip(model.config["model_cfg"]), rules, openai_form.SKIP


def cn_clip(_, tensors):
    return chinese_clip.config_from_cn(tensors), chinese_clip.cn_rules, chinese_clip.CN_SKIP


def pickled(table):
    """How a system's own file is opened."""

    def opened(_, tensors):
        assert table.is_own(tensors.shapes)
        assert not any(other.is_own(tensors.shapes) for other in OWN if other is not table)
        cfg = table.config_from_tensors(tensors)
        return cfg, lambda cfg, _: table.rules(cfg), table.skip(cfg)

    return opened


OWN = (albef, blip)
LANGUAGE = ("bert", "gpt2", "llama", "opt", "t5")
SOURCES = {
    "albef": pickled(albef),
    "blip": pickled(blip),
    "cn_clip": cn_clip,
    "hf_blip": hf_blip,
    "hf_chinese_clip": hf(chinese_clip),
    "hf_clip": hf(clip),
    "hf_siglip": hf(siglip),
    "lavis": pickled(albef),
    "lavis_blip": pickled(blip),
    "open_clip": open_clip,
    "openai": openai,
    **{f"hf_{kind}": hf_language(kind) for kind in LANGUAGE},
}
MODELS = {source: published_shapes.read(source) for source in SOURCES}
CASES = [(source, name) for source in SOURCES for name in MODELS[source]]


@pytest.mark.parametrize("source, name", CASES)
def test_every_tensor_has_its_place(source, name):
    model = MODELS[source][name]
    tensors = named(model, name)
    cfg, rules, skip = SOURCES[source](model, tensors)
    module = CLIP(cfg) if isinstance(cfg, CLIPConfig) else KINDS[cfg.kind][0](cfg)
    params = jax.eval_shape(module.init, jax.random.key(0), module.dummy_batch(1))["params"]
    flat = paths.flatten(params)
    engine.check(tensors, engine.plan(rules(cfg, tensors), flat), skip, flat)
    weights = {path: leaf for path, leaf in flat.items() if not is_statistic(path)}
    stated = HF_FAMILIES["blip"].in_config if source == "hf_blip" else ()
    weights = {path: leaf for path, leaf in weights.items() if path not in stated}
    assert paths.count(weights) == model.parameters


# Published name -> ours; transformers' and OpenAI's say where texts end, ours of LAION do not.
SAME = {
    ("cn_clip", "RN50"): CHINESE["RN50"],
    ("cn_clip", "ViT-H-14"): CHINESE["ViT-H/14"],
    ("hf_chinese_clip", "OFA-Sys/chinese-clip-vit-base-patch16"): CHINESE["ViT-B/16"],
    ("hf_clip", "openai/clip-vit-large-patch14-336"): CLIPS["ViT-L/14@336-quickgelu"],
    ("open_clip", "RN50x64"): CLIPS["RN50x64"],
    ("open_clip", "ViT-bigG-14"): CLIPS["ViT-bigG/14"],
    ("openai", "RN50x4"): CLIPS["RN50x4-quickgelu"],
    ("openai", "ViT-B/32"): CLIPS["ViT-B/32-quickgelu"],
    ("hf_siglip", "google/siglip-large-patch16-256"): SIGLIPS["L/16-256"],
    ("hf_siglip", "google/siglip-so400m-patch14-384"): SIGLIPS["So400m/14-384"],
}


@pytest.mark.parametrize("source, name", SAME)
def test_variants_are_the_published_models(source, name):
    """Whoever builds a variant and whoever imports the checkpoint gets the same tree."""
    model = MODELS[source][name]
    cfg = SOURCES[source](model, named(model, name))[0]
    ours = SAME[source, name]
    # Heads may be counted or measured.
    for side in ("vision", "text"):
        got, want = getattr(cfg, side), getattr(ours, side)
        for field in ("width", "depth", "num_heads", "mlp_dim", "activation", "norm_eps", "layers"):
            assert getattr(got, field, None) == getattr(want, field, None), (side, field)
        assert getattr(got, "heads", None) == getattr(want, "heads", None)
    assert (cfg.embed_dim, cfg.vision_proj, cfg.text_proj) == (
        *(ours.embed_dim, ours.vision_proj, ours.text_proj),
    )


def test_variants_of_albef_are_the_published_models():
    same = {
        "ALBEF": ALBEFS["base"],
        "mscoco": ALBEFS["base@384"],
        "vqa": VQA_ALBEFS["base@384"],
        "ve": ALBEF_CLASSIFIERS["ve@384"],
        "nlvr": ALBEF_CLASSIFIERS["nlvr@384"],
        "pretrain_model_nlvr": ALBEF_CLASSIFIERS["text_assignment"],
    }
    for name, model in MODELS["albef"].items():
        assert albef.config_from_tensors(named(model, name)) == same[name], name


def test_variants_of_blip_are_the_published_models():
    same = {
        "model_base": ("blip", "base"),
        "model_large": ("blip", "large"),
        "model_base_retrieval_coco": ("blip", "base@384"),
        "model_large_retrieval_coco": ("blip", "large@384"),
        "model_base_caption_capfilt_large": ("blip_captioner", "base@384"),
        "model_large_caption": ("blip_captioner", "large@384"),
        "model_base_vqa_capfilt_large": ("blip_vqa", "base@480"),
        "model_base_nlvr": ("blip_classifier", "nlvr@384"),
    }
    for name, model in MODELS["blip"].items():
        kind, variant = same[name]
        ours = KINDS[kind][2][variant]
        # Branches are left out in training only.
        ours = dataclasses.replace(ours, vision=dataclasses.replace(ours.vision, drop_path=0.0))
        assert blip.config_from_tensors(named(model, name)) == ours, name


@pytest.mark.parametrize("kind", LANGUAGE)
def test_variants_of_language_models_are_the_published_ones(kind):
    """Each is the config of some checkpoint, and each checkpoint has one."""
    published = {SOURCES[f"hf_{kind}"](m, None)[0] for m in MODELS[f"hf_{kind}"].values()}
    assert published == set(KINDS[kind][2].values())


def test_a_section_describes_a_variant():
    """What `save` writes down is what `build_model` reads."""
    from jvlm.config import from_dataclass

    for cfg in (CHINESE["RN50"], SIGLIPS["B/16"], CLIPS["ViT-H/14"]):
        assert build_model({"name": "clip", **from_dataclass(cfg)}).cfg == cfg
