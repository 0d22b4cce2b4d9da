# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""BLIP on image files: captions, answers, matches, heat maps; Python and the command line."""

import json
import types

import jax
import numpy as np
import pytest
from PIL import Image

from jvlm import gradcam, paths, search, sharding
from jvlm.errors import UserError
from jvlm.evaluators import Generate
from jvlm.generation import tasks
from jvlm.models import build_model
from jvlm.pretrained import Pretrained, Processor
from jvlm.tokenizers.wordpiece import WordPiece

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a picture of dog cat ##s red blue left is it yes no what"
WORDS = f"{WORDS} on b c d".split()
DEC, ENC = len(WORDS), len(WORDS) + 1
TOWER = dict(width=8, depth=2, num_heads=2, mlp_dim=16)
VISION = dict(image_size=16, patch_size=8, norm_eps=1e-6, patch_bias=True, pre_norm=False)
VISION |= dict(norm_tokens=True, **TOWER)
TEXT = dict(vocab_size=len(WORDS) + 2, max_len=32, memory_width=8, **TOWER)
TEXT |= dict(bos_id=DEC, enc_id=ENC, eos_id=3)
STEPS = (("resize_square", dict(size=16)),)
SECTIONS = {
    "captioner": dict(
        name="blip_captioner",
        vision=VISION,
        text=dict(TEXT, encoder=False),
        prompt="a picture of",
    ),
    "answerer": dict(
        name="blip_vqa",
        vision=VISION,
        text=dict(TEXT, decoder=False),
        decoder=dict(TEXT, encoder=False),
    ),
    "matcher": dict(name="blip", vision=VISION, text=dict(TEXT, decoder=False), embed_dim=4),
}
CLEANING = {"answerer": "pre_question"}


def make(name):
    tokenizer = WordPiece({"vocab.txt": "\n".join(WORDS).encode()}, max_len=16)
    model = build_model(SECTIONS[name])
    shapes = jax.eval_shape(model.init, jax.random.key(0), model.dummy_batch(1))["params"]
    rng = np.random.default_rng(3)

    def draw(path, x):
        if path.endswith(("scale", "bias")):
            return np.full(x.shape, float(path.endswith("scale")), np.float32)
        # What is said depends on the image, and on what was said before.
        std = 4.0 if "cross_attn/out" in path else 0.7
        return rng.normal(0, std, x.shape).astype(np.float32)

    params = paths.map_with_path(draw, shapes)
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    cleaning = ((CLEANING.get(name, "pre_caption"), dict(variant="blip")),)
    return Pretrained(model, params, Processor(STEPS, tokenizer, cleaning), mesh, model.cfg.kind)


@pytest.fixture(scope="module")
def models():
    return {name: make(name) for name in SECTIONS}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(1)
    for place, name in enumerate("abc"):
        pixels = rng.integers(0, 99, (30, 48, 3), np.uint8)
        pixels[..., place] += 150
        Image.fromarray(pixels).save(folder / f"{name}.jpg")
    return sorted(map(str, folder.iterdir()))


@pytest.fixture
def call(call, monkeypatch, models):
    monkeypatch.setattr("jvlm.pretrained.load", lambda path, **_: models[path])
    return call


def test_captions_are_what_generation_says_behind_the_prompt(models, pictures, monkeypatch):
    m = models["captioner"]
    texts = m.caption(pictures)
    assert len(texts) == 3 and len(set(texts)) > 1
    want = m.generate(pictures, ["A picture of."] * 3, **m.model.captioning)
    assert texts == want
    # The ids that are read: [DEC] in place of [CLS], no [SEP].
    batch = m._prompt_batch(pictures[:1], [m.config.prompt])
    assert batch["text"].tolist() == [[2, 5, 6, 7]] and batch["text_mask"].all()
    begun = dict(batch, text=np.array([[DEC, 5, 6, 7]], np.int32))
    np.testing.assert_array_equal(*(m.generate_ids(x, max_new_tokens=5) for x in (batch, begun)))
    # Another prompt, none, and a few images at a time.
    drawn = lambda *prompt: tuple(m.caption(pictures, *prompt, temperature=2.0))
    assert len({drawn(), drawn("red dogs"), drawn("")}) == 3 and drawn() == drawn("a picture of")
    assert m._prompt_batch(pictures[:1], [""])["text"].tolist() == [[2]]
    monkeypatch.setattr(tasks, "ROWS", 2)
    assert m.caption(pictures) == texts


def test_samples_depend_on_the_number_of_their_image(models, pictures):
    m = models["captioner"]
    how = dict(temperature=1.0, top_p=0.9, num_return_sequences=2, max_new_tokens=6)
    texts = m.caption(pictures, **how)
    assert len(texts) == 6 and len(set(texts)) > 2
    assert m.caption(pictures[2:], first=2, **how) == texts[4:]
    one = m.caption(pictures, allowed_texts=["red dog", "blue cat"], temperature=1.0)
    assert set(one) <= {"red dog", "blue cat"}


def test_what_writes_no_captions(models, pictures):
    with pytest.raises(UserError, match="blip_vqa writes no captions"):
        models["answerer"].caption(pictures)
    with pytest.raises(UserError, match="give a list of images"):
        models["captioner"].caption("a.png")
    with pytest.raises(UserError, match="made without decoder"):
        models["matcher"].caption(pictures)
    with pytest.raises(UserError, match="Did you mean 'num_beams'"):
        models["captioner"].caption(pictures, num_beems=2)


