# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm plan`: compiles the real training step for devices that are not there, and reads it."""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import ml_collections

from jvlm import config as config_lib
from jvlm import sharding
from jvlm.errors import UserError
from jvlm.flops import step_flops
from jvlm.hlo import Collective, Program
from jvlm.layers.stack import REMAT_POLICIES
from jvlm.objectives import OBJECTIVES
from jvlm.pretrained import load
from jvlm.step import batch_shapes, build_step
from jvlm.topology import Topology, get_topology

POLICIES = tuple(REMAT_POLICIES)  # The cheapest first.
_NEEDED = re.compile(r"(?:required[^(]*\(|Used )([\d.]+)([KMGT]?)")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Measured(NamedTuple):
    """What one device holds, computes and sends in a run of a compiled program.

    Attributes:
      arguments: bytes of what the program is given.
      temporaries: bytes of the compiler's temporaries. libtpu's figure can exceed what is in use at
        any one time.
      peak: most bytes that are in use at once, arguments and results included. What libtpu asks for
        when it runs out of memory lies on one line with this, over batch sizes.
      moved: bytes that it cannot but read from memory or write to it: arguments and results, once.
      dot_flops: FLOPs of its matmuls and convolutions, with what it computes again.
      collectives: see `hlo.Collective`.
      unknown_loops: loops whose trips could not be told; what is in them is counted once.
    """

    arguments: int
    temporaries: int
    peak: int
    moved: int
    dot_flops: float
    collectives: list[Collective]
    unknown_loops: int


def measure(compiled: jax.stages.Compiled) -> Measured:
    """Reads any compiled program."""
    memory, program = compiled.memory_analysis(), Program(compiled.as_text())
    arguments, results = memory.argument_size_in_bytes, memory.output_size_in_bytes
    temporaries = memory.temp_size_in_bytes
    peak = memory.peak_memory_in_bytes
    # libtpu's is what it compares with the chip's memory; that of others can leave temporaries out.
    place = jax.tree.leaves(compiled.output_shardings)[0]
    if next(iter(place.device_set)).platform != "tpu":
        peak = arguments + temporaries + results - memory.alias_size_in_bytes
    return Measured(
        arguments=arguments,
        temporaries=temporaries,
        peak=peak,
        moved=arguments + results,
        dot_flops=program.dot_flops(),
        collectives=program.collectives(),
        unknown_loops=program.unknown_loops,
    )


def compile_or_need(
    lowered: jax.stages.Lowered,
) -> tuple[jax.stages.Compiled | None, Measured | None, int | None]:
    """Compiles.

    Returns:
      (the program, what it takes, None); where the device's memory is too small (None, None, the
      bytes that it would have needed).
    """
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        needed = _needed_bytes(str(error))
        if needed is None:
            raise
        return None, None, needed
    return compiled, measure(compiled), None


def roofline(
    topology: Topology, mesh: jax.sharding.Mesh, flops: float, measured: Measured | None
) -> dict[str, Any]:
    """The least time a step can take, and what it then waits for."""
    chip = topology.chip
    if chip is None:
        return {"roofline_seconds": None, "bound_by": None, "seconds": {}}
    seconds = {"compute": flops / mesh.size / chip.peak_flops}
    if measured is not None:
        sent = dict.fromkeys(("chips", "slices"), 0)
        for collective in measured.collectives:
            sent["slices" if collective.kind == "send" else "chips"] += collective.bytes
        seconds = {
            "compute": measured.dot_flops / chip.peak_flops,
            "memory": measured.moved / chip.hbm_bandwidth,
            "interconnect": sent["chips"] / chip.link_bandwidth,
        }
        if sent["slices"] and chip.dcn_bandwidth:
            seconds["network"] = sent["slices"] / chip.dcn_bandwidth
    bound = max(seconds, key=seconds.get)
    return {
        "roofline_seconds": seconds[bound],
        "bound_by": bound,
        "seconds": seconds,
        "mfu_at_roofline": flops / (seconds[bound] * mesh.size * chip.peak_flops),
    }


