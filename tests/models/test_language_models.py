# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Language models: decoding, padding, soft prompts and meshes change nothing; bad input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm import sharding
from jvlm.errors import UserError
from jvlm.layers import unstack
from jvlm.models import build_model
from jvlm.models.towers import t5

V, B = 24, 3
PROMPT, T, S = 5, 7, 9  # Tokens that are prefilled, all of them, slots of the cache.
SIZES = dict(vocab_size=V, width=16, depth=2, num_heads=4, mlp_dim=24)
SECTIONS = {
    "gpt2": dict(name="gpt2", max_len=16, **SIZES),
    "opt 350m": dict(name="opt", max_len=16, token_width=8, post_norm=True, **SIZES),
    "llama": dict(
        name="llama",
        max_len=16,
        num_kv_heads=2,
        head_dim=6,
        rope=dict(theta=100.0, factor=4.0, low_freq=1.0, high_freq=4.0, original_len=24),
        **SIZES,
    ),
    "t5": dict(
        name="t5",
        head_dim=6,
        decoder_depth=1,
        num_buckets=8,
        max_distance=6,
        **dict(activation="gelu_tanh", gated=True, tied=False, scale_output=False),
        **SIZES,
    ),
    "bert": dict(name="bert", max_len=16, causal=True, memory_width=8, **SIZES),
}


