# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The language objective: what predicts what, and the same mean however the batch is cut."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm import sharding
from jvlm.errors import UserError
from jvlm.hlo import Program
from jvlm.models import build_model
from jvlm.objectives import build_objective, micro_batches

V, T, Q = 32, 6, 2
GPT2 = dict(name="gpt2", vocab_size=V, max_len=12, width=16, depth=1, num_heads=2, mlp_dim=32)


@pytest.fixture(scope="module")
def model():
    return build_model(GPT2)


@pytest.fixture(scope="module")
def params(model):
    return jax.jit(model.init)(jax.random.key(0), model.dummy_batch(1))["params"]


@pytest.fixture
def batch(rng):
    """Texts of every length, answers of every other."""
    length = rng.integers(3, T + 1, 8)
    mask = np.arange(T) < length[:, None]
    text = np.where(mask, rng.integers(1, V, (8, T)), 0).astype(np.int32)
    answer = mask & (np.arange(T) >= (length - rng.integers(1, 3, 8))[:, None])
    return dict(text=text, text_mask=mask, labels=np.where(answer, text, -1).astype(np.int32))


def objective(model, **options):
    return build_objective(dict(name="language", chunk=4, **options), model)


def run(objective, params, batch):
    loss = lambda params, batch: objective.loss(
        params, batch, teacher=None, extra={}, rng=None, step=0
    )
    return jax.jit(loss)(params, batch)


def log_probabilities(model, params, batch):
    apply = jax.jit(lambda params, batch: model.apply({"params": params}, batch).logits)
    return np.asarray(jax.nn.log_softmax(apply(params, batch)), np.float64)


def test_a_token_is_predicted_by_those_before_it(model, params, batch):
    log_p = log_probabilities(model, params, batch)
    want = [
        -log_p[row, t - 1, batch["labels"][row, t]]
        for row, t in zip(*np.nonzero(batch["labels"] >= 0))
    ]
    out = run(objective(model), params, batch)
    np.testing.assert_allclose(out.loss, np.mean(want), rtol=1e-5)
    assert out.metrics["tokens"] == len(want)
    by_row = run(objective(model, per="row"), params, batch)
    np.testing.assert_allclose(by_row.loss, np.sum(want) / 8, rtol=1e-5)


def test_behind_a_prefix_the_first_token_counts(model, params, batch, rng):
    batch["labels"] = np.where(batch["text_mask"], batch["text"], -1)
    batch["prefix"] = rng.standard_normal((8, Q, GPT2["width"])).astype(np.float32)
    log_p = log_probabilities(model, params, batch)
    want = [
        -log_p[row, Q + t - 1, batch["text"][row, t]]
        for row, t in zip(*np.nonzero(batch["text_mask"]))
    ]
    out = run(objective(model), params, batch)
    np.testing.assert_allclose(out.loss, np.mean(want), rtol=1e-5)


def test_an_encoder_decoders_label_is_predicted_where_it_stands(batch):
    size = dict(vocab_size=V, width=16, depth=1, num_heads=2, head_dim=8, mlp_dim=32)
    model = build_model(dict(name="t5", **size))
    params = jax.jit(model.init)(jax.random.key(0), model.dummy_batch(1))["params"]
    log_p = log_probabilities(model, params, batch)
    rows, places = np.nonzero(batch["labels"] >= 0)
    want = -log_p[rows, places, batch["labels"][rows, places]]
    np.testing.assert_allclose(run(objective(model), params, batch).loss, want.mean(), rtol=1e-5)


def test_padding_predicts_nothing(model, params, batch):
    """Left-padded rows give what right-padded ones give, the first token's label or not."""
    batch["labels"] = np.where(batch["text_mask"], batch["text"], -1)
    shift = T - batch["text_mask"].sum(1)
    left = {k: np.stack([np.roll(r, s) for r, s in zip(v, shift)]) for k, v in batch.items()}
    right, left = (run(objective(model), params, b) for b in (batch, left))
    np.testing.assert_allclose(left.loss, right.loss, rtol=1e-5)
    assert left.metrics["tokens"] == right.metrics["tokens"]


def test_padding_between_a_prefix_and_the_text_is_passed_over(model, params, batch, rng):
    batch["labels"] = np.where(batch["text_mask"], batch["text"], -1)
    prefix = rng.standard_normal((8, Q, GPT2["width"])).astype(np.float32)
    want = run(objective(model), params, {**batch, "prefix": prefix})
    shift = T - batch["text_mask"].sum(1)
    left = {k: np.stack([np.roll(r, s) for r, s in zip(v, shift)]) for k, v in batch.items()}
    left["prefix"] = np.pad(prefix, ((0, 0), (0, 2), (0, 0)))
    left["prefix_mask"] = np.arange(Q + 2) < np.full((8, 1), Q)
    got = run(objective(model), params, left)
    np.testing.assert_allclose(got.loss, want.loss, rtol=1e-5)
    assert got.metrics["tokens"] == want.metrics["tokens"] == batch["text_mask"].sum()