class Plan:
    """One config on one machine.

    Attributes:
      topology: the machine.
      capacity: bytes per device that a program may use; None where nobody says.
    """

    def __init__(
        self, config: ml_collections.ConfigDict, topology: str, memory: float | None = None
    ):
        """Finds the devices and loads a fixed teacher; compiles nothing yet.

        Args:
          config: of the run.
          topology: see `topology.get_topology`.
          memory: GiB per device to plan for, instead of the chip's own.

        Raises:
          UserError: bad config or machine.
        """
        config_lib.check_sections(config)
        self.topology = get_topology(topology)
        self.config = config
        chip = self.topology.chip
        self.capacity = chip.hbm_bytes if chip else None
        if memory is not None:
            self.capacity = int(memory * 2**30)
        self.mesh = config_lib.construct(
            sharding.make_mesh, config.mesh, where="mesh", devices=self.topology.devices
        )
        path = config.objective.get("teacher")
        self.teacher = load(path, dtype=config.compute.dtype) if path else None

    def step(self, config: ml_collections.ConfigDict | None = None) -> dict[str, Any]:
        """Compiles the training step.

        Args:
          config: the plan's own with another batch size or compute section.

        Returns:
          What --json prints; README.md has the fields.
        """
        config = self.config if config is None else config
        teacher_model, teacher = self._teacher()
        training = build_step(config, self.mesh, teacher_model=teacher_model)
        batch = batch_shapes(config, training.model, self.mesh)
        arguments = (training.state, batch, teacher)
        with jax.set_mesh(self.mesh):
            lowered = training.step.lower(*arguments)
        compiled, measured, needed = compile_or_need(lowered)
        if compiled is None:
            given, peak = bytes_per_device(arguments), needed
            temporaries = peak - given
        else:
            # What the step does not read takes its place on the device all the same.
            unread = _unread(arguments, compiled.input_shardings[0])
            given, temporaries = measured.arguments + unread, measured.temporaries
            peak = measured.peak + unread
        state = training.state
        items = {
            "parameters": (state.params, state.statistics, state.frozen),
            "teacher": (state.teacher, teacher),
            "ema": state.ema,
            "extra": state.extra,
            "optimizer": state.opt_state,
            "gradients": state.params,
            "batch": batch,
        }
        flops = step_flops(config, teacher_model=teacher_model, teacher=teacher)
        return {
            "topology": self.topology.name,
            "chips": self.mesh.size,
            "device": self.topology.devices[0].device_kind,
            "mesh": dict(self.mesh.shape),
            "batch_per_chip": config.data.batch_size / sharding.batch_shards(self.mesh),
            "remat": config.compute.remat,
            "per_chip": {
                **{f"{name}_bytes": bytes_per_device(tree) for name, tree in items.items()},
                "arguments_bytes": given,
                "temporaries_bytes": temporaries,
                "peak_bytes": peak,
                "capacity_bytes": self.capacity,
                "dot_flops": measured and measured.dot_flops,
            },
            "flops_per_step": flops,
            "collectives": [c._asdict() for c in measured.collectives] if measured else [],
            **roofline(self.topology, self.mesh, flops, measured),
            "unknown_loops": measured.unknown_loops if measured else 0,
            "estimate": not self.topology.exact,
            "fits": needed is None and (self.capacity is None or peak <= self.capacity),
        }

    def find_batch(self) -> Iterator[dict[str, Any]]:
        """Looks for the largest batch per rematerialisation policy, and gives each try.

        Between the tried sizes peaks grow about linearly, so that the next try is where the line
        through the two nearest meets the capacity. Sizes are on a grid of four significant bits; an
        objective's queue, which must be a multiple of the batch, is tried with the next one.

        Raises:
          UserError: no capacity to look against.
        """
        if self.capacity is None:
            raise UserError("--find-batch: a CPU has no capacity to fill: give --memory=GIB")
        shards = sharding.batch_shards(self.mesh)
        groups = [self.config.objective.get(name) for name in ("negatives", "group")]
        groups = [group for group in groups if isinstance(group, int) and group > 0]
        unit = math.lcm(shards * self.config.optim.accumulate, *groups)
        start = max(self.config.data.batch_size // unit, 1)
        kind = OBJECTIVES.get(self.config.objective.name)
        queue = self.config.objective.get("queue", getattr(kind, "queue", 0))
        for remat in POLICIES:
            tried: dict[int, int] = {}
            size = start
            while size is not None:
                config = self.config.copy_and_resolve_references()
                config.compute.remat, config.data.batch_size = remat, size * unit
                if queue:
                    with config.unlocked():
                        config.objective.queue = -(-queue // (size * unit)) * size * unit
                result = self.step(config)
                peak = result["per_chip"]["peak_bytes"]
                tried[size] = peak if result["fits"] else max(peak, self.capacity + 1)
                yield result
                if result["fits"]:  # Dearer policies fit it too.
                    start = max(start, size)
                size = _next_size(tried, self.capacity)

    def _teacher(self):
        if self.teacher is None:
            return None, None
        places = sharding.tree_shardings(self.teacher.params, self.mesh)
        shape = lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)
        return self.teacher.model, jax.tree.map(shape, self.teacher.params, places)


def search(plan: Plan, say: Callable[[str], None] | None = None) -> dict[str, Any]:
    """The largest batch of `find_batch`, and the cheapest policy for the config's own.

    Args:
      plan: whose batch size is a start, not a limit.
      say: gets a line per try.

    Returns:
      as `Plan.step`, of the largest batch that fits and, among equals, the cheapest policy (of the
      last try where none fits), and `tried`, `cheapest_remat`: the first policy by which the
      config's own batch size fits, or None.
    """
    tries = []
    for result in plan.find_batch():
        tries.append(result)
        if say:
            say(_describe_try(result))
    fitting = [result for result in tries if result["fits"]]
    rank = lambda result: POLICIES.index(result["remat"])
    wanted = plan.config.data.batch_size / sharding.batch_shards(plan.mesh)
    enough = [result for result in fitting if result["batch_per_chip"] >= wanted]
    largest = max(fitting, key=lambda r: (r["batch_per_chip"], -rank(r)), default=tries[-1])
    columns = ("remat", "batch_per_chip", "fits")
    return {
        **largest,
        "tried": [
            {key: r[key] for key in columns} | {"peak_bytes": r["per_chip"]["peak_bytes"]}
            for r in tries
        ],
        "cheapest_remat": min(enough, key=rank)["remat"] if enough else None,
    }


# What is said of a chip's memory where there is some of it. The gradients are temporaries, all
# others arguments.
_ITEMS = {
    "parameters": "parameters",
    "teacher": "teacher",
    "ema": "ema",
    "extra": "queues",
    "optimizer": "optimizer",
    "gradients": "gradients",
    "batch": "batch",
    "arguments": "arguments",
}


def describe(result: dict[str, Any]) -> list[str]:
    """The lines that `jvlm plan` prints of a step."""
    chip = result["per_chip"]
    mesh = " x ".join(f"{axis} {size}" for axis, size in result["mesh"].items())
    about = " (an estimate, compiled for CPUs)" if result["estimate"] else ""
    lines = [
        f"{result['topology']}: {result['chips']} x {result['device']}, mesh {mesh}, "
        f"{result['batch_per_chip']:g} rows per chip, remat {result['remat']}",
        "per chip",
        *(
            f"  {label:22} {describe_size(chip[f'{name}_bytes'])}"
            for name, label in _ITEMS.items()
            if chip[f"{name}_bytes"]
        ),
        f"  {'temporaries':22} {describe_size(chip['temporaries_bytes'])}{about}",
        f"  {'peak':22} {describe_size(chip['peak_bytes'])} of "
        f"{describe_size(chip['capacity_bytes'])}{about}",
        f"FLOPs per step           {result['flops_per_step']:.4g} in all, what training needs",
    ]
    if chip["dot_flops"] is not None:
        again = chip["dot_flops"] * result["chips"] / result["flops_per_step"]
        lines.append(
            f"  matmuls of the program {chip['dot_flops']:.4g} per chip, {again:.3f} of its share"
        )
    for kind, count, size in (c.values() for c in result["collectives"]):
        lines.append(f"  {kind:22} {describe_size(size)} sent per chip, {count:,} times")
    if result["unknown_loops"]:
        lines.append(f"  {result['unknown_loops']} loops of unknown length are counted once")
    if result["roofline_seconds"] is not None:
        parts = ", ".join(f"{name} {s * 1e3:.3g} ms" for name, s in result["seconds"].items())
        lines.append(
            f"a step takes at least    {result['roofline_seconds'] * 1e3:.3g} ms, bound by "
            f"{result['bound_by']} ({parts}); MFU then {result['mfu_at_roofline']:.1%}"
        )
    if result.get("cheapest_remat"):
        lines.append(f"the config's own batch fits with remat {result['cheapest_remat']}")
    if result["fits"]:
        return [*lines, "fits"]
    over = describe_size(chip["peak_bytes"] - chip["capacity_bytes"])
    return [*lines, f"does not fit: {over} too much"]


def _describe_try(result: dict[str, Any]) -> str:
    """A line of --find-batch's table."""
    chip = result["per_chip"]
    return (
        f"remat {result['remat']:5} {result['batch_per_chip']:>8g} rows per chip   peak "
        f"{describe_size(chip['peak_bytes']):>12} of {describe_size(chip['capacity_bytes'])}   "
        f"{'fits' if result['fits'] else 'does not fit'}"
    )


def describe_size(size: float | None) -> str:
    """Bytes in words."""
    if size is None:
        return "unknown"
    return f"{size / 2**30:.3f} GiB" if size >= 2**27 else f"{size / 2**20:.3f} MiB"


def bytes_per_device(tree: Any) -> int:
    """Bytes of one device's share of arrays that are described by shape and sharding."""
    return sum(
        x.dtype.itemsize * math.prod(x.sharding.shard_shape(x.shape)) for x in jax.tree.leaves(tree)
    )


def _unread(arguments: Any, places: Any) -> int:
    """Bytes per device of arguments that the compiler has left out of the program."""
    sizes = jax.tree.map(
        lambda x, place: bytes_per_device(x) if place is None else 0, arguments, places
    )
    return sum(jax.tree.leaves(sizes))


def _needed_bytes(message: str) -> int | None:
    """Bytes that the compiler would have needed, if that is what it complains of."""
    found = _NEEDED.search(message)
    if "RESOURCE_EXHAUSTED" not in message or not found:
        return None
    return int(float(found[1]) * _UNITS[found[2]])


def _on_grid(size: float) -> int:
    """The next smaller number of four significant bits, at least 1."""
    size = max(int(size), 1)
    drop = max(size.bit_length() - 4, 0)
    return size >> drop << drop


def _next_size(tried: dict[int, int], capacity: int) -> int | None:
    """The next number of rows to try; None when the largest that fits is known, or none does.

    Args:
      tried: rows -> peak bytes.
      capacity: bytes.
    """
    fitting = [size for size, peak in tried.items() if peak <= capacity]
    failing = [size for size, peak in tried.items() if peak > capacity]
    low, high = max(fitting, default=0), min(failing, default=None)
    if high == 1:
        return None
    after = low + 1 if low < 16 else low + (1 << (low.bit_length() - 4))
    if high is not None and after >= high:
        return None
    if len(tried) == 1:
        guess = 2 * low if fitting else high / 2
    else:
        (a, peak_a), (b, peak_b) = sorted(tried.items(), key=lambda t: abs(t[1] - capacity))[:2]
        slope = (peak_a - peak_b) / (a - b)
        guess = a + (capacity - peak_a) / slope if slope > 0 else 2 * max(a, b)
    guess = _on_grid(max(guess, after))
    return guess if high is None else min(guess, _on_grid(high - 1))
