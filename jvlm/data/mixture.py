# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Several data sets in one run, in exact shares, every member through its own epochs.

Which member serves sample k, and which of its examples, is a pure function of (seed, k): a period
of 65,536 samples holds each member a whole number of times, spread evenly, and repeats.
"""

import bisect
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jvlm.config import check_keys
from jvlm.data.order import mix
from jvlm.data.sources import Source, build_source
from jvlm.data.transforms import Example, Transform, compose
from jvlm.errors import UserError, did_you_mean

PERIOD = 1 << 16
_WEIGHTS = ("given", "proportional", "sqrt", "temperature")


@dataclasses.dataclass(frozen=True)
class Member:
    """One data set of a mixture.

    Attributes:
      name: its key in the config.
      number: its place among the members' names in sorted order.
      source: raw examples.
      transforms: its own steps, before those of all.
      weight: multiplies the weight that the rule gives it.
      epochs: it is used up after so many; None is never.
      seed: of its order.
    """

    name: str
    number: int
    source: Source
    transforms: Sequence[tuple[str, Mapping]]
    weight: float
    epochs: float | None
    seed: int

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Example:
        return {**self.source[index], "member": np.int32(self.number)}


class Mixture:
    """The members of a config's `data.mixture`, and the order in which they serve.

    As a source it is the members' raw examples one after the other. All examples have `member`,
    the member's number.

    Args:
      members: name -> {source, transforms, weight, epochs}: all but `source` may be left out.
        `transforms` come before `data.transforms`. `weight` (default 1) multiplies what the rule
        gives. A member with `epochs` is used up when its examples have been served so many times.
      weights: the rule: 'given' (1 each), 'proportional' (to sizes), 'sqrt' (their square roots,
        InstructBLIP 2.4), 'temperature' (size^(1 / temperature), multilingual BERT and T5).
      temperature: of that rule.
      per_batch: all rows of a batch are one member's; default: members are mixed within batches.
      exhausted: what follows when a member is used up. 'renew': the others go on, with the shares
        that their weights give among themselves. 'stop': the data ends, as it does in any case
        with the last member. What does not fill a batch is left out: of the data, and with
        `per_batch` of each member.
      seed: of the run.
      batch_size: rows of the global batch.

    Raises:
      UserError: a member or a number that makes no sense.
    """

    def __init__(
        self,
        members: Mapping[str, Mapping],
        weights: str = "given",
        temperature: float = 1.0,
        per_batch: bool = False,
        exhausted: str = "renew",
        *,
        seed: int,
        batch_size: int,
    ):
        where = "data.mixture"
        for key, value, known in (
            ("weights", weights, _WEIGHTS),
            ("exhausted", exhausted, ("renew", "stop")),
        ):
            if value not in known:
                raise UserError(f"{where}.{key} {value!r} is unknown.{did_you_mean(value, known)}")
        _check_positive(f"{where}.temperature", temperature)
        if not members or not isinstance(members, Mapping):
            raise UserError(f"{where}.members: there is none: give name -> source, transforms, ...")
        self.members = [
            _build_member(name, number, members[name], mix(seed, number + 1))
            for number, name in enumerate(sorted(members))
        ]
        sizes = np.array([len(member) for member in self.members], np.float64)
        power = {"given": 0, "proportional": 1, "sqrt": 0.5, "temperature": 1 / temperature}
        self._batch = batch_size if per_batch else 1
        limits = [
            None if member.epochs is None else int(member.epochs * len(member)) // self._batch
            for member in self.members
        ]
        if 0 in limits:
            member = self.members[limits.index(0)]
            raise UserError(
                f"{where}.members.{member.name}: {member.epochs} epochs of {len(member)} examples "
                f"are no {'batch' if per_batch else 'example'}"
            )
        self.order = MemberOrder(
            sizes ** power[weights] * [member.weight for member in self.members],
            limits,
            seed=seed,
            renew=exhausted == "renew",
        )
        self.samples = None if self.order.length is None else self.order.length * self._batch
        self._first = np.cumsum([0, *map(len, self.members)])
        self._rule = {"per_batch": per_batch, "exhausted": exhausted}

    @property
    def fingerprint(self) -> dict[str, Any]:
        shares = self.order.phases[0].counts
        return {
            "kind": "mixture",
            **self._rule,
            **{
                f"member {m.name}": {**m.source.fingerprint, "share": share, "epochs": m.epochs}
                for m, share in zip(self.members, shares.tolist())
            },
        }

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, index: int) -> Example:
        number = bisect.bisect_right(self._first, index) - 1
        return self.members[number][index - int(self._first[number])]

    def pick(self, k: int) -> tuple[Member, int]:
        """Who serves sample `k`, and how many samples it has served before."""
        unit, row = divmod(k, self._batch)
        number, occurrence = self.order[unit]
        return self.members[number], occurrence * self._batch + row

    def compose(self, steps: Sequence[tuple[str, Mapping]], *, tokenizer: Any) -> Transform:
        """Each member's own steps, then those of all."""
        shared = compose(steps, tokenizer=tokenizer)
        own = [
            compose(
                member.transforms,
                tokenizer=tokenizer,
                where=f"data.mixture.members.{member.name}.transforms",
            )
            for member in self.members
        ]
        return lambda example, rng: shared(own[example["member"]](example, rng), rng)


