# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Language models in published formats, read by the importer, against transformers' logits."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from transformers.models.t5.modeling_t5 import T5Attention

import jvlm
from jvlm.errors import UserError
from jvlm.layers import Rope
from jvlm.models.towers.t5 import buckets_of_distance
from tests.parity.references import hf
from tests.parity.references.language import LANGUAGE, inputs, run

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module", params=LANGUAGE)
def case(request, tmp_path_factory):
    """(reference, what jvlm makes of its folder)."""
    reference = LANGUAGE[request.param](tmp_path_factory.mktemp(request.param))
    return reference, jvlm.load(reference.path)


def only(*names):
    return pytest.mark.parametrize("case", names, indirect=True)


def check(got, want, mask):
    """Within the tolerance of design.md, section 1, where there are tokens."""
    error = np.abs(np.asarray(got) - want) / np.maximum(1, np.abs(want))
    assert error[mask].max() <= 1e-4


def test_logits_on_padded_batches(case):
    reference, m = case
    forward = jax.jit(m.model.apply)
    for side, batch in reference.batches.items():
        got = forward({"params": m.params}, batch).logits
        check(got, reference.logits[side], reference.mask[side])


@only(*(name for name in LANGUAGE if name != "bert"))
def test_decoding(case):
    """Prefill and one more token, against transformers' forward of all."""
    reference, m = case
    last = "decoder_text" if m.model.encoder_decoder else "text"
    batch = dict(reference.batches["right"])
    mask = reference.mask["right"]
    row = mask.all(1)  # The full rows, so that the one token is the last of each.
    batch = {key: value[row] for key, value in batch.items()}
    tokens = batch.pop(last)
    del batch["decoder_mask" if m.model.encoder_decoder else "text_mask"]

    @jax.jit
    def decode(params):
        bound = m.model.bind({"params": params})
        first, cache = bound.prefill({**batch, last: tokens[:, :-1]}, tokens.shape[1])
        return first, bound.extend(tokens[:, -1:], tokens[:, -1:] >= 0, cache)[0][:, 0]

    for got, at in zip(decode(m.params), (-2, -1)):
        want = reference.logits["right"][row][:, at]
        check(got, want, np.ones(len(want), bool))


def test_export(case, tmp_path):
    """transformers reads what we write, and so do we."""
    reference, m = case
    m.export(tmp_path, format="hf")
    with hf.quiet():
        model, info = reference.model_class.from_pretrained(
            tmp_path, output_loading_info=True, dtype=torch.float32
        )
    assert not any(info.values()), info
    batch = reference.batches["right"]
    with torch.no_grad():
        got = model.eval()(**inputs(model, batch)).logits.numpy()
    check(got, reference.logits["right"], reference.mask["right"])
    again = jvlm.load(tmp_path)
    assert again.model == m.model
    assert again.generation == m.generation
    jax.tree.map(np.testing.assert_array_equal, again.params, m.params)


@only("opt_350m", "t5")
def test_soft_prompts(case):
    """transformers' `inputs_embeds`, which are as wide as tokens, before any projection."""
    reference, m = case
    batch = reference.batches["right"]
    with hf.quiet():
        model = reference.model_class.from_pretrained(reference.path).eval()
    table = model.get_input_embeddings().weight
    prefix = np.random.default_rng(0).normal(size=(len(batch["text"]), 3, table.shape[1])) / 9
    given = inputs(model, batch)
    with torch.no_grad():
        vectors = table[given.pop("input_ids")]
        soft = torch.tensor(prefix, dtype=torch.float32)
        mask = torch.cat([torch.ones(len(soft), 3, dtype=bool), given.pop("attention_mask")], 1)
        given |= dict(inputs_embeds=torch.cat([soft, vectors], 1), attention_mask=mask)
        want = model(**given).logits.numpy()
    got = jax.jit(m.model.apply)({"params": m.params}, {**batch, "prefix": prefix}).logits
    decoder = reference.mask["right"] if m.model.encoder_decoder else mask.numpy()
    check(got, want, decoder)


