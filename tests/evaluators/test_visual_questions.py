# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Questions about images: ranked and written answers of ALBEF, as the official code ranks them."""

import jax
import numpy as np
import pytest

from jvlm import paths, sharding
from jvlm.errors import UserError
from jvlm.evaluators import Generate, Rank
from jvlm.generation.generator import Generator
from jvlm.generation.weights import unstack_all
from jvlm.models import build_model
from tests.models.test_albef import VQA
from tests.recorded import load, read


class Numbers:
    """A tokenizer of texts that are ids."""

    vocab_size, pad_id, eos_id = 24, 0, 2

    def encode(self, text, *, start=True, end=None):
        return [int(word) for word in text.split()]

    def __call__(self, texts, *, end=None, truncate=True):
        rows = [self.encode(text) for text in texts]
        ids = np.zeros((len(rows), max(map(len, rows))), np.int32)
        for row, new in zip(ids, rows):
            row[: len(new)] = new
        return ids, ids > 0

    def decode(self, ids):
        return " ".join(map(str, ids))


def words(ids, mask):
    return [" ".join(map(str, row[real])) for row, real in zip(ids, mask)]


@pytest.fixture(scope="module")
def golden():
    return read("albef_vqa")


@pytest.fixture(scope="module")
def given(golden):
    """What both evaluators are built of, and the weights."""
    questions = words(golden["batch"]["text"], golden["batch"]["text_mask"])

    class Questions:
        batch_size = 4
        rows = [
            dict(image=image, question=question, answers=["5 2"] * 4)
            for image, question in zip(golden["batch"]["image"], questions)
        ]

        def __len__(self):
            return len(self.rows)

        def examples(self, places):
            return [self.rows[place] for place in places]

    model = build_model(VQA)
    built = dict(model=model, tokenizer=Numbers(), batches=Questions())
    asked = dict(task="vqa", prompt="{question}", fields=dict(answers="answers"))
    return built | asked | dict(inputs=("image",)), load(model, golden["before"])


def test_ranking_is_the_official_code_s(given, golden):
    options, params = given
    mesh = sharding.make_mesh(4, 1, 2)
    answers = words(golden["answers"], golden["answers_mask"].astype(bool))
    params = jax.device_put(params, sharding.tree_shardings(params, mesh))
    how = dict(candidates=answers, preselect=5, first_weight=2.0, kept=5)
    with jax.set_mesh(mesh):
        rows = Rank(**options, mesh=mesh, **how).predict(params).rows
    assert [row["candidates"] for row in rows] == [
        [answers[place] for place in places] for places in golden["ids"]
    ]
    odds = jax.nn.softmax(np.array([row["scores"] for row in rows]), axis=1)
    np.testing.assert_allclose(odds, golden["probabilities"], atol=1e-5)


def test_a_model_that_sees_needs_images(given):
    options, _ = given
    options = options | dict(inputs=(), mesh=sharding.make_mesh(8))
    with pytest.raises(UserError, match="vqa: inputs: the model sees images: add 'image'"):
        Generate(**options)


def test_beams_see_their_images(given):
    """Of several questions at once, as of each alone; another image changes the answer."""
    options, params = given
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    # Answers that depend on the image at all.
    strong = lambda path, x: x * 6 if x.ndim > 1 and "cross" in path else x
    params = paths.map_with_path(strong, params)
    decoding = dict(num_beams=3, max_new_tokens=5)
    with jax.set_mesh(mesh):
        found = Generate(**options, mesh=mesh, options=decoding).predict(params).rows
    generator, params = Generator(options["model"], mesh), unstack_all(params)
    rows, tokenizer = options["batches"].rows, options["tokenizer"]

    def alone(row, image):
        ids, mask = tokenizer([row["question"]])
        batch = {"image": image[None], "text": ids, "text_mask": mask}
        new = generator.ids(params, batch, decoding)[0].tolist()
        return tokenizer.decode(new[: new.index(2)] if 2 in new else new)

    said = [row["prediction"] for row in found]
    assert said == [alone(row, row["image"]) for row in rows]
    assert said != [alone(row, rows[0]["image"] * 0) for row in rows]
