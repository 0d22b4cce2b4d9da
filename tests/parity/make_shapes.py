# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records the tensors of every published checkpoint, from the official code without weights.

python -m tests.parity.make_shapes    # writes tests/golden/shapes/*.tsv

The lists are those of the official code's state dicts. Files that transformers wrote before 4.31
hold `*.embeddings.position_ids` besides, Chinese-CLIP's own ones `module.bert.pooler.*`, Google's
BERTs a pooler and `cls.seq_relationship`.
"""

import copy
import json
import pathlib
from collections.abc import Iterable

import torch
import transformers

from tests import published_shapes
from tests.parity.stubs import import_cn_clip, import_open_clip, import_openai_clip
from tests.published_shapes import Published

transformers.logging.set_verbosity_error()  # SigLIP's default ids exceed its vocabulary.

# openai/CLIP has the sizes in its files only; the table is the paper's (appendix F), the blocks of
# the large ResNets are those of open_clip's configs. Size, blocks, width, patch, embedding, and the
# text tower's width; it has always 12 blocks, and heads of 64 dimensions.
OPENAI = {
    "RN50": (224, (3, 4, 6, 3), 64, None, 1024, 512),
    "RN101": (224, (3, 4, 23, 3), 64, None, 512, 512),
    "RN50x4": (288, (4, 6, 10, 6), 80, None, 640, 640),
    "RN50x16": (384, (6, 8, 18, 8), 96, None, 768, 768),
    "RN50x64": (448, (3, 15, 36, 10), 128, None, 1024, 1024),
    "ViT-B/32": (224, 12, 768, 32, 512, 512),
    "ViT-B/16": (224, 12, 768, 16, 512, 512),
    "ViT-L/14": (224, 24, 1024, 14, 768, 768),
    "ViT-L/14@336px": (336, 24, 1024, 14, 768, 768),
}
OPEN_CLIP = ["RN50", "RN101", "RN50x4", "RN50x16", "RN50x64", "ViT-B-32", "ViT-B-16", "ViT-L-14"]
OPEN_CLIP += ["ViT-L-14-336", "ViT-H-14", "ViT-g-14", "ViT-bigG-14"]


def tower(width, depth, heads, mlp=None):
    """A section of a config.json."""
    return dict(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=mlp or 4 * width,
    )


def clip(embed_dim, vision, patch, text, act, size=224):
    sizes = dict(patch_size=patch, image_size=size, hidden_act=act)
    return dict(
        model_type="clip",
        projection_dim=embed_dim,
        vision_config={**tower(*vision), **sizes},
        text_config={**tower(*text), "hidden_act": act, "eos_token_id": 2},
    )


def chinese(embed_dim, vision, patch, text, size=224):
    return dict(
        model_type="chinese_clip",
        projection_dim=embed_dim,
        vision_config={**tower(*vision), "patch_size": patch, "image_size": size},
        text_config={**tower(*text), "vocab_size": 21128},
    )


def siglip(width, patch, size, length=64, vocab=32000):
    depth, heads, mlp = {
        768: (12, 12, 3072),
        1024: (24, 16, 4096),
        1152: (27, 16, 4304),
    }[width]
    both = tower(width, depth, heads, mlp)
    return dict(
        model_type="siglip",
        vision_config={**both, "patch_size": patch, "image_size": size},
        text_config={**both, "vocab_size": vocab, "max_position_embeddings": length},
    )


BASE, LARGE, HUGE = (768, 12, 12), (1024, 24, 16), (1280, 32, 16)
HF_CLIP = {
    "openai/clip-vit-base-patch32": clip(512, BASE, 32, (512, 12, 8), "quick_gelu"),
    "openai/clip-vit-base-patch16": clip(512, BASE, 16, (512, 12, 8), "quick_gelu"),
    "openai/clip-vit-large-patch14": clip(768, LARGE, 14, (768, 12, 12), "quick_gelu"),
    "openai/clip-vit-large-patch14-336": clip(768, LARGE, 14, (768, 12, 12), "quick_gelu", 336),
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": clip(1024, HUGE, 14, (1024, 24, 16), "gelu"),
    "laion/CLIP-ViT-g-14-laion2B-s12B-b42K": clip(
        1024, (1408, 40, 16, 6144), 14, (1024, 24, 16), "gelu"
    ),
    "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k": clip(
        1280, (1664, 48, 16, 8192), 14, (1280, 32, 20), "gelu"
    ),
}
HF_CHINESE_CLIP = {
    "OFA-Sys/chinese-clip-vit-base-patch16": chinese(512, BASE, 16, BASE),
    "OFA-Sys/chinese-clip-vit-large-patch14": chinese(768, LARGE, 14, BASE),
    "OFA-Sys/chinese-clip-vit-large-patch14-336px": chinese(768, LARGE, 14, BASE, 336),
    "OFA-Sys/chinese-clip-vit-huge-patch14": chinese(1024, HUGE, 14, (1024, 24, 16)),
}
HF_SIGLIP = {
    "google/siglip-base-patch16-224": siglip(768, 16, 224),
    "google/siglip-base-patch16-256": siglip(768, 16, 256),
    "google/siglip-base-patch16-384": siglip(768, 16, 384),
    "google/siglip-base-patch16-512": siglip(768, 16, 512),
    "google/siglip-large-patch16-256": siglip(1024, 16, 256),
    "google/siglip-large-patch16-384": siglip(1024, 16, 384),
    "google/siglip-so400m-patch14-224": siglip(1152, 14, 224, length=16),
    # 384 is no multiple of 14: the last 6 rows and columns are not seen.
    "google/siglip-so400m-patch14-384": siglip(1152, 14, 384),
}


def gpt2(width, depth, heads):
    sizes = dict(n_embd=width, n_layer=depth, n_head=heads, n_positions=1024, vocab_size=50257)
    return dict(model_type="gpt2", activation_function="gelu_new", **sizes)


def opt(width, depth, heads, **options):
    sizes = dict(tower(width, depth, heads), ffn_dim=4 * width, vocab_size=50272)
    del sizes["intermediate_size"]
    return dict(model_type="opt", max_position_embeddings=2048, **sizes, **options)


def llama(shape, length=2048, eps=1e-6, kv_heads=None, **options):
    sizes = dict(max_position_embeddings=length, rms_norm_eps=eps)
    return dict(
        model_type="llama",
        **{"vocab_size": 32000, **tower(*shape), **sizes, **options},
        **({"num_key_value_heads": kv_heads} if kv_heads else {}),
    )


def llama3(shape, length=131072, factor=None, **options):
    ids = dict(bos_token_id=128000, eos_token_id=128001, vocab_size=128256)
    if factor:
        options["rope_scaling"] = dict(
            factor=factor,
            high_freq_factor=4.0,
            low_freq_factor=1.0,
            original_max_position_embeddings=8192,
            rope_type="llama3",
        )
    return llama(shape, length, 1e-5, 8, rope_theta=500000.0, **ids, **options)


def t5(width, depth, heads, head_dim, mlp, gated=False):
    sizes = dict(d_model=width, num_layers=depth, num_heads=heads, d_kv=head_dim, d_ff=mlp)
    config = dict(model_type="t5", vocab_size=32128, decoder_start_token_id=0, **sizes)
    if gated:
        config |= dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    return config


def bert(shape, vocab):
    return dict(model_type="bert", vocab_size=vocab, **tower(*shape))


HF_GPT2 = {
    "openai-community/gpt2": gpt2(768, 12, 12),
    "openai-community/gpt2-medium": gpt2(1024, 24, 16),
    "openai-community/gpt2-large": gpt2(1280, 36, 20),
    "openai-community/gpt2-xl": gpt2(1600, 48, 25),
}
HF_OPT = {
    "facebook/opt-125m": opt(768, 12, 12),
    "facebook/opt-350m": opt(1024, 24, 16, word_embed_proj_dim=512, do_layer_norm_before=False),
    "facebook/opt-1.3b": opt(2048, 24, 32),
    "facebook/opt-2.7b": opt(2560, 32, 32),
    "facebook/opt-6.7b": opt(4096, 32, 32),
    "facebook/opt-13b": opt(5120, 40, 40),
    "facebook/opt-30b": opt(7168, 48, 56),
    "facebook/opt-66b": opt(9216, 64, 72),
    "facebook/opt-175b": opt(12288, 96, 96),
}
B7, B13 = (4096, 32, 32, 11008), (5120, 40, 40, 13824)
SIXTEEN = dict(max_sequence_length=16384, rope_scaling=dict(type="linear", factor=4.0))
HF_LLAMA = {
    "huggyllama/llama-7b": llama(B7),
    "huggyllama/llama-13b": llama(B13),
    "huggyllama/llama-30b": llama((6656, 60, 52, 17920)),
    "huggyllama/llama-65b": llama((8192, 80, 64, 22016), eps=1e-5),
    "meta-llama/Llama-2-7b-hf": llama(B7, 4096, 1e-5),
    "meta-llama/Llama-2-13b-hf": llama(B13, 4096, 1e-5),
    "meta-llama/Llama-2-70b-hf": llama((8192, 80, 64, 28672), 4096, 1e-5, 8),
    "lmsys/vicuna-7b-v1.1": llama(B7, pad_token_id=0),
    "lmsys/vicuna-13b-v1.3": llama(B13, pad_token_id=0),
    "lmsys/vicuna-7b-v1.5": llama(B7, 4096, 1e-5, pad_token_id=0),
    "lmsys/vicuna-13b-v1.5": llama(B13, 4096, 1e-5, pad_token_id=0),
    "lmsys/vicuna-7b-v1.5-16k": llama(B7, 4096, 1e-5, pad_token_id=0, **SIXTEEN),
    "lmsys/vicuna-13b-v1.5-16k": llama(B13, 4096, 1e-5, pad_token_id=0, **SIXTEEN),
    "TinyLlama/TinyLlama-1.1B": llama((2048, 22, 32, 5632), 2048, 1e-5, 4),
    "meta-llama/Meta-Llama-3-8B": llama3((4096, 32, 32, 14336), 8192),
    "meta-llama/Meta-Llama-3-70B": llama3((8192, 80, 64, 28672), 8192),
    "meta-llama/Llama-3.1-8B": llama3((4096, 32, 32, 14336), factor=8.0),
    "meta-llama/Llama-3.1-70B": llama3((8192, 80, 64, 28672), factor=8.0),
    "meta-llama/Llama-3.2-1B": llama3(
        (2048, 16, 32, 8192), factor=32.0, head_dim=64, tie_word_embeddings=True
    ),
    "meta-llama/Llama-3.2-3B": llama3(
        (3072, 28, 24, 8192), factor=32.0, head_dim=128, tie_word_embeddings=True
    ),
}
GATED = {
    "small": (512, 8, 6, 64, 1024),
    "base": (768, 12, 12, 64, 2048),
    "large": (1024, 24, 16, 64, 2816),
    "xl": (2048, 24, 32, 64, 5120),
    "xxl": (4096, 24, 64, 64, 10240),
}
HF_T5 = {
    "google-t5/t5-small": t5(512, 6, 8, 64, 2048),
    "google-t5/t5-base": t5(768, 12, 12, 64, 3072),
    "google-t5/t5-large": t5(1024, 24, 16, 64, 4096),
    "google-t5/t5-3b": t5(1024, 24, 32, 128, 16384),
    "google-t5/t5-11b": t5(1024, 24, 128, 128, 65536),
    **{f"google/t5-v1_1-{name}": t5(*shape, gated=True) for name, shape in GATED.items()},
    **{f"google/flan-t5-{name}": t5(*shape, gated=True) for name, shape in GATED.items()},
}
HF_BERT = {
    "google-bert/bert-base-uncased": bert(BASE, 30522),
    "google-bert/bert-large-uncased": bert(LARGE, 30522),
    "google-bert/bert-base-cased": bert(BASE, 28996),
    "google-bert/bert-large-cased": bert(LARGE, 28996),
    "google-bert/bert-base-multilingual-uncased": bert(BASE, 105879),
    "google-bert/bert-base-multilingual-cased": bert(BASE, 119547),
    "google-bert/bert-base-chinese": bert(BASE, 21128),
    "hfl/chinese-roberta-wwm-ext": bert(BASE, 21128),
    "hfl/chinese-roberta-wwm-ext-large": bert(LARGE, 21128),
    "hfl/rbt3": bert((768, 3, 12), 21128),
    "hfl/rbtl3": bert((1024, 3, 16), 21128),
}


def blip(architecture, vision, size):
    """Heads of texts, which the class would have 8 of, are said in all of them."""
    text = dict(tower(*BASE), encoder_hidden_size=vision[0])
    return dict(
        architectures=[architecture],
        model_type="blip",
        text_config=text,
        vision_config={**tower(*vision), "image_size": size},
    )


CAPTIONS, PAIRS, ANSWERS = (
    f"BlipFor{use}" for use in ("ConditionalGeneration", "ImageTextRetrieval", "QuestionAnswering")
)
HF_BLIP = {
    "Salesforce/blip-image-captioning-base": blip(CAPTIONS, BASE, 384),
    "Salesforce/blip-image-captioning-large": blip(CAPTIONS, LARGE, 384),
    "Salesforce/blip-itm-base-coco": blip(PAIRS, BASE, 384),
    "Salesforce/blip-itm-large-coco": blip(PAIRS, LARGE, 384),
    "Salesforce/blip-vqa-base": blip(ANSWERS, BASE, 384),
}


def describe(model: torch.nn.Module, origin: str, config: dict, prefix: str = "") -> Published:
    """Shapes of a model's state."""
    tensors = {f"{prefix}{key}": tuple(value.shape) for key, value in model.state_dict().items()}
    return Published(origin, config, sum(p.numel() for p in model.parameters()), tensors)