@only("gpt2", "llama", "t5_v1_1", "opt")
def test_bfloat16(case):
    """No farther from float32 than transformers' own."""
    reference, _ = case
    m = jvlm.load(reference.path, dtype="bfloat16")
    batch, want, mask = (x["right"] for x in (reference.batches, reference.logits, reference.mask))
    with hf.quiet():
        model = reference.model_class.from_pretrained(reference.path, dtype=torch.bfloat16)
    got = jax.jit(m.model.apply)({"params": m.params}, batch).logits
    ours, theirs = (np.abs(x - want)[mask].mean() for x in (got, run(model.eval(), batch)))
    assert got.dtype == jnp.float32 and ours < 1.5 * theirs


@only("llama_3", "vicuna_16k", "t5_v1_1", "gpt2_untied")
def test_what_the_files_say(case):
    reference, m = case
    cfg = m.config
    name = reference.path.name[:-1]  # pytest appends a digit.
    if name == "llama_3":
        assert cfg.eos_id == (2, 3) and cfg.tied and cfg.head_dim == 8
        assert cfg.rope == Rope(500.0, 8.0, 1.0, 4.0, 32)
    elif name == "vicuna_16k":
        assert (cfg.max_len, cfg.rope, cfg.pad_id) == (256, Rope(factor=4.0), 0)
    elif name == "t5_v1_1":
        assert (cfg.gated, cfg.activation, cfg.tied) == (True, "gelu_tanh", False)
        assert (cfg.scale_output, cfg.decoder_depth, cfg.start_id) == (False, 3, 0)
    else:
        assert not cfg.tied and cfg.mlp_dim == 30


@only("llama_3", "vicuna_16k", "llama")
def test_rotary_frequencies(case):
    reference, m = case
    with hf.quiet():
        model = transformers.LlamaForCausalLM.from_pretrained(reference.path)
    want = model.model.rotary_emb.inv_freq.numpy()
    np.testing.assert_allclose(m.config.rope.frequencies(2 * len(want)), want, rtol=1e-6)


@pytest.mark.parametrize("buckets, max_distance", [(32, 128), (8, 7), (16, 300)])
def test_buckets(buckets, max_distance):
    distance = torch.arange(-2 * max_distance, 2 * max_distance)
    bucket = T5Attention._relative_position_bucket
    for bidirectional in (True, False):
        want = bucket(distance, bidirectional, buckets, max_distance).numpy()
        half = buckets // 2 if bidirectional else buckets
        table, far = buckets_of_distance(half, max_distance), max_distance
        before = -distance.numpy()
        if bidirectional:
            got = table[np.abs(before).clip(0, far)] + half * (before < 0)
        else:
            got = table[before.clip(0, far)]
        np.testing.assert_array_equal(got, want)


def test_transformers_5_writes_t5s_flags_anew(tmp_path):
    """It says `tie_word_embeddings: true` of all; the scale and the weights say the rest."""
    reference = LANGUAGE["t5_v1_1"](tmp_path)
    with hf.quiet():
        reference.model_class.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["tie_word_embeddings"]
    assert jvlm.load(tmp_path / "again").model == jvlm.load(tmp_path).model


def test_a_copy_that_is_none(tmp_path):
    reference = LANGUAGE["t5"](tmp_path)
    state = torch.load(reference.path / "pytorch_model.bin")
    state["encoder.embed_tokens.weight"] += 1
    torch.save(state, reference.path / "pytorch_model.bin")
    with pytest.raises(UserError, match="encoder.embed_tokens.weight is not shared.weight"):
        jvlm.load(reference.path)


def test_a_head_that_is_not_tied_whatever_the_config_says(tmp_path):
    reference = LANGUAGE["gpt2_untied"](tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    m = jvlm.load(reference.path)
    assert not m.config.tied
    got = jax.jit(m.model.apply)({"params": m.params}, reference.batches["right"]).logits
    check(got, reference.logits["right"], reference.mask["right"])
