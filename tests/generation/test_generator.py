# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Generation does not depend on the batch, the padding, the mesh, or on being watched."""

import jax
import numpy as np
import pytest

from jvlm import sharding
from jvlm.errors import UserError
from jvlm.generation import Generator, make_options
from jvlm.generation.prompts import bucket
from jvlm.generation.weights import stack_all, unstack_all

NEW = 12
GREEDY = dict(max_new_tokens=NEW)
SAMPLES = dict(temperature=1.5, top_k=9, top_p=0.9, num_return_sequences=3, **GREEDY)
BEAMS = dict(
    num_beams=4,
    num_return_sequences=2,
    no_repeat_ngram_size=2,
    repetition_penalty=1.3,
    min_new_tokens=3,
    bad_words_ids=[[4], [5, 6]],
    **GREEDY,
)
DRAWN = dict(num_beams=3, do_sample=True, **GREEDY)
ALLOWED = dict(allowed_sequences=[[4, 5], [6], [7, 8, 9]], **GREEDY)


def cut(batch, rows):
    return {key: value[rows] for key, value in batch.items()}


def same(got, want):
    """Equal up to padding behind."""
    length = min(got.shape[1], want.shape[1])
    np.testing.assert_array_equal(got[:, :length], want[:, :length])
    rest = np.concatenate([got[:, length:], want[:, length:]], axis=1)
    assert np.isin(rest, (0, 3)).all()


@pytest.mark.parametrize("options", [GREEDY, SAMPLES, BEAMS, DRAWN, ALLOWED])
def test_a_batch_gives_what_its_prompts_give_alone(generate, prompts, options):
    got = generate("gpt2", prompts, **options)
    each = len(got) // 5
    for row in (1, 4):
        want = generate("gpt2", cut(prompts, [row]), rows=[row], **options)
        same(got[row * each : (row + 1) * each], want)


def greedy_by_hand(model, params, ids, new, **start):
    """One prompt, the whole sequence forward for each token."""
    apply = jax.jit(lambda batch: model.apply({"params": params}, batch).logits)
    ids = list(ids)
    length = len(ids)
    for _ in range(new):
        text = np.zeros((1, length + new), np.int32)
        text[0, : len(ids)] = ids
        mask = np.arange(text.shape[1])[None] < len(ids)
        batch = {"text": text, "text_mask": mask}
        if start:
            batch = {**start, "decoder_text": text, "decoder_mask": mask}
        ids.append(int(np.asarray(apply(batch))[0, len(ids) - 1].argmax()))
        if ids[-1] == 3:
            break
    return ids[length:]


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
def test_greedy_is_the_forward_over_and_over(lm, generate, prompts, kind):
    model, params = lm(kind)
    got = generate(kind, prompts, **GREEDY)
    for row in (0, 3):
        one = cut(prompts, [row])
        ids = one["text"][one["text_mask"]]
        want = greedy_by_hand(
            model,
            params,
            *(([0], NEW) if kind == "t5" else (ids, NEW)),
            **(one if kind == "t5" else {}),
        )
        assert got[row, : len(want)].tolist() == want


def test_decoder_text_is_what_the_answer_goes_on_from(generate, prompts):
    begun = np.array([[0, 9, 8]] * 5, np.int32)
    whole = generate("t5", prompts | {"decoder_text": begun}, num_beams=2, **GREEDY)
    padded = np.pad(begun, ((0, 0), (0, 2)))
    mask = np.arange(5) < np.full((5, 1), 3)
    batch = prompts | {"decoder_text": padded, "decoder_mask": mask}
    same(generate("t5", batch, num_beams=2, **GREEDY), whole)


@pytest.mark.parametrize("options", [GREEDY, SAMPLES | dict(num_return_sequences=1)])
def test_a_stream_is_the_answer_bit_for_bit(generator, prompts, options):
    generate, params = generator("gpt2")
    parts = list(generate.stream(params, prompts, options))
    assert len(parts) > 2
    want = generate.ids(params, prompts, options)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), want)


def test_soft_prompts_are_vectors_in_place_of_tokens(lm, generate, prompts):
    """The token vectors of a prompt's start as a prefix, also with nothing behind them."""
    _, params = lm("gpt2")
    text = prompts["text"][:1]
    table = np.asarray(params["token"]["embedding"])
    for split, options in ((3, GREEDY), (7, dict(num_beams=3, **GREEDY))):
        batch = {"prefix": table[text[:, :split]], "text": text[:, split:]}
        same(generate("gpt2", batch, **options), generate("gpt2", {"text": text}, **options))


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
@pytest.mark.parametrize("options", [dict(num_beams=4), SAMPLES])
def test_one_new_token_of_the_shortest_prompt(generate, kind, options):
    """Fewer slots than sequences."""
    batch = {"text": np.array([[5]], np.int32)}
    one, two = (generate(kind, batch, **{**options, "max_new_tokens": n}) for n in (1, 2))
    assert one.shape[1] == 1
    if "num_beams" not in options:
        np.testing.assert_array_equal(one, two[:, :1])


