# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm plan --decode`: a language model on devices that are not there, as `generate` runs it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jvlm import adapters, convert, paths, sharding
from jvlm import quantise as quantise_lib
from jvlm.config import construct
from jvlm.errors import UserError
from jvlm.generation.weights import unstack_shapes
from jvlm.models import MODELS, build_model
from jvlm.plan import bytes_per_device, compile_or_need, describe_size, roofline
from jvlm.precision import Compute, cast_weights
from jvlm.topology import get_topology

Form = Callable[[dict], dict]


def model_of(path: str | Path, compute: Compute) -> tuple[nn.Module, Form]:
    """The module of a checkpoint, of which no number is read.

    Args:
      path: what `jvlm.load` takes.
      compute: how it is to be run.

    Returns:
      (the module, what makes its own parameters' shapes those of the checkpoint, with quantised
      kernels and adapters).

    Raises:
      UserError: not a checkpoint.
    """
    path = Path(path)
    if convert.is_published(path):
        published = convert.open_published(path)
        return MODELS[published.model][0](published.config, compute), dict
    for name in ("jvlm.json", "config.json"):
        if (path / name).is_file() and "model" in (saved := convert.read_json(path / name)):
            return build_model(saved["model"], compute), _form(saved)
    raise UserError(f"{path}: no checkpoint in it (jvlm.load tells what it reads)")


def _form(saved: Mapping[str, Any]) -> Form:
    """Of a model that was saved (`forms`), or of a run (its config)."""
    if saved.get("forms"):
        return lambda shapes: adapters.like(shapes, saved["forms"])
    sections = saved.get("quantise"), saved.get("lora")
    extend = lambda params: adapters.extend(params, jax.random.key(0), *sections)
    return lambda shapes: jax.eval_shape(extend, shapes)


def plan_decode(
    model: nn.Module,
    topology: str,
    *,
    mesh: dict[str, int],
    batch: int,
    length: int,
    sequences: int = 1,
    form: Form = dict,
    quantise: str | None = None,
    memory: float | None = None,
) -> dict[str, Any]:
    """Compiles the two programs of `generate`: the prompts' forward, and a step.

    Args:
      model: a language model.
      topology: see `topology.get_topology`.
      mesh: sizes of the mesh axes, see `sharding.make_mesh`.
      batch: prompts at a time, over all devices.
      length: tokens of a prompt and its continuation together; with an encoder of each of the two.
      sequences: beams, or samples, of each prompt. Every one has slots of its own for `length`
        tokens, as if the prompt were short.
      form: from `model_of`.
      quantise: 'int8' or 'int4', as of `jvlm.load`.
      memory: GiB per device to plan for, instead of the chip's own.

    Returns:
      What --json prints; README.md has the fields.

    Raises:
      UserError: a model without a decoder, a bad machine or mesh, lengths the model has not.
    """
    machine = get_topology(topology)
    devices = construct(sharding.make_mesh, mesh, where="--mesh", devices=machine.devices)
    capacity = machine.chip.hbm_bytes if machine.chip else None
    capacity = capacity if memory is None else int(memory * 2**30)
    if not hasattr(model, "prefill"):
        raise UserError(f"plan --decode: a {type(model).__name__} has no decoder")
    for name, value in (("--batch", batch), ("--length", length), ("--beams", sequences)):
        if value < 1:
            raise UserError(f"{name} {value}: at least 1")
    limit = model.cfg.max_len
    if limit is not None and length > limit:
        raise UserError(f"--length {length}: the model has {limit} positions")
    sharding.host_rows(devices, batch)

    params = _abstract_params(model, devices, form, quantise)
    rows = sharding.batch_sharding(devices)
    ids = jax.ShapeDtypeStruct((batch, length), jnp.int32, sharding=rows)
    text = {"text": ids, "text_mask": ids.update(dtype=jnp.bool_)}
    if model.encoder_decoder:
        start = jax.ShapeDtypeStruct((batch, 1), jnp.int32, sharding=rows)
        text |= {"decoder_text": start, "decoder_mask": start.update(dtype=jnp.bool_)}
    slots = length * sequences

    def prefill(params, text):
        return model.apply({"params": params}, text, slots, method="prefill")

    def step(params, cache, tokens, sees, positions):
        mask = jnp.ones(tokens.shape, bool)
        given = dict(sees=sees, positions=positions)
        return model.apply({"params": params}, tokens, mask, cache, method="extend", **given)

    with jax.set_mesh(devices):
        program, prompts, needed = compile_or_need(jax.jit(prefill).lower(params, text))
    peak, cache, token = needed, None, None
    if program is not None:
        peak, places = prompts.peak, program.output_shardings[1]
        shapes = jax.eval_shape(prefill, params, text)[1]
        cache = jax.tree.map(lambda x, at: x.update(sharding=at), shapes, places)
        new = jax.ShapeDtypeStruct((batch, sequences), jnp.int32, sharding=rows)
        sees = jax.ShapeDtypeStruct((batch, sequences, slots), jnp.bool_, sharding=rows)
        # The step writes into the cache that it is given.
        lowered = jax.jit(step, donate_argnums=1)
        with jax.set_mesh(devices):
            lowered = lowered.lower(params, cache, new, sees, new)
        _, token, needed = compile_or_need(lowered)
    peaks = [peak] if cache is None else [peak, needed or token.peak]
    result = {
        "topology": machine.name,
        "chips": devices.size,
        "device": machine.devices[0].device_kind,
        "mesh": dict(devices.shape),
        "batch": batch,
        "length": length,
        "sequences": sequences,
        "dtype": model.compute.dtype,
        "quantise": quantise,
        "per_chip": {
            "parameters_bytes": bytes_per_device(params),
            "cache_bytes": cache and bytes_per_device(cache),
            "prefill_peak_bytes": peaks[0],
            "step_peak_bytes": peaks[1] if len(peaks) > 1 else None,
            "peak_bytes": max(peaks),
            "capacity_bytes": capacity,
        },
        "collectives": [],
        "roofline_seconds": None,
        "estimate": not machine.exact,
        "fits": needed is None and (capacity is None or max(peaks) <= capacity),
    }
    if token is not None:
        result["collectives"] = [c._asdict() for c in token.collectives]
        # Of the cache it gives back what it was given, but for a slot.
        token = token._replace(moved=token.arguments)
        bound = roofline(machine, devices, token.dot_flops * devices.size, token)
        result |= {key: bound[key] for key in ("roofline_seconds", "bound_by", "seconds")}
    if result["roofline_seconds"]:
        result["tokens_per_second"] = batch * sequences / result["roofline_seconds"]
    return result