@functools.cache
def make(kind):
    """(model, random parameters, its jitted methods)."""
    model = build_model(SECTIONS[kind])
    shapes = jax.eval_shape(model.init, jax.random.key(0), model.dummy_batch(1))["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) / 3, shapes)

    @functools.partial(jax.jit, static_argnames=("method", "max_len"))
    def run(params, *args, method="__call__", **options):
        return model.apply({"params": params}, *args, method=method, **options)

    return model, params, run


def decoding(params):
    """With the layers apart, as they are where text is generated."""
    if not isinstance(params, dict):
        return params
    apart = lambda key, value: unstack(value) if key.endswith("blocks") else decoding(value)
    return {key: apart(key, value) for key, value in params.items()}


def batch_of(kind, length=T):
    rng = np.random.default_rng(0)
    ids = lambda: rng.integers(3, V, (B, length)).astype(np.int32)
    batch = {"text": ids(), "text_mask": np.ones((B, length), bool)}
    if kind == "t5":
        batch["text_mask"] = np.arange(length) < np.asarray([[length], [length - 3], [1]])
        batch |= {"decoder_text": ids(), "decoder_mask": np.ones((B, length), bool)}
    if kind == "bert":
        batch["memory"] = rng.normal(size=(B, 5, 8)).astype(np.float32)
        batch["memory_mask"] = np.arange(5) < np.asarray([[5], [2], [1]])
    return batch


def reading(kind, batch, tokens, mask):
    """The batch with other tokens for the decoder."""
    keys = ("decoder_text", "decoder_mask") if kind == "t5" else ("text", "text_mask")
    return {**batch, **dict(zip(keys, (tokens, mask)))}


def tokens_of(kind, batch):
    return batch["decoder_text" if kind == "t5" else "text"]


def close(got, want):
    np.testing.assert_allclose(got, want, atol=2e-5, rtol=1e-5)


def pad(tokens, lengths, side, length):
    """Rows cut to their lengths and padded with a token that would be seen: (tokens, mask)."""
    mask = np.arange(length) < np.asarray(lengths)[:, None]
    mask = mask[:, ::-1] if side == "left" else mask
    text = np.full((B, length), 9, np.int32)
    for row, real, line, n in zip(text, mask, tokens, lengths):
        row[real] = line[:n]
    return text, mask


CASES = [(kind, "unstacked") for kind in SECTIONS] + [("gpt2", "stacked"), ("t5", "stacked")]


@pytest.mark.parametrize("kind, form", CASES)
def test_decoding_padded_prompts_is_the_forward_of_each_row(kind, form):
    _, params, run = make(kind)
    params = decoding(params) if form == "unstacked" else params
    batch = batch_of(kind)
    tokens = tokens_of(kind, batch)
    want = run(params, batch).logits
    ones = np.ones((B, 2), bool)
    for lengths, side in (((5, 5, 5), "right"), ((5, 2, 4), "right"), ((5, 2, 4), "left")):
        # What follows a token does not change its logits: the rows are read whole once.
        text, mask = pad(tokens, lengths, side, T)
        whole = run(params, reading(kind, batch, text, mask)).logits
        prompts = reading(kind, batch, *pad(tokens, lengths, side, PROMPT))
        last, cache = run(params, prompts, max_len=S, method="prefill")
        after = np.stack([line[n : n + 2] for line, n in zip(tokens, lengths)])
        more, _ = run(params, after, ones, cache, method="extend")
        for row, n in enumerate(lengths):
            close(whole[row, mask[row]], want[row, :n])
            close(last[row], want[row, n - 1])
            close(more[row], want[row, n : n + 2])


@pytest.mark.parametrize("kind", ["gpt2", "opt 350m", "t5"])
def test_soft_prompts_are_vectors_of_tokens(kind):
    model, params, run = make(kind)
    batch = batch_of(kind)
    cut = {**batch, "text": batch["text"][:, 3:], "text_mask": batch["text_mask"][:, 3:]}
    cut["prefix"] = jnp.take(params["token"]["embedding"], batch["text"][:, :3], axis=0)
    cut["prefix_mask"] = batch["text_mask"][:, :3]
    want = run(params, batch).logits
    close(run(params, cut).logits, want)
    close(run(params, cut, max_len=S, method="prefill")[0], want[:, -1])


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_a_token_tree_is_its_branches(kind):
    """Two continuations of two tokens each, as four tokens of one row."""
    _, params, run = make(kind)
    params, batch = decoding(params), batch_of(kind)
    prompt = tokens_of(kind, batch)[:, :PROMPT]
    ones = np.ones((B, T), bool)
    branches = np.random.default_rng(1).integers(3, V, (B, 2, 2)).astype(np.int32)
    prompts = reading(kind, batch, prompt, ones[:, :PROMPT])
    _, cache = run(params, prompts, max_len=S, method="prefill")
    for depth in range(2):  # One token of each branch at a time; it sees its own ancestors.
        own = [np.eye(2, dtype=bool)] * (depth + 1) + [np.zeros((2, 2), bool)] * (1 - depth)
        sees = np.concatenate([np.ones((2, PROMPT), bool), *own], axis=1)
        logits, cache = run(
            params,
            branches[:, :, depth],
            ones[:, :2],
            cache,
            sees=np.broadcast_to(sees, (B, *sees.shape)),
            positions=np.full((B, 2), PROMPT + depth, np.int32),
            method="extend",
        )
        for branch in range(2):
            line = np.concatenate([prompt, branches[:, branch]], axis=1)
            want = run(params, reading(kind, batch, line, ones)).logits
            close(logits[:, branch], want[:, PROMPT + depth])


@pytest.mark.parametrize("kind", ["opt 350m", "llama", "t5"])
def test_sharded_equals_unsharded(kind):
    model, params, run = make(kind)
    batch = {name: np.concatenate([x, x[:1]]) for name, x in batch_of(kind).items()}
    one = tokens_of(kind, batch)[:, -1:]

    def both(params, batch, one):
        logits, cache = model.apply({"params": params}, batch, S, method="prefill")
        return logits, model.apply({"params": params}, one, one > 0, cache, method="extend")[0]

    want = jax.jit(both)(params, batch, one)
    mesh = sharding.make_mesh(2, 2, 2)
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, sharding.tree_shardings(params, mesh))
        rows = sharding.put_whole_batch(batch | {"one": one}, mesh)
        got = jax.jit(both)(placed, rows, rows.pop("one"))
    jax.tree.map(close, got, want)


