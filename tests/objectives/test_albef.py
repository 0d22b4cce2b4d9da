# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""ALBEF's pretraining: meshes, micro-batches, queue and teacher."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from jvlm import paths
from jvlm.checkpoint import Checkpoints
from jvlm.errors import UserError
from jvlm.losses.momentum import (
    Sides,
    draw_negatives,
    momentum_contrastive,
    random_features,
    same_group,
)
from jvlm.models import build_model
from jvlm.objectives import Objective, build_objective, micro_batches
from jvlm.objectives.albef import ALBEF
from jvlm.objectives.base import LossOutput
from jvlm.objectives.momentum import COMPAT
from tests.objectives import steps
from tests.objectives.steps import ROWS, VOCAB, batches, fresh, go_on

TOWER = dict(width=8, depth=1, num_heads=2, mlp_dim=16)
VISION = dict(
    image_size=8, patch_size=4, patch_bias=True, pre_norm=False, norm_tokens=True, **TOWER
)
MODEL = {
    "name": "albef",
    "embed_dim": 8,
    "fusion_depth": 1,
    "vision": VISION,
    "text": dict(vocab_size=VOCAB, max_len=6, **TOWER),
}


TOWERS = {key: MODEL[key] for key in ("fusion_depth", "vision", "text")}
DECODER = dict(MODEL["text"], causal=True, memory_width=8, bos_id=1, eos_id=2)
TASKS = {  # Objective -> model.
    "albef": MODEL,
    "answers": TOWERS | dict(name="albef_vqa", decoder=DECODER),
    "classification": TOWERS | dict(name="albef_classifier", num_classes=3),
    "text_assignment": TOWERS
    | dict(name="albef_classifier", num_classes=3, num_images=2, head="linear", embed_dim=8),
}


def config(task="albef", **objective):
    c = common.base()
    c.steps = 10
    c.model = TASKS[task]
    options = dict(queue=32, mask_id=3, silent_ids=(1,)) if task == "albef" else {}
    if task != "text_assignment":
        options |= dict(momentum=0.9, alpha_steps=3)
    c.objective = dict(name=task, **options, **objective)
    c.data.batch_size = ROWS
    # Adam's first update is g / (|g| + eps): an eps well above rounding keeps gradients that are
    # zero but for it from updates as large as the rate.
    c.optim.update(dict(lr=0.05, eps=1e-2, schedule="constant"))
    return c


def with_data(task, part):
    """Without what a task draws itself: pairs, and so classes."""
    drawn = {"label"} if task == "text_assignment" else set()
    return [{k: v for k, v in batch.items() if k not in drawn} for batch in part]


@functools.cache
def build(mesh_name, task, **objective):
    return steps.build(mesh_name, config(task, **objective))


@functools.cache
def run(mesh_name, task="albef", **options):
    """See `steps.run`."""
    return steps.run(*build(mesh_name, task, **options), with_data(task, batches(3)))


GROUPS = dict(negatives=4, same="soft")


@pytest.mark.parametrize(
    "mesh_name, options",
    [
        ("1x4x2", {}),
        ("8x1x1", GROUPS),
        ("2x2x2", GROUPS),
        *(("2x2x2", dict(task=task)) for task in TASKS if task != "albef"),
    ],
)
def test_sharded_equals_unsharded(mesh_name, options):
    steps.same(run(mesh_name, **options), run(None, **options))


def test_the_queue_moves_on_once_a_step():
    """All of the batch is put into it, and the oldest goes."""
    _, after = run(None)
    assert after["extra"]["pointer"] == 3 * ROWS % 32
    objective = ALBEF(build_model(MODEL), queue=32)
    one, two = (
        objective.update_extra(
            {"image": jnp.zeros((32, 8)), "text": jnp.zeros((32, 8)), "pointer": jnp.int32(p)},
            {"image": jnp.ones((16, 8)), "text": jnp.ones((16, 8))},
        )
        for p in (0, 16)
    )
    assert one["image"][:16].all() and not one["image"][16:].any() and one["pointer"] == 16
    assert two["text"][16:].all() and not two["text"][:16].any() and two["pointer"] == 0


def test_micro_batches_are_put_into_the_queue_together():
    class Features(Objective):
        """Its batch is what it puts into a queue."""

        def loss(self, params, batch, *, teacher, extra, rng, step):
            return LossOutput(params["w"] * batch.sum(), {}, batch)

        def update_extra(self, extra, news):
            return jnp.concatenate([extra, news])

    batch = np.arange(16.0)
    given = dict(frozen={}, teacher=None, rng=jax.random.key(0), step=0)
    out, _ = Features(None).value_and_grad(
        {"w": jnp.float32(1)}, micro_batches(batch, 4), extra=np.ones(3), **given
    )
    np.testing.assert_array_equal(out.extra, [1, 1, 1, *batch])


