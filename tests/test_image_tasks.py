# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What loaded models do with an image and a text, from Python and from the command line."""

import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from jvlm import sharding
from jvlm.errors import UserError
from jvlm.heat import words_of
from jvlm.models import build_model
from jvlm.pretrained import Pretrained, Processor
from jvlm.tokenizers.wordpiece import WordPiece
from tests.models.test_albef import MODEL, VQA

WORDS = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] the red dog ##s left is it yes no ? blue two ##ly on of a b c d"
)
STEPS = (("resize_square", dict(size=16)),)


def make(section, steps=STEPS, cleaning=()):
    vocabulary = "\n".join(WORDS.split()).encode()
    tokenizer = WordPiece({"vocab.txt": vocabulary}, max_len=8, sep=False)
    model = build_model(section)
    shapes = jax.eval_shape(model.init, jax.random.key(0), model.dummy_batch(1))["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.normal(0, 0.4, x.shape).astype(np.float32), shapes)
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    return Pretrained(model, params, Processor(steps, tokenizer, cleaning), mesh, section["name"])


@pytest.fixture(scope="module")
def matcher():
    return make(MODEL, cleaning=(("pre_caption", dict(variant="albef")),))


@pytest.fixture(scope="module")
def answerer():
    section = dict(VQA, decoder=dict(VQA["decoder"], max_len=16, bos_id=2, eos_id=3))
    return make(section, cleaning=(("pre_question", dict(variant="albef")),))


@pytest.fixture
def call(call, monkeypatch, matcher, answerer):
    """The command line, for which both models are loaded once."""
    models = {"matcher": matcher, "answerer": answerer}
    monkeypatch.setattr("jvlm.pretrained.load", lambda path, **_: models[path])
    return call


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of three pictures."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name in "abc":
        pixels = rng.integers(0, 255, (30, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def test_words_are_made_of_their_tokens(matcher):
    ids = matcher.processor.tokenizer.encode("the dogs on it")
    found = words_of(matcher.processor.tokenizer, ids)
    assert found == [("the", [1]), ("dogs", [2, 3]), ("on", [4]), ("it", [5])]


def test_texts_are_cleaned_as_in_training_and_answers_are_not(matcher, answerer, images):
    image, plain, typed = [str(images / "a.png")], "is it the red dog", "Is it the (red) dog?"
    for method in (matcher.match, matcher.ground):
        np.testing.assert_array_equal(method(image, [plain]), method(image, [typed]))
    embeds = matcher.embed_text([plain, typed])
    np.testing.assert_array_equal(*embeds)
    assert [word for word, _ in matcher.gradcam(image, [typed])[0].words] == plain.split()
    rank = lambda text: answerer.rank(image, [text], ["yes", "yes?"])[0]
    np.testing.assert_array_equal(rank(plain), rank(typed))
    assert len(set(rank(typed).tolist())) == 2


def test_a_run_says_how_texts_are_cleaned():
    def clean(*transforms):
        config = ConfigDict(dict(preprocess=STEPS, data=dict(transforms=transforms)))
        return Processor.of_run(config, None).clean(["A dog."])

    caption = ("pre_caption", dict(key="captions", out="caption", variant="albef"))
    answer = ("pre_question", dict(key="answer", variant="blip", max_words=1))
    read = ("tokenize", dict(key="caption"))
    assert clean(caption, answer, read) == ["a dog"]
    assert clean(answer, read) == clean(caption) == ["A dog."]
    assert clean(("straight_quotes", dict(key="caption")), read, ("keep", {})) == ["A dog."]


def test_maps_and_boxes_lie_in_the_image(matcher, images):
    pictures = [str(images / "a.png"), np.zeros((20, 90, 3), np.uint8)]
    heats = matcher.gradcam(pictures, ["the dogs", "two"])
    assert [word for word, _ in heats[0].words] == ["the", "dogs"]
    assert heats[0].phrase.shape == (2, 2) and heats[0].phrase.max() > 0
    assert (heats[1].frame.dx, heats[1].frame.dy) == (90, 20)
    boxes = matcher.ground(pictures, ["the dogs", "two"])
    np.testing.assert_allclose(boxes, [heat.box() for heat in heats])
    assert (boxes >= 0).all() and (boxes <= [[48, 30] * 2, [90, 20] * 2]).all()
    itc = matcher.gradcam(pictures[:1], ["two"], mode="itc")[0]
    assert itc.words == () and itc.phrase.shape == (2, 2)
    with pytest.raises(UserError, match="as many images"):
        matcher.ground(pictures, ["two"])


def test_ground_draws(call, images, tmp_path):
    image, out = images / "a.png", tmp_path / "heat.png"
    arguments = (image, "the red dogs", "two", "--model", "matcher")
    status, text, error = call("ground", *arguments, "--json", "--gradcam", "--out", out)
    assert status == 0, error
    results = json.loads(text)
    assert [result["phrase"] for result in results] == ["the red dogs", "two"]
    assert len(results[0]["box"]) == 4 and len(results[0]["hottest"]) == 2
    with Image.open(out) as picture:
        # The image, the phrase, its three words; then a second row.
        assert picture.width > 5 * 200 and picture.height > 2 * 100
    status, _, error = call("ground", *arguments, "--gradcam")
    assert status == 2 and "--out" in error and error.count("\n") == 1
    status, _, error = call("ground", *arguments, "--layer", 9)
    assert status == 2 and "layers 0 to 1" in error
    status, _, error = call("ground", image, "two", "--model", "answerer")
    assert status == 2 and "albef_vqa has no head" in error and error.count("\n") == 1


def test_search_looks_again(call, images, tmp_path):
    where = ("--images", images, "--cache", tmp_path, "--model", "matcher")
    status, text, error = call("search", "the red dog", *where, "--rerank", 2, "--json")
    assert status == 0, error
    again = json.loads(text)
    matches = [one["match"] for one in again]
    assert len(again) == 2 and matches == sorted(matches, reverse=True)
    _, text, _ = call("search", "the red dog", *where, "--json", "--top", 2)
    assert {one["image"] for one in again} == {one["image"] for one in json.loads(text)}
    status, _, error = call("search", "the red dog", *where, "--rerank", 2, "--top", 0)
    assert status == 2 and "--top 0" in error
    picture = images / "a.png"
    status, _, error = call("search", picture, "--image_query", *where, "--rerank", 2)
    assert status == 2 and "one image with another" in error


def test_lavis_adds_the_logit_to_the_cosine(matcher):
    assert matcher.model.rerank_rule == "replace"
    assert build_model(dict(MODEL, text=dict(MODEL["text"], num_types=0))).rerank_rule == "add"


def test_ask_writes_or_chooses(call, images, tmp_path):
    arguments = (images / "a.png", "is it a dog?", "--model", "answerer")
    status, text, error = call("ask", *arguments, "--max_new_tokens", 3, "--json")
    assert status == 0, error
    assert call("ask", *arguments)[0] == 0  # A decoder of few positions: answers are short.
    written = json.loads(text)
    assert written["question"] == "is it a dog?" and written["answer"] == written["answers"][0]
    status, text, error = call("ask", *arguments, "--answers", "yes", "no", "two dogs", "--json")
    assert status == 0, error
    chosen = json.loads(text)
    scores = [one["score"] for one in chosen["answers"]]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)
    (tmp_path / "list.json").write_text('["yes", "no", "two dogs"]')
    status, text, _ = call("ask", *arguments, "--answers", tmp_path / "list.json", "--json")
    assert json.loads(text) == chosen
    (tmp_path / "list.json").write_text('"yes"')
    status, _, error = call("ask", *arguments, "--answers", tmp_path / "list.json")
    assert status == 2 and "a list of answers" in error
    status, _, error = call("ask", *arguments, "--answers", "yes", "--num_beams", 2)
    assert status == 2 and "--num_beams" in error
    status, _, error = call("ask", *arguments, "--answers", "yes", "--top", 0)
    assert status == 2 and "--top 0" in error
    status, _, error = call("ask", *arguments[:3], "matcher")
    assert status == 2 and "albef is no language model" in error
