# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Language models through the published formats and back, and what does not fit."""

import functools
import json

import jax
import numpy as np
import pytest

import jvlm
from jvlm import sharding
from jvlm.convert import inspect
from jvlm.convert.files import write_safetensors
from jvlm.errors import UserError
from jvlm.models import build_model
from jvlm.pretrained import Pretrained, Processor

SIZES = dict(vocab_size=20, width=12, depth=2, num_heads=2, mlp_dim=16)
SECTIONS = {
    "bert": dict(max_len=8, causal=True, memory_width=12, **SIZES),
    "gpt2": dict(max_len=8, **SIZES),
    "llama": dict(max_len=8, num_kv_heads=1, rope=dict(factor=2.0), **SIZES),
    "opt": dict(max_len=8, token_width=6, post_norm=True, tied=False, **SIZES),
    "t5": dict(head_dim=4, decoder_depth=1, gated=True, scale_output=False, **SIZES),
}


@functools.cache
def make(kind):
    model = build_model({"name": kind, **SECTIONS[kind]})
    shapes = jax.eval_shape(model.init, jax.random.key(0), model.dummy_batch(1))["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    generation = {"eos_token_id": [2, 3], "max_new_tokens": 5}
    return Pretrained(model, params, Processor(None, None), mesh, kind, generation=generation)


def same(a, b):
    assert (a.model, a.generation) == (b.model, b.generation)
    jax.tree.map(np.testing.assert_array_equal, a.params, b.params)


@pytest.mark.parametrize("kind", SECTIONS)
def test_round_trip(kind, tmp_path):
    m = make(kind)
    m.export(tmp_path / "hf")
    same(jvlm.load(tmp_path / "hf"), m)
    assert inspect(tmp_path / "hf")["problems"] == "none"
    assert m.describe().startswith(f"{kind}, ") and "parameters" in m.describe()


@pytest.mark.parametrize(
    "kind, fields",
    [("t5", dict(decoder_depth=2)), ("llama", dict(num_kv_heads=2, head_dim=6))],
)
def test_sizes_that_follow_from_others_may_be_said(kind, fields, tmp_path):
    """A format leaves them out."""
    model = build_model({"name": kind, **SECTIONS[kind], **fields})
    params = model.init(jax.random.key(0), model.dummy_batch(1))["params"]
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    Pretrained(model, params, Processor(None, None), mesh, kind).export(tmp_path / "hf")
    read = jvlm.load(tmp_path / "hf")
    jax.tree.map(np.testing.assert_array_equal, read.params, params)


def test_saved(tmp_path):
    make("llama").save(tmp_path / "own")
    same(jvlm.load(tmp_path / "own"), make("llama"))


@pytest.fixture
def gpt2(tmp_path):
    """A folder of transformers."""
    make("gpt2").export(tmp_path / "hf")
    return tmp_path / "hf"


def edit(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def keys(folder, change):
    """Writes the weights anew, under other keys."""
    from jvlm.convert.files import Safetensors

    tensors = Safetensors([folder / "model.safetensors"])
    arrays = change({key: tensors.read(key) for key in tensors.shapes})
    entries = [(key, value.shape, lambda value=value: value) for key, value in arrays.items()]
    write_safetensors(folder / "model.safetensors", entries, np.float32)


def test_names_of_the_hub(gpt2):
    keys(gpt2, lambda a: {key.removeprefix("transformer."): value for key, value in a.items()})
    same(jvlm.load(gpt2), make("gpt2"))


def test_a_table_under_the_name_of_the_head(gpt2):
    table = "transformer.wte.weight"
    keys(gpt2, lambda a: {"lm_head.weight" if k == table else k: v for k, v in a.items()})
    same(jvlm.load(gpt2), make("gpt2"))


def test_a_head_decides_whether_it_is_tied(gpt2):
    table = "transformer.wte.weight"
    keys(gpt2, lambda a: {**a, "lm_head.weight": a[table]})
    same(jvlm.load(gpt2), make("gpt2"))
    keys(gpt2, lambda a: {**a, "lm_head.weight": a[table] + 1})
    m = jvlm.load(gpt2)
    assert not m.config.tied
    want = m.params["token"]["embedding"].T + 1
    np.testing.assert_allclose(m.params["lm_head"]["kernel"], want, atol=1e-6)


VOCABULARY = {"tokenizer_class": "BertTokenizer"}
BAD = {
    "attention scaled by layer": (
        lambda f: edit(f, scale_attn_by_inverse_layer_idx=True),
        "scale_attn_by_inverse_layer_idx True: jvlm has only False",
    ),
    "an unknown activation": (
        lambda f: edit(f, activation_function="swish9"),
        "config.json: activation_function 'swish9' is unknown",
    ),
    "a size that is none": (
        lambda f: edit(f, n_embd=None, n_inner=16),
        "config.json: gpt2: width None: give a whole number",
    ),
    "an epsilon that is none": (
        lambda f: edit(f, layer_norm_epsilon=None),
        "config.json: gpt2: norm_eps None: give a number",
    ),
    "a head that is missing": (
        lambda f: edit(f, tie_word_embeddings=False),
        "misses lm_head.weight",
    ),
    "another size": (
        lambda f: edit(f, n_inner=20),
        r"mlp.c_fc.weight is \[12, 16\], not \[12, 20\] as the config says",
    ),
    "two names of one weight": (
        lambda f: keys(f, lambda a: {**a, "wte.weight": a["transformer.wte.weight"]}),
        "are the same weight",
    ),
    "a damaged generation config": (
        lambda f: (f / "generation_config.json").write_text("{"),
        "generation_config.json: not JSON",
    ),
    "a larger vocabulary": (
        lambda f: (
            (f / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
            and (f / "vocab.txt").write_text(
                "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(16))])
            ),
            (f / "tokenizer_config.json").write_text(json.dumps(VOCABULARY)),
        ),
        "tokenizer has 21 entries, its weights 20",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(gpt2, case):
    change, message = BAD[case]
    change(gpt2)
    with pytest.raises(UserError, match=message) as error:
        jvlm.load(gpt2)
    assert str(gpt2) in str(error.value)


def test_a_smaller_vocabulary_fits(gpt2):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]
    (gpt2 / "vocab.txt").write_text("\n".join(words))
    (gpt2 / "tokenizer_config.json").write_text(json.dumps(VOCABULARY))
    tokenizer = jvlm.load(gpt2).processor.tokenizer
    assert (tokenizer.vocab_size, tokenizer.max_len) == (6, 8)


@pytest.mark.parametrize(
    "rope, message",
    [
        ({"rope_type": "yarn", "factor": 2.0}, "rope_scaling 'yarn'"),
        ({"rope_type": "linear"}, "not a config of this family: no 'factor'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ],
)
def test_other_rotary_positions_are_refused(tmp_path, rope, message):
    make("llama").export(tmp_path / "hf")
    edit(tmp_path / "hf", rope_scaling=rope)
    with pytest.raises(UserError, match=message):
        jvlm.load(tmp_path / "hf")


def test_what_a_language_model_does_not_do(gpt2, tmp_path):
    with pytest.raises(UserError, match="gpt2 takes no images"):
        jvlm.load(gpt2, image_size=32)
    m = make("gpt2")
    with pytest.raises(UserError, match="open_clip has no gpt2"):
        m.export(tmp_path / "x", format="open_clip")
    with pytest.raises(UserError, match="embeds nothing"):
        m.embed_text(["a"])


def test_what_a_format_cannot_express(tmp_path):
    model = build_model({"name": "bert", **SECTIONS["bert"], "memory_width": 8})
    m = make("bert")
    other = Pretrained(model, m.params, m.processor, m.mesh, "bert")
    with pytest.raises(UserError, match=r"cannot express memory_width=8 \(only 12\)"):
        other.export(tmp_path / "x")
