# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a config trains: model, objective, optimizer, state and one step. Needs no data.

The loop runs it, `jvlm plan` compiles it, and neither puts it together by itself.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import optax

from jvlm import adapters, optim, paths, sharding
from jvlm import config as config_lib
from jvlm.errors import UserError
from jvlm.models import build_model
from jvlm.objectives import Objective, build_objective, micro_batches
from jvlm.precision import Compute, cast_weights
from jvlm.state import (
    TrainState,
    merge,
    purpose_rng,
    resolve_trainable,
    split,
    split_statistics,
)


class Training(NamedTuple):
    """What `build_step` gives.

    Attributes:
      model: the Linen module.
      objective: how it is trained.
      optimizer: see `optim.Optimizer`.
      shapes: the whole parameter tree, abstract.
      state: the training state, abstract, with shardings.
      init: key -> fresh state, laid out.
      step: (state, batch, parameters of a fixed teacher or None) -> (state, metrics); takes the
        state's buffers.
    """

    model: nn.Module
    objective: Objective
    optimizer: optim.Optimizer
    shapes: dict
    state: TrainState
    init: Callable[[jax.Array], TrainState]
    step: Callable


def build_step(
    config: ml_collections.ConfigDict,
    mesh: jax.sharding.Mesh,
    *,
    teacher_model: nn.Module | None = None,
) -> Training:
    """Builds everything that is compiled in a run. Allocates nothing on the devices.

    Args:
      config: of the run.
      mesh: the devices, which may be those of a slice that is not there.
      teacher_model: of the objective's fixed teacher, where it has one.

    Raises:
      UserError: a bad section.
    """
    #### Model.
    compute = config_lib.construct(Compute, config.compute, where="compute")
    model = build_model(config.model.to_dict(), compute)
    batch_size = config.data.batch_size

    def init_params(rng):
        # One row for every device: shapes are all that counts, the forward is never run.
        params = model.init(rng, model.dummy_batch(sharding.batch_shards(mesh)))["params"]
        forms = (config.get("quantise"), config.get("lora"))
        return adapters.extend(params, purpose_rng(rng, "adapters"), *forms)

    root_rng = jax.eval_shape(lambda: jax.random.key(0, impl="threefry2x32"))
    with jax.set_mesh(mesh):
        shapes = jax.eval_shape(init_params, root_rng)

    #### What is trained, how.
    flat = paths.flatten(shapes)
    trainable = resolve_trainable(config.trainable, flat)
    objective = build_objective(
        config.objective.to_dict(),
        model,
        trained=frozenset(paths.flatten(split(shapes, trainable)[0])),
        teacher_model=teacher_model,
    )
    optimizer = config_lib.construct(
        optim.make_optimizer,
        config.optim.to_dict(),
        where="optim",
        params=flat,
        trainable=trainable,
        steps=config.steps,
    )
    check_micro_batches(batch_size, optimizer.accumulate, mesh)
    config_lib.check_keys(config.ema, ("decay",), where="ema")
    ema_decay = config.ema.decay

    #### The state.
    def init_state(rng):
        trained, frozen = split(init_params(purpose_rng(rng, "init")), trainable)
        params, statistics = split_statistics(trained)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            statistics=statistics,
            frozen=cast_weights(frozen, compute.dtype),
            teacher=objective.init_teacher(params),
            ema=jax.tree.map(jnp.copy, params) if ema_decay else None,
            extra=objective.init_extra(purpose_rng(rng, "extra"), batch_size),
            opt_state=optimizer.tx.init(params),
            rng=rng,
        )

    with jax.set_mesh(mesh):
        abstract = jax.eval_shape(init_state, root_rng)
    shardings = state_shardings(abstract, optimizer.tx, mesh)
    abstract = jax.tree.map(
        lambda s, place: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place), abstract, shardings
    )

    #### The step.
    def train_step(state: TrainState, batch, fixed_teacher=None):
        out, grads = objective.value_and_grad(
            state.params,
            micro_batches(batch, optimizer.accumulate),
            frozen=merge(state.statistics, state.frozen),
            teacher=state.teacher if fixed_teacher is None else fixed_teacher,
            extra=state.extra,
            rng=jax.random.fold_in(state.rng, state.step),
            step=state.step,
        )
        grads = optimizer.mask(grads)
        updates, opt_state = optimizer.tx.update(grads, state.opt_state, state.params)
        params = objective.project(optax.apply_updates(state.params, updates))
        ema = state.ema
        if ema_decay:
            ema = jax.tree.map(lambda e, p: e * ema_decay + p * (1 - ema_decay), ema, params)
        metrics = {
            "loss": out.loss,
            **out.metrics,
            "grad_norm": optax.tree.norm(grads),
            "lr": optimizer.rate(state.step),
        }
        state = state.replace(
            step=state.step + 1,
            params=params,
            statistics=merge(out.statistics, state.statistics),
            teacher=objective.update_teacher(state.teacher, params),
            ema=ema,
            extra=out.extra,
            opt_state=opt_state,
        )
        return state, metrics

    init = jax.jit(init_state, out_shardings=shardings)
    places = (shardings, sharding.replicated(mesh))
    step = jax.jit(train_step, donate_argnums=0, out_shardings=places)
    return Training(model, objective, optimizer, shapes, abstract, init, step)


