# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reading an optimised HLO module: what it computes and moves, with loops as often as they run."""

import re
from math import prod
from typing import NamedTuple

from jvlm.flops import convolution_taps

COLLECTIVES = (
    "all-gather",
    "reduce-scatter",
    "all-reduce",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
    "send",  # To another slice.
)

# name = type[shape]{layout} opcode(operands), attributes
_INSTRUCTION = re.compile(r"\s*(ROOT )?%([\w.-]+) = (.*?) ([\w-]+)\((.*)$")
_COMPUTATION = re.compile(r"(ENTRY )?%([\w.-]+) .*\{$")
_CALLED = re.compile(r"(?:calls|to_apply|called_computations|branch_computations)=(\{[^}]*\}|%\S+)")
_NAME = re.compile(r"%([\w.-]+)")
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


class Collective(NamedTuple):
    """All collectives of one kind in a run of the program.

    Attributes:
      kind: one of COLLECTIVES.
      count: how many run; an asynchronous one, which is a start and a done, is one.
      bytes: what one chip sends, by the least that an algorithm needs. Of a group of n chips with
        x bytes each to give: all-gather x (n - 1), reduce-scatter and all-to-all x (n - 1) / n,
        all-reduce twice that, the others x.
    """

    kind: str
    count: int
    bytes: int


class Instruction(NamedTuple):
    shape: str
    opcode: str
    rest: str  # From the operands on.

    @property
    def operands(self) -> list[str]:
        return _NAME.findall(self.rest.split(")")[0])

    def attribute(self, name: str, default: str = "") -> str:
        found = re.search(rf"\b{name}=\{{?([^\s,}}]*)", self.rest)
        return found[1].lstrip("%") if found else default