@dataclasses.dataclass(frozen=True)
class Phase:
    """A stretch of the order in which the same members serve.

    Attributes:
      start: its first unit.
      served: int64[M], what members have served before it.
      counts: int64[M], of each member in a period.
      members, places: int32[PERIOD]; whose turn it is in the period, and for which time.
    """

    start: int
    served: np.ndarray
    counts: np.ndarray
    members: np.ndarray
    places: np.ndarray

    def occurrences(self, offset: int) -> np.ndarray:
        """int64[M]: what members have served before the phase's unit `offset`."""
        periods, rest = divmod(offset, PERIOD)
        partly = np.bincount(self.members[:rest], minlength=len(self.counts))
        return self.served + periods * self.counts + partly


class MemberOrder:
    """Unit (sample or batch) -> (member, how many units that member has served before).

    Args:
      weights: of the members, above 0.
      limits: units after which they are used up, at least 1; None is never.
      seed: of the order.
      renew: the others go on when one is used up.

    Attributes:
      phases: in order; the next one begins when a member is used up.
      length: units there are, None for no end.
    """

    def __init__(
        self, weights: Sequence[float], limits: Sequence[int | None], *, seed: int, renew: bool
    ):
        weights = np.asarray(weights, np.float64)
        active, start = np.ones(len(weights), bool), 0
        served = np.zeros(len(weights), np.int64)
        self.phases: list[Phase] = []
        self.length: int | None = None
        while active.any():
            phase = _make_phase(start, served, weights * active, mix(seed, len(self.phases)))
            self.phases.append(phase)
            ends = {
                member: self._end(phase, member, limit)
                for member, limit in enumerate(limits)
                if limit is not None and active[member]
            }
            if not ends:
                return
            offset = min(ends.values())
            start, served = start + offset, phase.occurrences(offset)
            for member, end in ends.items():
                active[member] = end > offset
            if not renew or not active.any():
                self.length = start
                return

    @staticmethod
    def _end(phase: Phase, member: int, limit: int) -> int:
        """The phase's units up to the member's last one."""
        periods, place = divmod(limit - 1 - int(phase.served[member]), int(phase.counts[member]))
        return periods * PERIOD + int(np.flatnonzero(phase.members == member)[place]) + 1

    def __getitem__(self, unit: int) -> tuple[int, int]:
        if unit < 0 or (self.length is not None and unit >= self.length):
            raise IndexError(unit)
        place = bisect.bisect_right(self.phases, unit, key=lambda phase: phase.start) - 1
        phase = self.phases[place]
        periods, slot = divmod(unit - phase.start, PERIOD)
        member = int(phase.members[slot])
        counted = periods * int(phase.counts[member]) + int(phase.places[slot])
        return member, int(phase.served[member]) + counted


def _build_member(name: str, number: int, section: Mapping, seed: int) -> Member:
    where = f"data.mixture.members.{name}"
    if not isinstance(section, Mapping):
        raise UserError(f"{where} is {section!r}: give source, transforms, weight, epochs")
    check_keys(section, ("source", "transforms", "weight", "epochs"), where=where)
    if "source" not in section:
        raise UserError(f"{where}: missing source")
    for key in ("weight", "epochs"):
        if section.get(key) is not None:
            _check_positive(f"{where}.{key}", section[key])
    weight = section.get("weight")
    return Member(
        name,
        number,
        build_source(section["source"], where=f"{where}.source"),
        section.get("transforms") or (),
        1.0 if weight is None else weight,
        section.get("epochs"),
        seed,
    )


def _check_positive(where: str, value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:
        raise UserError(f"{where} is {value!r}: give a number above 0")


def _make_phase(start: int, served: np.ndarray, weights: np.ndarray, seed: int) -> Phase:
    counts = _counts(weights)
    members = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    places = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
    # The j-th of n turns falls, at random, into the j-th n-th of the period. Raw bits, since only
    # they are the same in every version of numpy.
    bits = np.random.Philox(key=np.array([seed, 0], np.uint64)).random_raw(PERIOD)
    times = (places + (bits >> np.uint64(11)) * 2.0**-53) / counts[members]
    order = np.argsort(times, kind="stable")
    return Phase(start, served, counts, members[order], places[order])


def _counts(weights: np.ndarray) -> np.ndarray:
    """int64[M]: turns in a period, by largest remainders; none for weight 0, else at least one."""
    exact = PERIOD * weights / weights.sum()
    counts = np.maximum(np.floor(exact), weights > 0).astype(np.int64)
    missing = PERIOD - int(counts.sum())
    if missing >= 0:
        counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1
    else:  # Many rare members: the commonest one gives way.
        counts[np.argmax(counts)] += missing
    return counts
