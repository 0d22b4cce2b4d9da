# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Language models as transformers and the hub have them: tiny, random, with their logits."""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.parity.references import common
from tests.parity.references.common import write_json
from tests.parity.references.hf import quiet, tower

V, ROWS, LENGTH = 40, 4, 9
LENGTHS = (9, 2, 5, 7)  # Tokens of each row.


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """A checkpoint as published, and what transformers makes of batches.

    Attributes:
      path: a folder.
      model_class: transformers'.
      batches: name of the padded side -> batch.
      logits: name -> float32[B, T, V]; compare where `mask` is true.
      mask: name -> bool[B, T].
    """

    path: Path
    model_class: type
    batches: Mapping[str, Mapping[str, np.ndarray]]
    logits: Mapping[str, np.ndarray]
    mask: Mapping[str, np.ndarray]


def reference(
    folder: Path,
    *,
    model_class: type,
    config: dict,
    save: Callable,
    seed: int = 0,
) -> LanguageModel:
    """Writes a checkpoint and records its logits.

    Args:
      folder: to write to.
      model_class: transformers'.
      config: config.json; what it leaves out is the class's default, as in the published files.
      save: (model, folder) writes the weights.
      seed: of the weights.
    """
    model = common.randomize(model_class(model_class.config_class.from_dict(dict(config))), seed)
    save(model, folder)
    write_json(folder / "config.json", config)
    with quiet():
        model = model_class.from_pretrained(folder, dtype=torch.float32).eval()
    sides = ("right",) if config["model_type"] == "bert" else ("right", "left")
    batches = {side: make_batch(config, side) for side in sides}
    logits = {side: run(model, batch) for side, batch in batches.items()}
    reads = "decoder_mask" if config["model_type"] == "t5" else "text_mask"
    mask = {side: batch[reads] for side, batch in batches.items()}
    return LanguageModel(folder, model_class, batches, logits, mask)


def make_batch(config: Mapping, side: str) -> dict[str, np.ndarray]:
    """Texts of different lengths; with an encoder, or states to attend to, both sides padded."""
    rng = np.random.default_rng(0)

    def texts(lengths):
        mask = np.arange(LENGTH) < np.asarray(lengths)[:, None]
        mask = mask[:, ::-1] if side == "left" else mask
        ids = rng.integers(3, V, (ROWS, LENGTH)).astype(np.int32)
        return np.where(mask, ids, config.get("pad_token_id") or 0).astype(np.int32), mask.copy()

    batch = dict(zip(("text", "text_mask"), texts(LENGTHS)))
    if config["model_type"] == "t5":
        batch |= dict(zip(("decoder_text", "decoder_mask"), texts(LENGTHS[::-1])))
    if config.get("add_cross_attention"):
        batch["memory"] = rng.normal(size=(ROWS, 5, config["hidden_size"])).astype(np.float32)
        batch["memory_mask"] = np.arange(5) < np.asarray([[5], [1], [3], [4]])
    return batch


NAMES = {
    "text": "input_ids",
    "text_mask": "attention_mask",
    "decoder_text": "decoder_input_ids",
    "decoder_mask": "decoder_attention_mask",
    "memory": "encoder_hidden_states",
    "memory_mask": "encoder_attention_mask",
}