class Program:
    """An optimised HLO module as text: what each computation does, and how often it runs.

    Attributes:
      computations: name -> name of a result -> instruction.
      runs: name of a computation -> how often it runs. Of a conditional all branches count as run.
      unknown_loops: number of loops whose trips cannot be told; they count as one trip.
    """

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.roots: dict[str, str] = {}
        entry = ""
        for line in text.splitlines():
            if start := _COMPUTATION.match(line):
                name = start[2]
                self.computations[name] = {}
                entry = name if start[1] else entry
            elif found := _INSTRUCTION.match(line):
                is_root, result, *parts = found.groups()
                self.computations[name][result] = Instruction(*parts)
                if is_root:
                    self.roots[name] = result
        devices = re.search(r"(?:num_partitions|replica_count)=(\d+)", text[: text.find("\n")])
        self.devices = int(devices[1]) if devices else 1
        self.runs = dict.fromkeys(self.computations, 0)
        self.unknown_loops = 0
        self._visit(entry, 1, lambda index: None)

    def dot_flops(self) -> int:
        """Two per multiply-add of all matmuls and convolutions, of one device."""
        total = 0
        for name, instructions in self.computations.items():
            for item in instructions.values():
                if item.opcode in ("dot", "convolution"):
                    sides = [_dims(instructions[operand].shape) for operand in item.operands]
                    count = _dot if item.opcode == "dot" else _convolution
                    total += 2 * count(item, *sides) * self.runs[name]
        return total

    def collectives(self) -> list[Collective]:
        """What devices exchange, of the kinds that occur, the most bytes first."""
        counts, sent = dict.fromkeys(COLLECTIVES, 0), dict.fromkeys(COLLECTIVES, 0.0)
        for name, instructions in self.computations.items():
            if not self.runs[name] or _is_continuation(name, instructions):
                continue
            # So libtpu calls an all-reduce of which each device keeps a piece.
            is_scatter = name.startswith("all-reduce-scatter")
            for item in instructions.values():
                kind = item.opcode.removesuffix("-start")
                if kind in COLLECTIVES:
                    kind = "reduce-scatter" if is_scatter and kind == "all-reduce" else kind
                    given = sum(_bytes(instructions[operand].shape) for operand in item.operands)
                    counts[kind] += self.runs[name]
                    sent[kind] += self.runs[name] * _sent(kind, given, self._group_size(item))
        kinds = [kind for kind in COLLECTIVES if counts[kind]]
        found = [Collective(kind, counts[kind], round(sent[kind])) for kind in kinds]
        return sorted(found, key=lambda entry: -entry.bytes)

    def gathers(self) -> list[tuple[str, int]]:
        """(shape, number of elements) of what all-gathers give, the largest first."""
        found = set()
        for instructions in self.computations.values():
            for item in instructions.values():
                if item.opcode in ("all-gather", "all-gather-start"):
                    kind, sizes = _SHAPE.findall(item.shape)[-1]
                    found.add((f"{kind}[{sizes}]", prod(_numbers(sizes))))
        return sorted(found, key=lambda entry: -entry[1])

    def _group_size(self, item: Instruction) -> int:
        """Number of devices that take part, in any of the notations of `replica_groups`."""
        if found := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", item.rest):
            sizes = dict(re.findall(r"'([^']*)'=(\d+)", found[1]))
            axes = re.findall(r"'([^']*)'(?::\(\d+\)(\d+))?", found[2])  # An axis, or part of one.
            return prod(int(part or sizes[axis]) for axis, part in axes)
        if found := re.search(r"replica_groups=\[\d+,(\d+)\]", item.rest):
            return int(found[1])
        if found := re.search(r"replica_groups=\{\{([\d,]*)\}", item.rest):
            return len(_numbers(found[1]))
        return self.devices

    def _visit(self, name: str, times: int, state) -> None:
        """Adds `times` runs of a computation whose loop state starts as `state(index)`."""
        self.runs[name] += times
        for item in self.computations[name].values():
            if item.opcode == "while":
                (carried,) = item.operands
                start = lambda index, carried=carried: self._element(name, carried, index, state)
                self._visit(item.attribute("body"), times * self._trips(item, start), start)
            elif item.opcode not in ("async-update", "async-done"):  # The start has run it.
                for called in _CALLED.findall(item.rest):
                    for inner in _NAME.findall(called):
                        self._visit(inner, times, lambda index: None)

    def _trips(self, loop: Instruction, start) -> int:
        """As the compiler says, or of `while (counter < limit) counter += step`."""
        if known := _TRIPS.search(loop.rest):
            return int(known[1])
        condition, body = loop.attribute("condition"), loop.attribute("body")
        compare = self.computations[condition][self.roots[condition]]
        if compare.opcode == "compare" and compare.attribute("direction") == "LT":
            counter, limit = compare.operands
            index = self.computations[condition][counter].attribute("index")
            limit = self._value(condition, limit, start)
            if index and limit is not None and start(int(index)) is not None:
                first = start(int(index))
                after = self._element(body, self.roots[body], int(index), start)
                if after is not None and after > first:
                    return -(-(limit - first) // (after - first))
        self.unknown_loops += 1
        return 1

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


def _is_continuation(name: str, instructions: dict[str, Instruction]) -> bool:
    """Whether a collective in here has been started elsewhere.

    libtpu runs a collective in the shadow of several fusions, and writes it down in each: in that
    which starts it, in those (`async_collective_fusion`) that go on, and in that which ends it.
    """
    return name.startswith("async_collective_fusion") or any(
        'custom_call_target="AsyncCollectiveDone"' in item.rest for item in instructions.values()
    )


def _sent(kind: str, given: float, group: int) -> float:
    if kind == "all-gather":
        return given * (group - 1)
    if kind in ("reduce-scatter", "all-to-all", "all-reduce"):
        return given * (group - 1) / group * (2 if kind == "all-reduce" else 1)
    return given


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


def _dims(shape: str) -> list[int]:
    return _numbers(_SHAPE.search(shape)[2])


def _bytes(shape: str) -> float:
    """Bytes of an array or of all arrays of a tuple, without padding."""
    bits = {"pred": 8, "token": 0}
    width = lambda kind: bits[kind] if kind in bits else int(re.search(r"\d+", kind)[0])
    return sum(width(kind) * prod(_numbers(sizes)) / 8 for kind, sizes in _SHAPE.findall(shape))


def _dot(item: Instruction, lhs: list[int], rhs: list[int]) -> int:
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", item.rest)[1]
    return prod(_dims(item.shape)) * prod(lhs[axis] for axis in _numbers(contracted))


def _convolution(item: Instruction, lhs: list[int], rhs: list[int]) -> int:
    labels = re.fullmatch(r"(\w+)_(\w+)->(\w+)", item.attribute("dim_labels"))
    left, right, result = labels.groups()
    out = _dims(item.shape)
    window = re.search(r"window=\{([^}]*)\}", item.rest)
    window = dict(part.split("=") for part in window[1].split()) if window else {}

    def option(key: str, axis: int, default: str) -> int:
        return int(window[key].split("x")[axis].split("_")[0] if key in window else default)

    def taps(axis: int) -> int:
        sizes = (side[labels.index(str(axis))] for side, labels in sides)
        return convolution_taps(
            *sizes,
            stride=option("stride", axis, "1"),
            low=option("pad", axis, "0"),
            lhs_dilation=option("lhs_dilate", axis, "1"),
            rhs_dilation=option("rhs_dilate", axis, "1"),
        )

    sides = ((lhs, left), (rhs, right), (out, result))
    count = out[result.index("b")] * out[result.index("f")] * rhs[right.index("i")]
    return count * prod(taps(axis) for axis in range(len(result) - 2))
