# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Compiling for a slice that is not there, and reading what the compiler made of it."""

import os
import re
from math import prod
from typing import NamedTuple


def slice_devices(platform: str, count: int = 16) -> list:
    """Devices of a v5e 4x4 slice (needs `pip install libtpu`, no TPU), or fake CPU devices.

    To be called before anything else that starts JAX.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={count}"
    # No TPU is held, so several processes may compile side by side.
    os.environ.update(TPU_SKIP_MDS_QUERY="1", ALLOW_MULTIPLE_LIBTPU_LOAD="1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-16")
    import jax

    if platform == "cpu":
        return jax.devices()
    from jax.experimental import topologies

    return list(topologies.get_topology_desc("v5e:4x4", "tpu").devices)


# name = type[shape]{layout} opcode(operands), attributes
_INSTRUCTION = re.compile(r"\s*(ROOT )?%([\w.-]+) = (.*?) ([\w-]+)\((.*)$")
_COMPUTATION = re.compile(r"(ENTRY )?%([\w.-]+) .*\{$")
_CALLED = re.compile(r"(?:calls|to_apply|called_computations)=\{?%([\w.-]+)")
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")


class Instruction(NamedTuple):
    shape: str
    opcode: str
    rest: str  # From the operands on.

    @property
    def operands(self) -> list[str]:
        return re.findall(r"%([\w.-]+)", self.rest.split(")")[0])

    def attribute(self, name: str, default: str = "") -> str:
        found = re.search(rf"\b{name}=\{{?([^\s,}}]*)", self.rest)
        return found[1].lstrip("%") if found else default


class Program:
    """An optimised HLO module as text: what each computation does, and how often it runs."""

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.roots: dict[str, str] = {}
        for line in text.splitlines():
            if start := _COMPUTATION.match(line):
                name = start[2]
                self.computations[name] = {}
                entry = name if start[1] else None
            elif found := _INSTRUCTION.match(line):
                is_root, result, *parts = found.groups()
                self.computations[name][result] = Instruction(*parts)
                if is_root:
                    self.roots[name] = result
        self.runs = dict.fromkeys(self.computations, 0)
        self._visit(entry, 1, lambda index: None)

    def dot_flops(self) -> int:
        """Two per multiply-add of all matmuls and convolutions, loops counted as they run."""
        total = 0
        for name, instructions in self.computations.items():
            for item in instructions.values():
                if item.opcode in ("dot", "convolution"):
                    sides = [_dims(instructions[operand].shape) for operand in item.operands]
                    count = _dot if item.opcode == "dot" else _convolution
                    total += 2 * count(item, *sides) * self.runs[name]
        return total

    def gathers(self) -> list[tuple[str, int]]:
        """(shape, number of elements) of what all-gathers give, the largest first."""
        found = set()
        for instructions in self.computations.values():
            for item in instructions.values():
                if item.opcode in ("all-gather", "all-gather-start"):
                    kind, sizes = _SHAPE.findall(item.shape)[-1]
                    found.add((f"{kind}[{sizes}]", prod(int(n) for n in sizes.split(",") if n)))
        return sorted(found, key=lambda entry: -entry[1])

    def _visit(self, name: str, times: int, state) -> None:
        """Adds `times` runs of a computation whose loop state starts as `state(index)`."""
        self.runs[name] += times
        for item in self.computations[name].values():
            if item.opcode == "while":
                (carried,) = item.operands
                start = lambda index, carried=carried: self._element(name, carried, index, state)
                trips = self._trips(item, start)
                self._visit(item.attribute("body"), times * trips, start)
            elif item.opcode == "conditional":
                raise NotImplementedError("branches are not counted")
            else:
                for called in _CALLED.findall(item.rest):
                    self._visit(called, times, lambda index: None)

    def _trips(self, loop: Instruction, start) -> int:
        """Trips of `while (counter < limit) counter += step`."""
        condition, body = loop.attribute("condition"), loop.attribute("body")
        compare = self.computations[condition][self.roots[condition]]
        counter, limit = compare.operands
        index = int(self.computations[condition][counter].attribute("index"))
        if compare.attribute("direction") != "LT":
            raise NotImplementedError(f"a loop until {compare}")
        first, limit = start(index), self._value(condition, limit, start)
        step = self._element(body, self.roots[body], index, start) - first
        return -(-(limit - first) // step)

    def _element(self, where: str, name: str, index: int, state) -> int | None:
        """Element `index` of a tuple."""
        item = self.computations[where][name]
        if item.opcode == "tuple":
            return self._value(where, item.operands[index], state)
        return state(index) if item.opcode == "parameter" else None

    def _value(self, where: str, name: str, state) -> int | None:
        """An integer scalar; None if it is not made of constants and loop state alone."""
        item = self.computations[where][name]
        if item.opcode == "constant":
            is_integer = item.shape.startswith(("s32[]", "u32[]"))
            return int(item.rest.split(")")[0]) if is_integer else None
        if item.opcode == "get-tuple-element":
            return self._element(where, item.operands[0], int(item.attribute("index")), state)
        if item.opcode in ("copy", "bitcast"):
            return self._value(where, item.operands[0], state)
        if item.opcode == "add":
            values = [self._value(where, operand, state) for operand in item.operands]
            return None if None in values else sum(values)
        return None


def _dims(shape: str) -> list[int]:
    return [int(size) for size in _SHAPE.search(shape)[2].split(",") if size]


def _dot(item: Instruction, lhs: list[int], rhs: list[int]) -> int:
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", item.rest)[1]
    return prod(_dims(item.shape)) * prod(lhs[int(d)] for d in contracted.split(",") if d)


def _convolution(item: Instruction, lhs: list[int], rhs: list[int]) -> int:
    """As XLA's cost analysis: taps that fall on padding or between dilated pixels do not count."""
    labels = re.fullmatch(r"(\w+)_(\w+)->(\w+)", item.attribute("dim_labels"))
    left, right, result = labels.groups()
    out = _dims(item.shape)
    window = re.search(r"window=\{([^}]*)\}", item.rest)
    window = dict(part.split("=") for part in window[1].split()) if window else {}

    def option(key: str, axis: int, default: str) -> int:
        return int(window[key].split("x")[axis].split("_")[0] if key in window else default)

    def taps(axis: int) -> int:
        """Pairs of an output place and a kernel place that meet an input pixel."""
        stride, low = option("stride", axis, "1"), option("pad", axis, "0")
        inner, outer = option("lhs_dilate", axis, "1"), option("rhs_dilate", axis, "1")
        reach = lhs[left.index(str(axis))] * inner
        return sum(
            0 <= at < reach and at % inner == 0
            for place in range(out[result.index(str(axis))])
            for tap in range(rhs[right.index(str(axis))])
            for at in [place * stride + tap * outer - low]
        )

    count = out[result.index("b")] * out[result.index("f")] * rhs[right.index("i")]
    count *= prod(taps(axis) for axis in range(len(result) - 2))
    return count // int(item.attribute("batch_group_count", "1"))