def test_a_masked_models_label_is_predicted_where_it_stands(batch):
    section = dict(name="bert", vocab_size=V, max_len=T, width=16, depth=1, num_heads=2, mlp_dim=32)
    model = build_model(section)
    params = jax.jit(model.init)(jax.random.key(0), model.dummy_batch(1))["params"]
    log_p = log_probabilities(model, params, batch)
    rows, places = np.nonzero(batch["labels"] >= 0)
    want = -log_p[rows, places, batch["labels"][rows, places]]
    np.testing.assert_allclose(run(objective(model), params, batch).loss, want.mean(), rtol=1e-5)


def test_micro_batches_with_fewer_tokens_than_there_are_of_them(model, params, batch):
    labels = np.full_like(batch["labels"], -1)
    labels[0, 1] = batch["text"][0, 1]
    given = dict(frozen={}, teacher=None, extra={}, rng=jax.random.key(0), step=0)
    losses = [
        jax.jit(objective(model).value_and_grad, static_argnames="step")(
            params, micro_batches({**batch, "labels": labels}, count), **given
        )[0].loss
        for count in (1, 4)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_micro_batches_of_unequal_token_counts(model, params, batch):
    def gradient(count):
        return jax.jit(
            lambda params, batch: objective(model).value_and_grad(
                params,
                micro_batches(batch, count),
                frozen={},
                teacher=None,
                extra={},
                rng=jax.random.key(0),
                step=0,
            )
        )(params, batch)

    (whole, want), (cut, got) = gradient(1), gradient(4)
    np.testing.assert_allclose(cut.loss, whole.loss, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got, want)
    assert cut.metrics["tokens"] == whole.metrics["tokens"] == (batch["labels"] >= 0).sum()
    np.testing.assert_allclose(cut.metrics["accuracy"], whole.metrics["accuracy"], rtol=1e-5)
    apart = [
        run(objective(model), params, {k: v[i::4] for k, v in batch.items()}) for i in range(4)
    ]
    assert abs(np.mean([out.loss for out in apart]) - whole.loss) > 1e-4


def test_only_weights_cross_devices(model):
    """The output layer is gathered once, its gradient summed once; states and logits stay."""
    mesh = sharding.make_mesh(2, 4, 1)
    rows = sharding.batch_sharding(mesh)
    shapes = jax.eval_shape(model.init, jax.random.key(0), model.dummy_batch(8))["params"]
    placed = jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        shapes,
        sharding.tree_shardings(shapes, mesh),
    )
    batch = {
        k: jax.ShapeDtypeStruct((16, 12), jnp.int32, sharding=rows) for k in ("text", "labels")
    }
    states = jax.ShapeDtypeStruct((16, 12, 16), jnp.float32, sharding=rows)
    target = objective(model)

    def loss(params, states, batch):
        fixed = type(target)(_Given(model, states), chunk=4)
        return fixed.token_sums(params, batch)[0].loss

    with jax.set_mesh(mesh):
        program = jax.jit(jax.grad(loss)).lower(placed, states, batch).compile()
    program = Program(program.as_text())
    gathered = [shape for shape, _ in program.gathers()]
    assert gathered == [f"f32[{V},16]"]
    reduced = [c for c in program.collectives() if c.kind == "all-reduce"]
    assert sum(c.bytes for c in reduced) < 3 * V * 16 * 4


class _Given:
    """A model whose states are given."""

    encoder_decoder, predicts_next = False, True

    def __init__(self, model, states):
        self.model, self.states, self.head = model, states, model.head

    def apply(self, variables, *args, method):
        if method == "hidden":
            return self.states
        return self.model.apply(variables, *args, method=method)


def test_bad_options(model):
    for options, message in (
        (dict(per="tokens"), "Did you mean 'token'"),
        (dict(label_smoothing=1.0), "label_smoothing"),
        (dict(chunk=-1), "chunk"),
        (dict(chunks=1), "Did you mean 'chunk'"),
    ):
        with pytest.raises(UserError, match=message):
            build_objective(dict(name="language", **options), model)
    tower = dict(width=8, depth=1, num_heads=2, mlp_dim=16)
    clip = build_model(
        dict(
            name="clip",
            embed_dim=8,
            vision=dict(image_size=8, patch_size=4, **tower),
            text=dict(vocab_size=16, max_len=4, **tower),
        )
    )
    with pytest.raises(UserError, match="CLIP is no language model"):
        objective(clip)
