# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""BLIP's training held to the official code, with what it draws given; and on meshes."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from jvlm.errors import UserError
from jvlm.models import build_model
from jvlm.objectives import build_objective
from tests.models.test_blip import MODELS
from tests.objectives import steps
from tests.recorded import one_step, read


def objective(name, model, **options):
    return build_objective(dict(name=name, **options), build_model(MODELS[model]))


MOMENTUM = dict(queue=12, momentum=0.9, alpha=0.3)


def test_one_step_of_pretraining():
    golden = read("blip_pretrain")
    extra = {name: golden["before"][f"{name}_queue"].T for name in ("image", "text")}
    extra["pointer"] = jnp.int32(0)
    out, extra = one_step(objective("blip", "pretrain", **MOMENTUM), golden, extra)
    losses = [out.metrics[name] for name in ("itc", "itm", "lm")]
    np.testing.assert_allclose(losses, golden["losses"], atol=1e-5)
    for name in ("image", "text"):
        want = golden["after"][f"{name}_queue"].T
        np.testing.assert_allclose(extra[name], want, atol=1e-6)
    assert extra["pointer"] == golden["after"]["queue_ptr"].item()


def test_one_step_of_retrieval():
    golden = read("blip_retrieval")
    names = {"image": "image_queue", "text": "text_queue", "image_id": "idx_queue"}
    queues = {ours: golden["before"][theirs].T for ours, theirs in names.items()}
    queues["image_id"] = queues["image_id"][:, 0].astype(np.int32)
    options = dict(MOMENTUM, same="soft", drawn_by="student")
    given = objective("blip", "retrieval", **options), golden
    out, extra = one_step(*given, {**queues, "pointer": jnp.int32(0)})
    losses = [out.metrics[name] for name in ("itc", "itm")]
    np.testing.assert_allclose(losses, golden["losses"], atol=1e-5)
    np.testing.assert_array_equal(extra["image_id"], golden["after"]["idx_queue"][0])


def test_one_step_of_captions():
    """The prompt's words are no targets."""
    golden = read("blip_captioner")
    batch = golden["batch"]
    labels = np.where(batch["text_mask"], batch["text"], -1)
    labels[:, :3] = -1
    given = objective("language", "captioner", label_smoothing=0.1), golden, {}
    out, _ = one_step(*given, labels=labels)
    np.testing.assert_allclose(out.loss, golden["loss"], atol=1e-5)


def test_one_step_of_answers():
    golden = read("blip_vqa")
    options = dict(momentum=None, label_smoothing=0.1, chunk=5)
    out, _ = one_step(objective("answers", "vqa", **options), golden, {})
    np.testing.assert_allclose(out.loss, golden["loss"], atol=1e-5)
    assert out.metrics.keys() == {"accuracy"}


def test_one_step_of_pairs_of_images():
    golden = read("blip_nlvr")
    out, _ = one_step(objective("classification", "nlvr", momentum=None), golden, {})
    np.testing.assert_allclose(out.loss, golden["loss"], atol=1e-5)


SHARDED = {  # Model -> objective.
    "pretrain": dict(name="blip", queue=32, momentum=0.9, alpha_steps=3, negatives=4),
    "nlvr": dict(name="classification", momentum=None),
}


@functools.cache
def run(mesh_name, name):
    c = common.base()
    c.steps, c.data.batch_size, c.optim.schedule = 10, steps.ROWS, "constant"
    section, depth = dict(MODELS[name]), dict(depth=2 if name == "nlvr" else 1)
    section |= {part: section[part] | depth for part in ("vision", "text")}
    c.model = section | (dict(merge_from=1) if name == "nlvr" else {})
    c.objective = SHARDED[name]
    part = list(steps.batches(3))
    if name == "nlvr":
        for batch in part:
            batch["image"] = np.stack([batch["image"], batch["image"][::-1]], 1)
            batch["label"] = batch["label"] % 2
    return steps.run(*steps.build(mesh_name, c), part)


@pytest.mark.parametrize(
    "mesh_name, name", [("1x4x2", "pretrain"), ("2x2x2", "pretrain"), ("2x2x2", "nlvr")]
)
def test_sharded_equals_unsharded(mesh_name, name):
    steps.same(run(mesh_name, name), run(None, name))


def test_the_average_is_of_what_reads_alone():
    _, after = run(None, "pretrain")
    parts = {path.split("/blocks/")[0].split("/")[0] for path in after["teacher"]}
    assert parts == {"vision", "text", "vision_proj", "text_proj"}
    kept = {path.split("/")[2] for path in after["teacher"] if path.startswith("text/blocks/")}
    assert kept == {"attn", "norm1", "mlp", "norm2"}


def test_bad_options():
    for name, model, options, message in (
        ("blip", "captioner", {}, "takes a model 'blip', not BLIPCaptioner"),
        ("blip", "pretrain", dict(label_smoothing=1), "label_smoothing 1: give 0 <= x < 1"),
        ("blip", "pretrain", dict(momentum=None), "momentum None: give 0 <= x <= 1"),
        ("answers", "captioner", {}, "no decoder of answers"),
        ("answers", "vqa", dict(label_smoothing=-0.1), "label_smoothing -0.1"),
        ("classification", "vqa", {}, "'albef_classifier' or 'blip_classifier', not BLIPVQA"),
    ):
        with pytest.raises(UserError, match=message):
            objective(name, model, **options)
