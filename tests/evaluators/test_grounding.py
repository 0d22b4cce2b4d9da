# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Grounding by heat maps, from the data set to rows that score again."""

import json

import jax
import numpy as np
import pytest

from jvlm import sharding
from jvlm.errors import UserError
from jvlm.evaluators import Batches, Grounding, build_evaluators, evaluate
from jvlm.models import build_model
from jvlm.score import score_file
from jvlm.tokenizers.sentencepiece import SentencePiece
from tests.models.test_albef import MODEL

SOURCE = dict(kind="tfds", name="digit_scenes/tiny", split="test", data_dir=None)
ROWS = (
    ("decode_image", {}),
    ("image_size", {}),
    ("preprocess", {}),
    ("tokenize", dict(key="phrase")),
    ("keep", dict(keys=("image", "text", "text_mask", "box", "size", "phrase"))),
)


@pytest.fixture(scope="module")
def given():
    words = ["the red green blue yellow purple left right upper lower digit zero one two three"] * 9
    tokenizer = SentencePiece.make(words, 8, vocab_size=24, model_type="char")
    model = build_model(MODEL)
    mesh = sharding.make_mesh(8)
    params = jax.jit(model.init)(jax.random.key(0), model.dummy_batch(8))["params"]
    about = dict(model=model, mesh=mesh, tokenizer=tokenizer)
    return about | dict(preprocess=(("resize_square", dict(size=16)),)), params


def section(rows=ROWS, **options):
    return dict(
        kind="grounding", data=dict(source=SOURCE, batch_size=16, transforms=rows), **options
    )


def test_rows_score_again_and_lie_in_the_image(given, tmp_path):
    about, params = given
    sections = {
        "points": section(count=20, layer=1, fields=dict(phrase="phrase")),
        "boxes": section(count=20, layer=1, rule="region", name="region"),
    }
    with jax.set_mesh(about["mesh"]):
        metrics = evaluate(build_evaluators(sections, **about), params, tmp_path)
    assert set(metrics) == {"grounding/pointing"} | {
        f"region/{name}" for name in ("acc_iou50", "mean_iou", "parsed")
    }
    for name, task in (("points", "pointing"), ("boxes", "grounding")):
        again = score_file(tmp_path / f"{name}.jsonl", task).metrics
        first = {"points": "grounding", "boxes": "region"}[name]
        assert {
            k.replace("grounding", first): v for k, v in again.items()
        }.items() <= metrics.items()
    rows = [json.loads(line) for line in (tmp_path / "points.jsonl").read_text().splitlines()]
    assert len(rows) == 20 and rows[0]["phrase"].startswith("the ")
    points = np.array([row["prediction"] for row in rows])
    assert ((points > 0) & (points < 48)).all() and points.max() > 16  # Not the model's pixels.


class Refs:
    """Two pictures, each with two expressions and three detected boxes, as `Batches` gives them."""

    batch_size, fingerprint, steps = 8, {"name": "refs"}, (("resize_square", dict(size=16)),)
    boxes = np.array([[0, 0, 20, 30], [20, 0, 40, 30], [0, 30, 40, 60]], np.float32)

    def __len__(self):
        return 2

    def examples(self, places):
        rng = np.random.default_rng(0)
        image = rng.integers(0, 255, (2, 16, 16, 3), np.uint8)
        text = np.array([[3, 4, 5], [6, 7, 8]], np.int32)
        common = dict(text=text, text_mask=text > 0, size=[40, 60], expressions=["a b", "c d"])
        return [
            dict(
                common,
                image=image[i],
                proposals={"box": list(self.boxes[: 3 * (1 - i)])},
                box=self.boxes[i],
            )
            for i in places
        ]


def test_every_expression_gets_one_of_the_detected_boxes(given):
    about, params = given
    one = Grounding(
        *(about["model"], Refs(), about["mesh"], "proposals"),
        fields=dict(text="expressions", size="size"),
    )
    rows = one.predict(params).rows
    assert [row["text"] for row in rows] == ["a b", "c d"] * 2
    assert all(row["prediction"] in Refs.boxes.tolist() for row in rows[:2])
    assert [row["prediction"] for row in rows[2:]] == [[0, 0, 0, 0]] * 2  # None was detected.
    assert rows[0]["size"] == [40, 60]  # Of the example, not of its expressions.
    itc = Grounding(about["model"], Refs(), about["mesh"], mode="itc", count=1)
    assert len(itc.predict(params).rows) == 2 and itc.settings()["layer"] == 1


def test_the_model_s_own_transforms_stand_inside_others(given):
    about, _ = given
    steps = (("decode_image", {}), ("preprocess", {}))
    rows = (("each_image", dict(key=("image",), steps=steps, count=1, size=16)),)
    batches = Batches(SOURCE, rows, 8, about["mesh"], preprocess=about["preprocess"])
    assert batches.examples([0])[0]["image"].shape == (1, 16, 16, 3)


def test_an_object_without_an_expression_does_not_count(given):
    about, params = given

    class Some(Refs):
        def examples(self, places):
            first, *rest = super().examples(places)
            none = np.zeros((0, 3), np.int32)
            return [first | dict(text=none, text_mask=none > 0), *rest]

    one = Grounding(about["model"], Some(), about["mesh"], "proposals")
    assert len(one.predict(params).rows) == 2


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(rule="point"), "Did you mean 'pointing'"),
        (dict(layer=7), "layers 0 to 1"),
        (dict(rule="region", threshold=0), "threshold"),
        (dict(rule="proposals"), "no entry 'proposals/box'"),
        (dict(fields=dict(id="number")), "no entry 'number'"),
        (dict(fields=dict(box="box")), "'box' is the evaluator's own"),
        (dict(count=0), "count"),
        (dict(rows=(*ROWS[:2], ("random_flip", {}), *ROWS[2:])), "random_flip"),
    ],
)
def test_mistakes_are_found_before_the_training(given, options, message):
    about, _ = given
    with pytest.raises(UserError, match=message):
        build_evaluators({"it": section(**options)}, **about)
