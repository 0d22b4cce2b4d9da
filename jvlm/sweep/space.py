# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where the points of a sweep come from: a grid, draws from ranges, or the config file itself."""

import ast
import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from operator import getitem
from types import MappingProxyType
from typing import Any

import numpy as np

from jvlm import config as config_lib
from jvlm.errors import UserError

Point = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Base:
    """What every trial starts from: a config file and the overrides that all trials have."""

    config: str
    overrides: tuple[str, ...] = ()

    def resolve(self, point: Mapping[str, Any]) -> Point:
        """The point with its values as the config takes them: 1 becomes 1.0 where it has a float.

        Raises:
          UserError: a key that the config does not have, or a value of another type.
        """
        config = self.load(to_texts(point))
        return {key: functools.reduce(getitem, key.split("."), config) for key in point}

    def load(self, texts: Mapping[str, str] = MappingProxyType({})) -> Any:
        """The config with overrides {key: text}."""
        overrides = [f"{key}={text}" for key, text in texts.items()]
        return config_lib.load(self.config, [*self.overrides, *overrides])


@dataclasses.dataclass(frozen=True)
class Range:
    """Values of one key to draw from.

    Attributes:
      low: least value.
      high: greatest value, itself included; an int range has two ints.
      log: uniform in the logarithm.
      choices: the values, where they are listed; low, high and log say nothing then.
    """

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple = ()

    def draw(self, rng: np.random.Generator) -> Any:
        """One value, floats with six digits."""
        if self.choices:
            return self.choices[rng.integers(len(self.choices))]
        is_int = isinstance(self.low, int)
        # Half an int beyond both ends, so that the first and the last are as likely as the others.
        low, high = (self.low - 0.5, self.high + 0.5) if is_int else (self.low, self.high)
        low, high = (math.log(low), math.log(high)) if self.log else (low, high)
        value = rng.uniform(low, high)
        value = math.exp(value) if self.log else value
        value = round(value) if is_int else float(f"{value:.6g}")
        return min(max(value, self.low), self.high)

    def suggest(self, trial: Any, key: str) -> Any:
        """The value that an Optuna trial has under the key, or takes now."""
        if self.choices:
            return trial.suggest_categorical(key, self.choices)
        suggest = trial.suggest_int if isinstance(self.low, int) else trial.suggest_float
        return suggest(key, self.low, self.high, log=self.log)


def to_texts(point: Mapping[str, Any]) -> dict[str, str]:
    """A point as `--config.key=text` takes it, and as the study records it."""
    return {k: v if isinstance(v, str) else repr(v) for k, v in point.items()}


def grid(base: Base, options: Sequence[str]) -> list[Point]:
    """The product of 'key=a,b,c' options, the last one running fastest."""
    axes = []
    for key, text in _keyed(options, "--grid"):
        axes.append([(key, value) for value in _listed(text)])
    return _distinct(base.resolve(dict(pairs)) for pairs in itertools.product(*axes))


def from_config(base: Base) -> list[Point]:
    """What the config file's `sweep()` yields."""
    name = base.config.partition(":")[0]
    hint = ": define it, or give --grid, --random or --tpe"
    points = config_lib.call(name, "sweep", hint=hint)
    for point in points:
        if not isinstance(point, dict) or not all(isinstance(key, str) for key in point):
            raise UserError(f"{name}: sweep() gives {point!r}: it takes dicts of key -> value")
    return _distinct(map(base.resolve, points))


def draws(base: Base, ranges: Mapping[str, Range], count: int, seed: int) -> list[Point]:
    """Random points. Each depends on the seed and its index only, whoever draws how many."""
    rngs = (np.random.default_rng((seed, index)) for index in range(count))
    return _distinct(
        base.resolve({key: range_.draw(rng) for key, range_ in ranges.items()}) for rng in rngs
    )


def parse_ranges(base: Base, options: Sequence[str], flag: str) -> dict[str, Range]:
    """'key=1e-4..1e-2', 'key=log:1e-4..1e-2', 'key=1..4' (ints) and 'key=a,b,c' options.

    Raises:
      UserError: an unknown key, or a range that its values do not allow.
    """
    ranges = {}
    for key, text in _keyed(options, flag):
        where = f"{flag} {key}={text}"
        if ".." in text:
            ranges[key] = _interval(base, key, text, where)
        else:
            values = [base.resolve({key: value})[key] for value in _listed(text)]
            if not all(isinstance(v, bool | int | float | str | None) for v in values):
                raise UserError(f"{where}: numbers, texts, True, False or None; or use --grid")
            ranges[key] = Range(choices=tuple(values))
    return ranges


def _interval(base: Base, key: str, text: str, where: str) -> Range:
    try:
        ends = [ast.literal_eval(end) for end in text.removeprefix("log:").split("..")]
        low, high = (base.resolve({key: end})[key] for end in ends)
    except (ValueError, SyntaxError):
        raise UserError(f"{where}: give LOW..HIGH or log:LOW..HIGH") from None
    if type(low) not in (int, float) or type(high) is not type(low):
        raise UserError(f"{where}: give two ints or two floats, or list the values")
    log = text.startswith("log:")
    if not low < high or (log and low <= 0):
        raise UserError(f"{where}: LOW must be below HIGH{', and above 0' if log else ''}")
    return Range(low, high, log)


def _keyed(options: Sequence[str], flag: str) -> list[tuple[str, str]]:
    pairs = []
    for option in options:
        key, equals, text = option.partition("=")
        if not (key and equals and text):
            raise UserError(f"{flag} {option}: give {flag} KEY=VALUES, {flag} optim.lr=...")
        if key in dict(pairs):
            raise UserError(f"{flag} {key} is given twice: put all its values into one")
        pairs.append((key, text))
    return pairs


def _listed(text: str) -> list[str]:
    """Splits at the commas outside brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _distinct(points: Iterable[Point]) -> list[Point]:
    return list({tuple(to_texts(point).items()): point for point in points}.values())