def openai() -> Iterable[tuple[str, Published]]:
    origin = "openai/CLIP README and paper; blocks of ResNets: open_clip model_configs"
    names = ("image_resolution", "vision_layers", "vision_width", "vision_patch_size", "embed_dim")
    for name, (*sizes, text_width) in OPENAI.items():
        config = dict(zip(names, sizes))
        text = (77, 49408, text_width, text_width // 64, 12)
        model = import_openai_clip().CLIP(config["embed_dim"], *sizes[:4], *text)
        published = describe(model, origin, config)
        for buffer in ("input_resolution", "context_length", "vocab_size"):
            published.tensors[buffer] = ()
        yield name, published


def open_clip() -> Iterable[tuple[str, Published]]:
    library = import_open_clip()
    for name in OPEN_CLIP:
        config = library.get_model_config(name)
        origin = f"open_clip_torch {library.__version__} model_configs/{name}.json"
        yield name, describe(library.CLIP(**config), origin, dict(model_cfg=config))


def cn_clip() -> Iterable[tuple[str, Published]]:
    library = import_cn_clip()
    folder = pathlib.Path(library.__file__).parent / "model_configs"
    for name, info in library.utils._MODEL_INFO.items():
        parts = info["struct"].split("@")
        config = {}
        for part in parts:
            config |= json.loads((folder / f"{part}.json").read_text())
        if isinstance(config["vision_layers"], str):
            config["vision_layers"] = json.loads(config["vision_layers"])
        origin = f"cn_clip model_configs/{parts[0]}.json and {parts[1]}.json"
        yield name, describe(library.model.CLIP(**config), origin, config, prefix="module.")


def hf(model_class, configs) -> Iterable[tuple[str, Published]]:
    origin = "memory; sizes as in the original code and open_clip's configs"
    for name, config in configs.items():
        model = model_class(model_class.config_class.from_dict(copy.deepcopy(config)))
        yield name, describe(model, origin, config)


def hf_language(model_class, configs) -> Iterable[tuple[str, Published]]:
    """As safetensors files have them: what is tied once. Without a class the config says it."""
    origin = "memory; sizes as in the papers"
    for name, config in configs.items():
        if "architectures" in config:
            model_class = getattr(transformers, config["architectures"][0])
        model = model_class(model_class.config_class.from_dict(copy.deepcopy(config)))
        tied = set(model.all_tied_weights_keys)
        if config["model_type"] == "t5" and not config.get("tie_word_embeddings", True):
            # transformers 5 ties all T5s when it makes them.
            model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
            tied.remove("lm_head.weight")
        published = describe(model, origin, config)
        for key in tied:
            del published.tensors[key]
        yield name, published


SOURCES = {
    "openai": openai,
    "open_clip": open_clip,
    "cn_clip": cn_clip,
    "hf_clip": lambda: hf(transformers.CLIPModel, HF_CLIP),
    "hf_chinese_clip": lambda: hf(transformers.ChineseCLIPModel, HF_CHINESE_CLIP),
    "hf_siglip": lambda: hf(transformers.SiglipModel, HF_SIGLIP),
    "hf_bert": lambda: hf_language(transformers.BertForMaskedLM, HF_BERT),
    "hf_blip": lambda: hf_language(None, HF_BLIP),
    "hf_gpt2": lambda: hf_language(transformers.GPT2LMHeadModel, HF_GPT2),
    "hf_llama": lambda: hf_language(transformers.LlamaForCausalLM, HF_LLAMA),
    "hf_opt": lambda: hf_language(transformers.OPTForCausalLM, HF_OPT),
    "hf_t5": lambda: hf_language(transformers.T5ForConditionalGeneration, HF_T5),
}


def make(source: str) -> str:
    """The text of a source's file."""
    with torch.device("meta"):
        return published_shapes.table(dict(SOURCES[source]()))


def main():
    published_shapes.FOLDER.mkdir(exist_ok=True)
    for source in SOURCES:
        text = make(source)
        (published_shapes.FOLDER / f"{source}.tsv").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