def describe(result: dict[str, Any]) -> list[str]:
    """The lines that `jvlm plan --decode` prints."""
    chip = result["per_chip"]
    mesh = " x ".join(f"{axis} {size}" for axis, size in result["mesh"].items())
    about = " (an estimate, compiled for CPUs)" if result["estimate"] else ""
    lines = [
        f"{result['topology']}: {result['chips']} x {result['device']}, mesh {mesh}, "
        f"{result['batch']} prompts x {result['sequences']} sequences of {result['length']} "
        f"tokens, {result['dtype']}" + (f", {result['quantise']}" if result["quantise"] else ""),
        "per chip",
        *(
            f"  {name:22} {describe_size(chip[f'{name}_bytes'])}"
            for name in ("parameters", "cache", "prefill_peak", "step_peak")
        ),
        f"  {'peak':22} {describe_size(chip['peak_bytes'])} of "
        f"{describe_size(chip['capacity_bytes'])}{about}",
    ]
    for kind, count, size in (c.values() for c in result["collectives"]):
        lines.append(f"  {kind:22} {describe_size(size)} sent per chip and step, {count:,} times")
    if result.get("roofline_seconds"):
        parts = ", ".join(f"{name} {s * 1e3:.3g} ms" for name, s in result["seconds"].items())
        lines.append(
            f"a token takes at least   {result['roofline_seconds'] * 1e3:.3g} ms, bound by "
            f"{result['bound_by']} ({parts}): at most {result['tokens_per_second']:,.0f} tokens/s"
        )
    if result["fits"]:
        return [*lines, "fits"]
    over = describe_size(chip["peak_bytes"] - chip["capacity_bytes"])
    return [*lines, f"does not fit: {over} too much"]


def _abstract_params(
    model: nn.Module, mesh: jax.sharding.Mesh, form: Form, quantise: str | None
) -> dict:
    """The parameters as `generate` holds them: unstacked, matmul weights in compute dtype."""

    shapes = jax.eval_shape(model.init, jax.random.key(0), model.dummy_batch(1))["params"]
    shapes = form(shapes)
    if quantise and adapters.forms(shapes)["quantise"]:
        raise UserError("--quantise: the model is quantised already")
    kinds = quantise_lib.resolve(quantise, paths.flatten(shapes))

    def decoded(params):
        return cast_weights(quantise_lib.quantise_tree(params, kinds), model.compute.dtype)

    shapes = jax.eval_shape(decoded, shapes)
    return unstack_shapes(sharding.placed(shapes, mesh))