def test_the_average_is_of_what_the_teacher_reads():
    _, after = run(None)
    before = paths.flatten(fresh(build(None, "albef")[0]).teacher)
    assert before.keys() == after["teacher"].keys()
    assert {path.split("/")[0] for path in before} == {
        *("vision", "text", "fusion", "vision_proj", "text_proj", "words")
    }
    for path, leaf in after["teacher"].items():
        assert not np.array_equal(leaf, before[path]), path
        assert not np.array_equal(leaf, after["params"][path]), path


def test_negatives():
    inside = same_group(8, 4)
    identity = np.array([0, 0, 1, 2, 5, 5, 5, 5])
    wrong = inside & (identity[:, None] != identity)
    scores = jax.random.normal(jax.random.key(0), (8, 8)) * 3
    draw = jax.jit(draw_negatives, static_argnums=4)
    given = scores, inside, wrong
    for floor in (0.0, 1e-4):
        drawn = np.stack([draw(jax.random.key(i), *given, floor)[0] for i in range(400)])
        counts = draw(jax.random.key(0), *given, floor)[1]
        np.testing.assert_array_equal(counts, [True] * 4 + [False] * 4)
        for row in range(4):
            assert wrong[row][drawn[:, row]].all()
            weights = np.where(wrong[row], np.exp(scores[row]), 0)
            got = np.bincount(drawn[:, row], minlength=8) / 400
            np.testing.assert_allclose(got, weights / weights.sum(), atol=0.1)


def test_a_resume_has_queue_and_teacher(tmp_path):
    """Through a checkpoint: bit for bit, alpha and draws included; elsewhere to rounding."""
    every = list(batches(4))
    training, mesh = build("8x1x1", "albef", **GROUPS)
    _, state = go_on(training, mesh, fresh(training), every[:2])
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(2, state, {})
    checkpoints.wait()
    want_metrics, state = go_on(training, mesh, state, every[2:])
    want = by_path(state)
    for mesh_name, tolerance in (("8x1x1", 0), ("2x2x2", 1e-5)):
        training, mesh = build(mesh_name, "albef", **GROUPS)
        state = checkpoints.restore(2, training.state)
        assert state.extra["pointer"] == 0 and (state.extra["image_id"] >= 0).all()
        places = paths.flatten(jax.tree.map(lambda x: x.sharding, state.params))
        for path, leaf in paths.flatten(state.teacher).items():  # Split as the student is.
            assert leaf.sharding == places[path], path
        metrics, state = go_on(training, mesh, state, every[2:])
        for ours, theirs in zip(metrics, want_metrics):
            np.testing.assert_allclose(*map(list, (ours.values(), theirs.values())), rtol=tolerance)
        got = by_path(state)
        assert got.keys() == want.keys()
        for path in want:
            np.testing.assert_allclose(got[path], want[path], rtol=0, atol=tolerance, err_msg=path)
    checkpoints.close()


def by_path(state):
    kept = {name: getattr(state, name) for name in ("params", "teacher", "extra", "opt_state")}
    return {jax.tree_util.keystr(k): np.asarray(v) for k, v in jax.tree.leaves_with_path(kept)}


@pytest.fixture(scope="module")
def compat():
    """(kind -> function of a key and labels to what a first step gives, texts without dropout)."""
    text = MODEL["text"] | dict(dropout=0.3, attn_dropout=0.3)
    model = build_model(MODEL | dict(text=text))
    params = jax.jit(model.init)(jax.random.key(0), model.dummy_batch(1))["params"]
    batch = next(batches(1))
    batch["masked_text"] = batch["text"]
    masked = np.full_like(batch["text"], -1)
    masked[:2, 1] = batch["text"][:2, 1]  # Two words of the first group of rows.

    def function(kind):
        objective = ALBEF(model, queue=32, negatives=4, alpha_steps=9, compat=kind)
        given = dict(teacher=objective.init_teacher(params), step=jnp.int32(0))
        given["extra"] = objective.init_extra(jax.random.key(9), ROWS)
        loss = lambda key, labels: objective.loss(
            params, {**batch, "masked_labels": labels}, rng=key, **given
        )
        compiled = jax.jit(loss)
        return lambda key, labels=masked: compiled(key, labels)

    embed = jax.jit(functools.partial(model.apply, method="encode_text"))
    embeds = embed({"params": params}, batch["text"], batch["text_mask"])
    return {kind: function(kind) for kind in COMPAT}, embeds


