# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""BLIP held to the official code: what it sees, writes and answers."""

import functools

import jax
import numpy as np
import pytest

from jvlm import sharding
from jvlm.errors import UserError
from jvlm.generation.generator import Generator
from jvlm.generation.weights import unstack_all
from jvlm.models import build_model
from tests.recorded import load, read

TOWER = dict(depth=2, num_heads=2)
VISION = dict(
    image_size=8,
    patch_size=4,
    width=12,
    mlp_dim=24,
    norm_eps=1e-6,
    patch_bias=True,
    pre_norm=False,
    norm_tokens=True,
    **TOWER,
)
WORDS = dict(vocab_size=24, max_len=16, width=8, mlp_dim=16, **TOWER)
MED = dict(WORDS, memory_width=12, bos_id=22, eos_id=2)
READER = dict(MED, decoder=False, enc_id=23)
MODELS = {  # What was recorded -> model.
    "pretrain": dict(name="blip", embed_dim=4, vision=VISION, text=dict(MED, enc_id=23)),
    "retrieval": dict(name="blip", embed_dim=4, vision=VISION, text=READER),
    "captioner": dict(name="blip_captioner", vision=VISION, text=dict(MED, encoder=False)),
    "vqa": dict(
        name="blip_vqa",
        vision=VISION,
        text=READER,
        decoder=dict(MED, encoder=False, memory_width=8),
    ),
    "nlvr": dict(
        name="blip_classifier",
        vision=VISION,
        text=dict(WORDS, depth=7, num_types=0),
        merge_from=6,
        enc_id=23,
    ),
}


@functools.cache
def recorded(name):
    """(model, its weights, what was recorded)."""
    model, golden = build_model(MODELS[name]), read(f"blip_{name}")
    return model, load(model, golden["before"]), golden


def apply(model, params, *args, method=None):
    return jax.jit(functools.partial(model.apply, method=method))({"params": params}, *args)


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_features():
    """Of images, of words alone, of words that saw an image (models/blip.py `BLIP_Base`)."""
    model, params, golden = recorded("retrieval")
    batch = golden["batch"]
    text, mask = batch["text"], batch["text_mask"]
    image = apply(model, params, batch["image"], method="image_states")
    close(image, golden["image"])
    close(apply(model, params, text, mask, method="text_states")[mask], golden["text"][mask])
    seen = apply(model, params, text, mask, image, method="fuse")
    close(seen[mask], golden["multimodal"][mask])


def test_matching_as_the_demo_does_it():
    """It leaves [CLS] where training puts [ENC] (models/blip_itm.py)."""
    section = MODELS["retrieval"]
    model = build_model(section | dict(text=section["text"] | dict(enc_id=None)))
    _, params, golden = recorded("retrieval")
    out = apply(model, params, {k: golden["batch"][k] for k in ("image", "text", "text_mask")})
    close(out.itm_logits, golden["itm"])
    close(out.logits_per_image * params["temperature"], golden["itc"])


def test_two_images():
    model, params, golden = recorded("nlvr")
    batch = {key: golden["batch"][key] for key in ("image", "text", "text_mask")}
    close(apply(model, params, batch).logits, golden["logits"])


@functools.cache
def generator(name):
    model, _, golden = recorded(name)
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    params = unstack_all(load(model, golden["before"]))  # Takes what it is given.
    return Generator(model, mesh), params, golden


def until_the_end(rows, first=0):
    """Ids from a place on, without what follows an end."""
    return [[*row[first:], 2][: [*row[first:], 2].index(2)] for row in np.asarray(rows).tolist()]


CAPTION = dict(max_new_tokens=9, min_new_tokens=2)  # Of 12 and 5 tokens, three are the prompt's.

BEAMS = dict(num_beams=3, beam_search="legacy")


@pytest.mark.parametrize(
    "name, options",
    [
        ("greedy", {}),
        ("beam", BEAMS),
        ("penalised", dict(BEAMS, repetition_penalty=1.5)),
    ],
)
def test_captions(name, options):
    """With the prompt [DEC] 7 11, whose first token the model puts in."""
    of, params, golden = generator("captioner")
    image = golden["batch"]["image"]
    prompt = np.tile(np.int32([1, 7, 11]), (len(image), 1))
    batch = {"image": image, "text": prompt, "text_mask": prompt > 0}
    ids = of.ids(params, batch, CAPTION | options)
    assert until_the_end(ids) == until_the_end(golden[name], 3)


def test_answers():
    of, params, golden = generator("vqa")
    batch = {"image": golden["batch"]["image"], "text": golden["questions"].astype(np.int32)}
    batch["text_mask"] = np.ones(batch["text"].shape, bool)
    answer = lambda **options: until_the_end(of.ids(params, batch, of.model.answering | options))
    assert answer() == until_the_end(golden["generated"], 1)
    assert answer(beam_search="current") != answer()  # As transformers searches today.


def test_ranking_of_answers():
    """Those with the likeliest first tokens, by their smoothed loss."""
    of, params, golden = generator("vqa")
    batch = {key: golden["batch"][key] for key in ("image", "text", "text_mask")}
    options = dict(of.model.ranking, preselect=5)
    scores = of.rank(params, batch, golden["answers"], golden["answers_mask"], **options)
    np.testing.assert_array_equal(scores.argmax(1), golden["ids"])
    close(np.sort(scores)[:, -5:], np.sort(golden["scores"]))


def test_bad_models():
    section = MODELS["pretrain"]
    for name, change, message in (
        ("pretrain", dict(vision=VISION | dict(norm_tokens=False)), "set norm_tokens=True"),
        ("pretrain", dict(text=section["text"] | dict(memory_width=8)), "memory_width=12"),
        ("pretrain", dict(text=section["text"] | dict(encoder=False, decoder=False)), "med: give"),
        ("pretrain", dict(text=section["text"] | dict(bos_id=24)), "bos_id 24 is none of the 24"),
        ("pretrain", dict(text=section["text"] | dict(causal=False)), "leave causal out"),
        ("nlvr", dict(enc_id=24), "enc_id 24 is none of the 24"),
        ("nlvr", dict(merge_from=7), "merge_from 7: a layer above the first of 7"),
        ("vqa", dict(decoder=MED), "as wide as model.text"),
        ("vqa", dict(decoder=dict(MED, memory_width=8, bos_id=None)), "set bos_id"),
    ):
        with pytest.raises(UserError, match=message):
            build_model(MODELS[name] | change)
    model, params, golden = recorded("retrieval")
    batch = {key: golden["batch"][key] for key in ("image", "text", "text_mask")}
    with pytest.raises(UserError, match="it writes nothing"):
        model.apply({"params": params}, batch, 9, method="prefill")
    long = np.ones((1, 17), np.int32)
    with pytest.raises(UserError, match="17 tokens, the model has 16 positions"):
        model.apply({"params": params}, long, method="text_states")
    model, params, golden = recorded("nlvr")
    with pytest.raises(UserError, match="17 tokens, the model has 16 positions"):
        model.apply({"params": params}, {**golden["batch"], "text": long, "text_mask": long > 0})