def test_the_command(call, models, pictures):
    m = models["captioner"]
    texts = m.caption(pictures)
    status, out, error = call("caption", *pictures, "--model", "captioner")
    assert status == 0, error
    assert out == "".join(f"{image}: {text}\n" for image, text in zip(pictures, texts))
    folder = pictures[0].rsplit("/", 1)[0]
    options = ("--num_beams", 4, "--num_return_sequences", 2, "--prompt", "red", "--json")
    status, out, error = call("caption", folder, "--model", "captioner", *options)
    assert status == 0, error
    found = json.loads(out)
    assert [one["image"] for one in found] == pictures
    want = m.caption(pictures, "red", num_beams=4, num_return_sequences=2)
    assert [text for one in found for text in one["captions"]] == want
    assert all(one["caption"] == one["captions"][0] for one in found)
    status, _, error = call("caption", "missing.jpg", "--model", "captioner")
    assert status == 2 and "missing.jpg" in error and error.count("\n") == 1
    status, _, error = call("caption", *pictures, "--model", "matcher")
    assert status == 2 and "made without decoder" in error and error.count("\n") == 1


def test_ask(call, models, pictures):
    asked = (pictures[0], "What is it?", "--model", "answerer")
    status, out, error = call("ask", *asked)
    assert status == 0, error
    how = models["answerer"].model.answering
    assert out == models["answerer"].generate(pictures[:1], ["what is it ?"], **how)[0] + "\n"
    assert call("ask", *asked, "--temperature", 0.5, "--top_p", 0.9)[0] == 0
    status, out, error = call("ask", *asked, "--answers", "yes", "no", "--json")
    assert status == 0, error
    how = models["answerer"].model.ranking
    scores = models["answerer"].rank(pictures[:1], ["what is it?"], ["yes", "no"], **how)[0]
    assert json.loads(out)["answer"] == ("yes", "no")[scores.argmax()]


def test_a_question_of_signs_alone(models, pictures):
    """Nothing is left of it; the evaluation goes on, and the model sees the image."""
    m = models["answerer"]
    images = m.processor(images=pictures)["image"]

    class Questions:
        batch_size = 2
        rows = [dict(image=image, question=q, answers=["yes"]) for image, q in zip(images, "ab")]
        rows[1]["question"] = ""

        def __len__(self):
            return len(self.rows)

        def examples(self, places):
            return [self.rows[place] for place in places]

    asked = dict(task="exact", prompt="{question}", fields=dict(answers="answers"))
    given = dict(model=m.model, tokenizer=m.processor.tokenizer, batches=Questions(), mesh=m.mesh)
    with jax.set_mesh(m.mesh):
        evaluator = Generate(**given, **asked, inputs=("image",), options=m.model.answering)
        rows = evaluator.predict(m._stacked_params()).rows
    assert len(rows) == 2 and rows[1]["prompt"] == ""
    assert m.generate(pictures[:1], ["!!"], **m.model.answering)


def test_match_and_a_second_look(call, models, pictures, tmp_path):
    m = models["matcher"]
    status, out, error = call("match", *pictures, "--texts", "A red dog.", "--model", "matcher")
    assert status == 0, error
    assert [float(line.split()[0]) for line in out.splitlines()] == pytest.approx(
        m.match(pictures, ["a red dog"] * 3).tolist(), abs=1e-4
    )
    # The logit is added to the cosine (train_retrieval.py), and that is the order.
    found = [dict(image=image, score=score) for image, score in zip(pictures, (9.0, 0.0, -9.0))]
    again = search.rerank(m, {"text": "a red dog"}, found)
    logits = m.match_logits(pictures, ["a red dog"] * 3)[:, 1]
    want = dict(zip(pictures, logits + [9.0, 0.0, -9.0]))
    assert {one["image"]: one["match"] for one in again} == pytest.approx(want, rel=1e-5)
    assert [one["match"] for one in again] == sorted(want.values(), reverse=True)
    folder = pictures[0].rsplit("/", 1)[0]
    where = ("--images", folder, "--cache", tmp_path, "--model", "matcher", "--rerank", 2)
    status, out, error = call("search", "a red dog", *where)
    assert status == 0 and len(out.splitlines()) == 2, error


def test_heat_maps(call, models, pictures, tmp_path):
    """Of the seventh of twelve layers, LAVIS's; every layer has them."""
    m = models["matcher"]
    heat = m.gradcam(pictures[:1], ["a red dog"])[0]
    assert [word for word, _ in heat.words] == ["a", "red", "dog"]
    assert heat.phrase.shape == (2, 2) and heat.phrase.max() > 0
    arguments = (pictures[0], "red dog", "--model", "matcher", "--gradcam")
    assert call("ground", *arguments, "--out", tmp_path / "heat.png")[0] == 0
    deep = types.SimpleNamespace(
        cfg=types.SimpleNamespace(text=types.SimpleNamespace(depth=12)), pair_logits=None
    )
    assert gradcam.choose_layer(deep, "itm") == 6
    with pytest.raises(UserError, match="layers 0 to 11"):
        gradcam.choose_layer(deep, "itm", 12)
