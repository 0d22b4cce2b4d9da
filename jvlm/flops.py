# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""How many FLOPs a training step needs, counted on what JAX traces and not by model."""

import math
import re
from typing import Any

import flax.linen as nn
import jax
import ml_collections
from jax.extend import core
from jax.interpreters import partial_eval

from jvlm import sharding
from jvlm.layers.attention import CAUSAL_SCOPE
from jvlm.objectives import micro_batches
from jvlm.state import merge
from jvlm.step import batch_shapes, build_step

_CAUSAL = re.compile(rf"\b{CAUSAL_SCOPE}\b")


def step_flops(
    config: ml_collections.ConfigDict,
    *,
    teacher_model: nn.Module | None = None,
    teacher: Any = None,
) -> float:
    """Model FLOPs of one optimizer step of the global batch, over all devices.

    The rule: two per multiply-add of every matmul and convolution in the loss and in its gradient
    with respect to the leaves that are trained, each computed once. So a frozen tower counts its
    forward, a teacher's too, and what rematerialisation, micro-batches and the streaming ways of
    the contrastive loss compute again does not count. Causal attention counts half, places where a
    convolution meets padding do not count, nor do look-ups, norms, softmax and the optimizer.

    For a transformer that is trained whole it is 6 per weight and token (arXiv:2001.08361, section
    2.1) and 12 T S D per layer for attention.

    Args:
      config: of the run.
      teacher_model, teacher: the objective's fixed teacher and its parameters, arrays or their
        shapes, where it has one.
    """
    config = config.copy_and_resolve_references()
    config.compute.update(dict(attention="xla", query_chunk=0, remat="none", unroll=1))
    config.optim.accumulate = 1
    if "way" in config.objective:
        config.objective.way = "gather"
    # Any one device: nothing is placed on it, and the whole batch is counted as if it were there.
    mesh = sharding.make_mesh(data=1, devices=jax.devices()[:1])
    training = build_step(config, mesh, teacher_model=teacher_model)

    def value_and_grad(state, batch, teacher):
        return training.objective.value_and_grad(
            state.params,
            micro_batches(batch, 1),
            frozen=merge(state.statistics, state.frozen),
            teacher=state.teacher if teacher is None else teacher,
            extra=state.extra,
            rng=state.rng,
            step=state.step,
        )

    bare = lambda tree: jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
    arguments = bare((training.state, batch_shapes(config, training.model), teacher))
    return float(jaxpr_flops(jax.make_jaxpr(value_and_grad)(*arguments).jaxpr))


def jaxpr_flops(jaxpr: core.Jaxpr) -> float:
    """Two per multiply-add of what a traced function's results depend on; loops as they run.

    Raises:
      NotImplementedError: a matmul in a loop of unknown length (`lax.while_loop`).
    """
    needed, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return _count(needed)


def _count(jaxpr: core.Jaxpr) -> float:
    total = 0.0
    for eqn in jaxpr.eqns:
        kind, inner = eqn.primitive.name, [_count(body) for body in _bodies(eqn)]
        if kind == "dot_general":
            total += _dot(eqn) * (0.5 if _CAUSAL.search(str(eqn.source_info.name_stack)) else 1)
        elif kind == "conv_general_dilated":
            total += _convolution(eqn)
        elif kind == "scan":
            total += eqn.params["length"] * sum(inner)
        elif kind == "cond":
            total += max(inner)
        elif kind == "while" and any(inner):
            raise NotImplementedError("matmuls in a loop of unknown length are not counted")
        else:
            total += sum(inner)
    return total


def _bodies(eqn: core.JaxprEqn) -> list[core.Jaxpr]:
    """The functions that an equation calls."""
    given = [x for p in eqn.params.values() for x in (p if isinstance(p, tuple | list) else [p])]
    # From jax 0.11 on these two are one class.
    given = [x.jaxpr if isinstance(x, core.ClosedJaxpr) else x for x in given]
    return [x for x in given if isinstance(x, core.Jaxpr)]


def _dot(eqn: core.JaxprEqn) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    left = eqn.invars[0].aval.shape
    return 2 * eqn.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)


def _convolution(eqn: core.JaxprEqn) -> int:
    left, right = (v.aval.shape for v in eqn.invars)
    out, options = eqn.outvars[0].aval.shape, eqn.params
    numbers = options["dimension_numbers"]
    spatial = zip(numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:])
    taps = [
        convolution_taps(
            *(left[lhs], right[rhs], out[place]),
            stride=options["window_strides"][axis],
            low=options["padding"][axis][0],
            lhs_dilation=options["lhs_dilation"][axis],
            rhs_dilation=options["rhs_dilation"][axis],
        )
        for axis, (lhs, rhs, place) in enumerate(spatial)
    ]
    channels = [out[numbers.out_spec[0]], out[numbers.out_spec[1]], right[numbers.rhs_spec[1]]]
    return 2 * math.prod(channels + taps)


def convolution_taps(
    size: int,
    window: int,
    out: int,
    *,
    stride: int = 1,
    low: int = 0,
    lhs_dilation: int = 1,
    rhs_dilation: int = 1,
) -> int:
    """Pairs of a result's place and a window's place, along one axis, that meet an input element.

    The others fall on padding, or between the elements of a dilated input.
    """
    reach = (size - 1) * lhs_dilation
    return sum(
        0 <= at <= reach and at % lhs_dilation == 0
        for place in range(out)
        for tap in range(window)
        for at in [place * stride + tap * rhs_dilation - low]
    )