def test_a_masked_model_sees_both_ways():
    model = build_model({**SECTIONS["bert"], "causal": False})
    params, batch = make("bert")[1], batch_of("bert")
    other = {**batch, "text": batch["text"].copy()}
    other["text"][:, -1] = 3
    run = jax.jit(lambda batch: model.apply({"params": params}, batch).logits)
    assert (jnp.abs(run(batch) - run(other))[:, 0].max(-1) > 1e-4).all()
    assert not model.predicts_next
    with pytest.raises(UserError, match="continues none"):
        model.apply({"params": params}, batch, S, method="prefill")


def test_a_decoder_reads_labels_behind_the_start():
    model, params, run = make("t5")
    batch = batch_of("t5")
    labels = batch["decoder_text"].copy()
    labels[:, -2:] = -1
    batch["decoder_text"] = np.pad(labels[:, :-1], ((0, 0), (1, 0))).clip(0)
    want = run(params, batch).logits
    batch = {"text": batch["text"], "text_mask": batch["text_mask"], "labels": labels}
    close(run(params, batch).logits, want)
    close(run(params, batch, max_len=S, method="prefill")[0], want[:, 0])
    assert not model.predicts_next and make("gpt2")[0].predicts_next


def test_relative_positions_are_computed_once():
    """Outside of the scan over layers, without a row axis where no row differs."""
    model, params, _ = make("t5")
    text = jax.make_jaxpr(lambda p: model.apply({"params": p}, batch_of("t5")).logits)(params)
    gathers = [
        eqn
        for eqn in text.eqns
        if any(getattr(v.aval, "shape", ()) == (1, T, T, 4) for v in eqn.outvars)
    ]
    assert len(gathers) == 2  # One per stack.
    assert t5.buckets_of_distance(16, 128)[[7, 8, 15, 127, 128]].tolist() == [7, 8, 9, 15, 15]


def test_t5_begins_as_in_mesh_tensorflow():
    """Unscaled attention needs small queries, a table of order 1 small outputs."""
    cfg = make("t5")[0].cfg
    block = t5.block_config(cfg, cfg.width).std, t5.block_config(cfg).q_std
    assert block == ((1 / 4, 24**-0.5, 1 / 4, 24**-0.5), (16 * 6) ** -0.5)
    stack = make("t5")[0].bind({"params": make("t5")[1]}).encoder.stack
    q = jax.jit(stack.init)(jax.random.key(0))["attn"]["q"]["kernel"]
    np.testing.assert_allclose(q.std(), (16 * 6) ** -0.5, rtol=0.1)


def test_dropout_is_on_when_it_has_a_key():
    section = {**SECTIONS["t5"], "dropout": 0.5}
    model, params = build_model(section), make("t5")[1]
    run = jax.jit(lambda rngs: model.apply({"params": params}, batch_of("t5"), rngs=rngs).logits)
    a, b = (run({"dropout": jax.random.key(seed)}) for seed in (0, 1))
    assert jnp.abs(a - b).max() > 1e-3
    close(run(None), make("t5")[2](params, batch_of("t5")).logits)


BAD = {
    "too long": (
        lambda: make("gpt2")[2](make("gpt2")[1], batch_of("gpt2", 17)),
        "gpt2: 17 tokens, the model has 16 positions",
    ),
    "no memory": (
        lambda: make("bert")[2](make("bert")[1], batch_of("gpt2")),
        "give the batch a memory",
    ),
    "kv heads": (
        lambda: build_model({**SECTIONS["llama"], "num_kv_heads": 3}),
        "num_heads 4 is no multiple of num_kv_heads 3",
    ),
    "half a scaling": (
        lambda: build_model({**SECTIONS["llama"], "rope": dict(low_freq=1.0)}),
        "low_freq, high_freq and original_len go together",
    ),
    "a field of another": (
        lambda: build_model({**SECTIONS["opt 350m"], "num_kv_heads": 2}),
        "num_kv_heads",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    run, message = BAD[case]
    with pytest.raises(UserError, match=message):
        run()


def test_configs_are_sections():
    from jvlm.config import from_dataclass

    for kind, section in SECTIONS.items():
        cfg = make(kind)[0].cfg
        assert build_model({"name": section["name"], **from_dataclass(cfg)}).cfg == cfg