def test_rows_that_fill_up_the_devices_change_nothing(lm, prompts):
    """They are copies of the last one, and draw what that draws."""
    model, params = lm("gpt2")
    params = unstack_all(jax.tree.map(lambda x: x, params))
    generator = Generator(model, sharding.make_mesh(8))
    with jax.set_mesh(generator.mesh):
        options = generator._begin(
            params, cut(prompts, slice(0, 3)), make_options({"temperature": 1.0}), None
        )
    state, job, count = options
    keys = jax.random.key_data(job.keys)
    assert count == 3 and (keys[3:] == keys[2]).all() and (keys[2] != keys[0]).any()


@pytest.mark.parametrize("shape", [(2, 2, 2), (8, 1, 1)])
def test_sharded_generation_is_that_of_one_device(lm, generate, prompts, shape):
    model, params = lm("gpt2", vocab_size=40)
    mesh = sharding.make_mesh(*shape)
    params = jax.device_put(params, sharding.tree_shardings(params, mesh))
    params = unstack_all(params)
    sharded = Generator(model, mesh)
    for options in (GREEDY, BEAMS) if shape == (2, 2, 2) else (SAMPLES,):
        got = sharded.ids(params, prompts, options)
        np.testing.assert_array_equal(got, generate("gpt2", prompts, **options))


def test_stacks_are_taken_apart_and_put_together(lm):
    _, params = lm("t5")
    mesh = sharding.make_mesh(2, 2, 2)
    params = jax.device_put(params, sharding.tree_shardings(params, mesh))
    want = jax.tree.map(lambda x: (x.sharding, np.asarray(x)), params)
    apart = unstack_all(jax.tree.map(lambda x: x, params))
    back = jax.tree.map(lambda x: (x.sharding, np.asarray(x)), stack_all(apart))
    assert jax.tree.structure(back) == jax.tree.structure(want)
    for got, expected in zip(jax.tree.leaves(back), jax.tree.leaves(want)):
        if isinstance(got, np.ndarray):
            np.testing.assert_array_equal(got, expected)
        else:
            assert got.is_equivalent_to(expected, 4)


def test_other_prompts_and_values_compile_nothing(lm, prompts):
    model, params = lm("gpt2")
    params = unstack_all(jax.tree.map(lambda x: x, params))
    generator = Generator(model, sharding.make_mesh(devices=jax.devices()[:1]))
    base = dict(repetition_penalty=1.2, min_new_tokens=2, top_k=5, top_p=0.8, temperature=0.5)
    generator.ids(params, prompts, base | dict(max_new_tokens=9))
    longer = {key: np.repeat(value, 2, axis=1) for key, value in prompts.items()}
    changed = dict(repetition_penalty=2.0, min_new_tokens=1, top_k=7, top_p=0.3, temperature=2.0)
    generator.ids(params, longer, changed | dict(max_new_tokens=14, seed=4))
    assert generator._start._cache_size() == generator._run._cache_size() == 1


def test_buckets_are_few_and_tight():
    sizes = [bucket(n) for n in range(1, 1025)]
    assert all(size >= n for n, size in enumerate(sizes, 1))
    assert len(set(sizes)) <= 24
    assert sum(sizes) < 1.09 * sum(range(1, 1025))


@pytest.mark.parametrize(
    "batch, options, message",
    [
        ({"text": np.zeros((2, 0), np.int32)}, {}, "prompt 0 is empty"),
        (
            {"text": np.ones((2, 3), np.int32), "text_mask": np.array([[1, 1, 1], [0, 0, 0]])},
            {},
            "prompt 1 is empty",
        ),
        (
            {"text": np.ones((1, 50), np.int32)},
            {"max_new_tokens": 50},
            "prompt 0 has 50 tokens and 50 more are to come, the model has 96 positions: "
            "max_new_tokens at most 46",
        ),
        ({"text": np.ones((1, 97), np.int32)}, {}, "shorten the prompt"),
        ({"text": np.full((1, 2), 40)}, {}, "prompt 0 has the id 40, the model has 40 tokens"),
        ({}, {}, "the batch has no text"),
        ({"text": np.ones(3, np.int32)}, {}, r"text has shape \(3,\)"),
        (
            {"text": np.ones((1, 3), np.int32), "text_mask": np.ones((1, 2), bool)},
            {},
            r"text_mask \(1, 2\): give both \[B, T\]",
        ),
        (
            {"text": np.ones((1, 3), np.int32), "prefix": np.ones((1, 2, 8), np.float32)},
            {},
            "the prefix has vectors of 8, the model's tokens of 16",
        ),
        (
            {
                "text": np.ones((2, 50), np.int32),
                "text_mask": np.arange(50) < np.array([[3], [50]]),
                "prefix": np.ones((2, 80, 16), np.float32),
                "prefix_mask": np.arange(80) < np.array([[80], [2]]),
            },
            {"max_new_tokens": 2},
            "130 tokens, the model has 96 positions",
        ),
    ],
)
def test_bad_prompts(generate, batch, options, message):
    with pytest.raises(UserError, match=message):
        generate("gpt2", batch, **options)