def test_the_official_teacher_reads_with_dropout(compat):
    of, embeds = compat
    official, fixed = (of[kind](jax.random.key(0)).extra for kind in COMPAT)
    np.testing.assert_allclose(fixed["text"], embeds, atol=1e-6)
    other = of["official"](jax.random.key(1)).extra
    for x in (embeds, other["text"]):
        assert np.abs(official["text"] - x).max() > 1e-2
    for x in (fixed, other):  # There is none in the image tower.
        np.testing.assert_allclose(official["image"], x["image"], atol=1e-6)
    again = of["official"](jax.random.key(0)).extra
    np.testing.assert_array_equal(official["text"], again["text"])


def test_masked_words_weigh_the_same_where_that_is_fixed(compat):
    """Three of four groups have none."""
    official, fixed = (compat[0][kind](jax.random.key(0)).metrics["mlm"] for kind in COMPAT)
    np.testing.assert_allclose(official * 4, fixed, rtol=1e-5)


def test_a_queue_that_larger_batches_go_on_with_is_written_everywhere():
    """A place that is never written over keeps the features of another model for good."""
    objective = ALBEF(build_model(MODEL), queue=32)
    extra = objective.init_extra(jax.random.key(0), ROWS) | {"pointer": jnp.int32(8)}
    ones = {name: jnp.ones_like(extra[name][:16]) for name in Sides._fields}
    for _ in range(2):
        extra = objective.update_extra(extra, ones)
    assert extra["pointer"] == 0
    assert all((extra[name] == 1).all() for name in Sides._fields)


def test_empty_places_of_the_queue_are_left_out_where_that_is_fixed():
    features = lambda seed, rows: Sides(
        *(random_features(key, (rows, 8)) for key in jax.random.split(jax.random.key(seed)))
    )
    own, queue = (features(0, 4), features(1, 4)), features(2, 12)

    @functools.partial(jax.jit, static_argnames="written")
    def itc(written=None, filled=None):
        part = jax.tree.map(lambda x: x[:written], queue) if written else None
        return momentum_contrastive(*own, jnp.float32(0.1), 0.4, queue=part, filled=filled)[0]

    for written in (0, 4, 12):
        np.testing.assert_allclose(itc(12, jnp.arange(12) < written), itc(written), rtol=1e-6)
    objective = ALBEF(build_model(MODEL), queue=32, compat="fixed")
    extra = objective.init_extra(jax.random.key(0), ROWS)
    extra["pointer"] += 16  # As a queue that was filled from elsewhere may have it.
    for want in ((0, 0), (0, 1), (1, 1), (1, 1)):
        np.testing.assert_array_equal(objective.filled(extra), np.repeat(want, 16))
        extra = objective.update_extra(extra, {name: extra[name][:16] for name in Sides._fields})


def test_a_batch_without_masked_words(compat):
    """Small batches have some; a metric that is not finite would end the run."""
    for kind in COMPAT:
        metrics = compat[0][kind](jax.random.key(0), np.full((ROWS, 6), -1, np.int32)).metrics
        assert metrics["mlm"] == 0 and all(np.isfinite(value) for value in metrics.values())


def test_bad_options():
    build = lambda task, model, **options: build_objective(
        {**config(task).objective, **options}, build_model(TASKS[model])
    )
    for options, message in (
        (dict(same="sotf"), "Did you mean 'soft'"),
        (dict(negatives=1), "at least 2"),
        (dict(momentum=1.5), "momentum 1.5"),
        (dict(compat="offical"), "Did you mean 'official'"),
    ):
        with pytest.raises(UserError, match=message):
            build("albef", "albef", **options)
    for task, model, message in (
        ("albef", "classification", "'albef'.*takes a model 'albef'"),
        ("classification", "albef", "takes a model 'albef_classifier'"),
        ("text_assignment", "classification", "2 images and embeddings"),
        ("answers", "albef", "no decoder of answers"),
    ):
        with pytest.raises(UserError, match=message):
            build(task, model)
    with pytest.raises(UserError, match="no multiple of data.batch_size"):
        build("albef", "albef", queue=40).init_extra(jax.random.key(0), ROWS)
    for group in (2, 5):
        objective = build("text_assignment", "text_assignment", group=group)
        with pytest.raises(UserError, match=f"objective.group {group}"):
            objective.draw(jax.random.key(0), jnp.ones((ROWS, 8)))