def inputs(model, batch: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """A batch as keyword arguments of a transformers model."""
    tensors = {NAMES[key]: torch.tensor(value) for key, value in batch.items()}
    tensors = {k: v.long() if v.dtype == torch.int32 else v for k, v in tensors.items()}
    if model.config.model_type in ("gpt2", "llama"):  # OPT finds them itself, T5 has none.
        mask = tensors["attention_mask"].long()
        tensors["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    return tensors


@torch.no_grad()
def run(model, batch: Mapping[str, np.ndarray]) -> np.ndarray:
    return common.to_numpy(model(**inputs(model, batch)).logits)


def save(model, folder: Path, *, shard: str = "1GB", change: Callable = lambda state: state):
    """As `save_pretrained` writes, then the keys as the hub's files have them."""
    with quiet():
        model.save_pretrained(folder, max_shard_size=shard)
    whole = folder / "model.safetensors"
    if whole.is_file():
        save_file(change(load_file(whole)), whole, {"format": "pt"})


def save_bin(model, folder: Path, shards: int = 1):
    """Pickled, with every name of what is tied; in shards, as Vicuna is."""
    state = {key: value.clone() for key, value in model.state_dict().items()}
    if shards == 1:
        torch.save(state, folder / "pytorch_model.bin")
        return
    names, files = list(state), {}
    for i in range(shards):
        file = f"pytorch_model-{i + 1:05}-of-{shards:05}.bin"
        part = {key: state[key] for key in names[i::shards]}
        torch.save(part, folder / file)
        files |= dict.fromkeys(part, file)
    write_json(folder / "pytorch_model.bin.index.json", {"metadata": {}, "weight_map": files})


def hub_gpt2(state):
    """The names of openai-community's files, with their buffers."""
    state = {key.removeprefix("transformer."): value for key, value in state.items()}
    layers = {key.split(".")[1] for key in state if key.startswith("h.")}
    for layer in layers:
        state[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 12, 12)
        state[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    return state


def hub_bert(state):
    """The names of the files of 2018, with the heads of the next-sentence task."""
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    rename = lambda key: re.sub(r"LayerNorm\.\w+$", lambda m: old[m[0]], key)
    state = {rename(key): value for key, value in state.items()}
    state["bert.pooler.dense.weight"] = torch.zeros(24, 24)
    state["bert.pooler.dense.bias"] = torch.zeros(24)
    state["cls.seq_relationship.weight"] = torch.zeros(2, 24)
    state["cls.seq_relationship.bias"] = torch.zeros(2)
    state["bert.embeddings.position_ids"] = torch.arange(16)[None]
    return state


def without(prefix):
    return lambda state: {key.removeprefix(prefix): value for key, value in state.items()}


def with_frequencies(state):
    """A buffer of old files of LLaMA."""
    for layer in range(2):
        state[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    return state


@torch.no_grad()
def untied(model, folder):
    """As Flan-T5 was saved: an output layer of its own (transformers 5 begins with tied ones)."""
    head = torch.nn.Parameter(model.lm_head.weight.detach().clone().flip(0))
    state = {key: value.clone() for key, value in model.state_dict().items()}
    for copy in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"):
        del state[copy]
    save_file({**state, "lm_head.weight": head.data}, folder / "model.safetensors")


GPT2 = dict(
    model_type="gpt2",
    vocab_size=V,
    n_positions=12,
    n_embd=24,
    n_layer=2,
    n_head=3,
    bos_token_id=1,
    eos_token_id=1,
)
OPT = dict(
    **tower(24, 2, 3, 40),
    model_type="opt",
    vocab_size=V,
    max_position_embeddings=12,
    ffn_dim=40,
    pad_token_id=1,
)
LLAMA = dict(
    **tower(24, 2, 4, 40),
    model_type="llama",
    vocab_size=V,
    max_position_embeddings=64,
    rms_norm_eps=1e-5,
)
T5 = dict(
    model_type="t5",
    vocab_size=V,
    d_model=24,
    d_kv=10,
    d_ff=40,
    num_layers=2,
    num_heads=3,
    relative_attention_num_buckets=8,
    relative_attention_max_distance=7,
    decoder_start_token_id=0,
)
BERT = dict(**tower(24, 2, 3, 40), model_type="bert", vocab_size=V, max_position_embeddings=16)
LLAMA3 = dict(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)


def lm(name, config, save, **options):
    model_class = getattr(transformers, name)
    return functools.partial(
        reference, model_class=model_class, config={**config, **options}, save=save
    )


# How each is saved differs, so that between them all forms of files are read.
LANGUAGE: dict[str, Callable[[Path], LanguageModel]] = {
    "gpt2": lm("GPT2LMHeadModel", GPT2, functools.partial(save, change=hub_gpt2)),
    "gpt2_untied": lm("GPT2LMHeadModel", GPT2, save_bin, tie_word_embeddings=False, n_inner=30),
    "opt": lm("OPTForCausalLM", OPT, functools.partial(save, shard="20KB")),
    "opt_350m": lm(
        "OPTForCausalLM",
        OPT,
        functools.partial(save, change=without("model.")),
        do_layer_norm_before=False,
        word_embed_proj_dim=16,
    ),
    "llama": lm(
        "LlamaForCausalLM", LLAMA, functools.partial(save, shard="20KB"), num_key_value_heads=2
    ),
    "llama_3": lm(
        "LlamaForCausalLM",
        LLAMA,
        save,
        head_dim=8,
        tie_word_embeddings=True,
        rope_theta=500.0,
        rope_scaling=LLAMA3,
        eos_token_id=[2, 3],
    ),
    "vicuna_16k": lm(
        "LlamaForCausalLM",
        LLAMA,
        functools.partial(save_bin, shards=3),
        rope_scaling=dict(type="linear", factor=4.0),
        max_sequence_length=256,
        pad_token_id=0,
    ),
    "llama_old": lm("LlamaForCausalLM", LLAMA, functools.partial(save, change=with_frequencies)),
    "t5": lm("T5ForConditionalGeneration", T5, save_bin),
    "t5_v1_1": lm(
        "T5ForConditionalGeneration",
        T5,
        untied,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        num_decoder_layers=3,
    ),
    "t5_blip2": lm(
        "T5ForConditionalGeneration",
        T5,
        untied,
        feed_forward_proj="gated-gelu",
        dense_act_fn="gelu",
        tie_word_embeddings=False,
    ),
    "bert": lm("BertForMaskedLM", BERT, functools.partial(save, change=hub_bert)),
    "bert_decoder": lm(
        "BertLMHeadModel", BERT, save_bin, is_decoder=True, add_cross_attention=True
    ),
}