def batch_shapes(
    config: ml_collections.ConfigDict, model: nn.Module, mesh: jax.sharding.Mesh | None = None
) -> dict[str, jax.ShapeDtypeStruct]:
    """A training batch without data: key -> shape and dtype, and sharding where there is a mesh.

    Keys are those that the config's transforms keep, sizes the model's, except that the tokenizer
    and the steps 'language' and 'answers' say how long texts, labels and answers are, and the step
    'each_image' how many images a row has, else one.

    Raises:
      UserError: a key of which neither says a shape.
    """
    rows, dummy = config.data.batch_size, jax.eval_shape(lambda: model.dummy_batch(1))
    steps = list(config.data.get("transforms", ()))
    kept = [options["keys"] for name, options in steps if name == "keep"]
    members = (config.data.get("mixture") or {}).get("members", {})
    steps += [step for member in members.values() for step in member.get("transforms", ())]
    length = config.tokenizer.get("max_len")
    known = {"text": ((length,), jnp.int32)} if length else {}
    known |= dict.fromkeys(("image_id", "label", "member"), ((), jnp.int32))
    for name, options in steps:
        if name == "language":
            text = options.get("max_len") or length
            target = options.get("target_len") if options.get("encoder_decoder") else None
            known |= {"text": ((text,), jnp.int32), "labels": ((target or text,), jnp.int32)}
        elif name == "answers":
            count = options.get("count", 10)
            known["candidates"] = (count, options.get("max_len") or length), jnp.int32
            known["answer_weight"] = (count,), jnp.float32
        elif name == "each_image":
            known["image_valid"] = (options["count"],), jnp.bool_
    if "image" in dummy:
        shape = dummy["image"].shape[1:]
        if kept:
            shape = (*known.get("image_valid", [()])[0], *shape[-3:])
        known["image"] = shape, jnp.uint8

    def shape_and_dtype(key):
        if key.endswith("_mask"):
            return shape_and_dtype(key.removesuffix("_mask"))[0], jnp.bool_
        if key in known:
            return known[key]
        if key not in dummy:
            raise UserError(f"data.transforms keep {key!r}, of which the model has no shape")
        return dummy[key].shape[1:], dummy[key].dtype

    place = mesh and sharding.batch_sharding(mesh)
    batch = {}
    for key in kept[-1] if kept else dummy:
        shape, dtype = shape_and_dtype(key)
        batch[key] = jax.ShapeDtypeStruct((rows, *shape), dtype, sharding=place)
    return batch


def check_micro_batches(batch_size: int, accumulate: int, mesh: jax.sharding.Mesh) -> None:
    """Every device needs as many rows of every micro-batch."""
    shards = sharding.batch_shards(mesh)
    if batch_size % (shards * accumulate):
        raise UserError(
            f"data.batch_size {batch_size} is not a multiple of {shards} devices (mesh.data x "
            f"mesh.fsdp) x {accumulate} micro-batches (optim.accumulate)"
        )


def state_shardings(abstract: TrainState, tx: Any, mesh: jax.sharding.Mesh) -> TrainState:
    """Parameters by the table, optimizer slots like their parameters, the rest replicated."""
    everywhere = sharding.replicated(mesh)
    by_table = lambda tree: sharding.tree_shardings(tree, mesh)
    params = by_table(abstract.params)
    return TrainState(
        step=everywhere,
        params=params,
        statistics=by_table(abstract.statistics),
        frozen=by_table(abstract.frozen),
        teacher=None if abstract.teacher is None else by_table(abstract.teacher),
        ema=None if abstract.ema is None else params,
        extra=jax.tree.map(lambda _: everywhere, abstract.extra),
        opt_state=sharding.of_result(tx.init, abstract.params, params, mesh),
        rng=everywhere,
    )
