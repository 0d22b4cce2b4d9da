# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches for training (endless, shuffled, resumable at any step) and for evaluation (in order).

The global batch t is a pure function of (seed, t): row r holds sample k = t * B + r, and a host
makes its own rows only. So the checkpointed state is t, and a run resumes on any number of hosts
and worker processes with the same samples in the same rows. Of a mixture, sample k is its member's.
"""

import dataclasses
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jvlm.data.images import BadRecord
from jvlm.data.mixture import Member, Mixture
from jvlm.data.order import example_index, mix, sample_rng
from jvlm.data.parallel import parallel_map
from jvlm.data.sources import Source
from jvlm.data.transforms import Transform
from jvlm.errors import UserError

_MAX_SUBSTITUTES = 100
_BAD = "_bad"


@dataclasses.dataclass(frozen=True)
class TrainBatches:
    """The training batches of one host, by random access.

    Attributes:
      source: raw examples, or a mixture of them.
      transform: example -> row.
      batch_size: rows of the global batch.
      seed: of order and augmentation.
      rows: which of them are this host's (`sharding.host_rows`); None is all.
    """

    source: Source | Mixture
    transform: Transform
    batch_size: int
    seed: int
    rows: Sequence[int] | None = None

    def __len__(self) -> int:
        """Whole batches until a mixture is used up; else without end."""
        samples = self.source.samples if isinstance(self.source, Mixture) else None
        return (1 << 62 if samples is None else samples) // self.batch_size

    def __getitem__(self, step: int) -> dict[str, Any]:
        """The host's rows of global batch `step`; `_bad` lists the records that were replaced."""
        if step >= len(self):
            raise IndexError(step)
        rows = range(self.batch_size) if self.rows is None else self.rows
        bad: list[str] = []
        picks = [self._pick(step * self.batch_size + row) for row in rows]
        batch = collate([self._row(pick, bad) for pick in picks], [pick.name for pick in picks])
        return {**batch, _BAD: bad}

    def fingerprint(self) -> dict[str, Any]:
        """What a resumed run must find unchanged for its order to be the same."""
        return {**self.source.fingerprint, "seed": self.seed, "batch_size": self.batch_size}

    def iterate(
        self, start: int, *, workers: int = 0, max_bad_share: float = 0.01
    ) -> "BatchIterator":
        """Batches `start`, `start + 1`, ... without end.

        Args:
          start: first global step.
          workers: processes that prepare batches; 0 prepares them in a thread of this one.
          max_bad_share: replaced records, as a share of all, that end the run.
        """
        import grain

        batches = grain.MapDataset.source(self)[start:]
        threads = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
        batches = batches.to_iter_dataset(threads)
        if workers:
            from absl import flags

            # Grain's workers read absl flags; notebooks and our command line never parse them.
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            options = grain.MultiprocessingOptions(workers, 2)
            batches = batches.mp_prefetch(options, worker_init_fn=_end_with_parent)
        return BatchIterator(iter(batches), max_bad_share)

    def _pick(self, k: int) -> "_Pick":
        if isinstance(self.source, Mixture):
            member, occurrence = self.source.pick(k)
            return _Pick(k, member.name, member, member.seed, occurrence)
        return _Pick(k, "", self.source, self.seed, k)

    def _row(self, pick: "_Pick", bad: list[str]) -> dict[str, Any]:
        size = len(pick.source)
        index = example_index(pick.seed, pick.occurrence, size)
        for attempt in range(_MAX_SUBSTITUTES):
            try:
                return self.transform(pick.source[index], sample_rng(self.seed, pick.k))
            except BadRecord as error:
                bad.append(f"{pick.name} record {index}: {error}".strip())
                # A substitute, not a hole: later samples keep their rows.
                index = mix(pick.seed, pick.occurrence, attempt + 1) % size
        raise UserError(f"data: {_MAX_SUBSTITUTES} unusable records in a row, the last: {bad[-1]}")


class _Pick(NamedTuple):
    """Global sample k: it is sample `occurrence` of a source (the member `name`) in its order."""

    k: int
    name: str
    source: Source | Member
    seed: int
    occurrence: int


def _end_with_parent(index: int, count: int) -> None:
    """Ends a worker process with its parent, however that ends, and not before.

    A preemption notice may reach all processes of a host; the run still needs some batches then.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


class BatchIterator:
    """Iterates over batches, counting the records that had to be replaced.

    Attributes:
      samples, bad: rows served and records replaced so far, on this host.
      examples: the first few replaced records, one line each.
    """

    def __init__(self, batches: Iterator[dict], max_bad_share: float):
        self._batches, self._max_bad_share = batches, max_bad_share
        self.samples, self.bad, self.examples = 0, 0, []

    def __iter__(self):
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        try:
            batch = next(self._batches)
        except StopIteration:
            raise UserError("data: all members of data.mixture are used up") from None
        replaced = batch.pop(_BAD)
        self.samples += len(next(iter(batch.values())))
        self.bad += len(replaced)
        self.examples += replaced[: 20 - len(self.examples)]
        if self.bad > max(10, self._max_bad_share * self.samples):
            raise UserError(
                f"data: {self.bad} of {self.samples} records were unusable, more than "
                f"data.max_bad_share={self._max_bad_share}; the first: {self.examples[0]}"
            )
        return batch

    def close(self) -> None:
        """Ends worker processes and threads."""
        if hasattr(self._batches, "close"):
            self._batches.close()


def eval_batches(
    source: Source, transform: Transform, batch_size: int, rows: Sequence[int] | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """The whole source once, in order; every host gets its rows of as many batches.

    The last batch is filled up with copies of a row; `_mask` bool[B] is False on those.

    Raises:
      UserError: an unusable record (evaluation must not quietly leave something out).
    """
    rows = range(batch_size) if rows is None else rows
    starts = range(0, len(source), batch_size)
    indices = (min(start + row, len(source) - 1) for start in starts for row in rows)
    examples = eval_examples(source, transform, indices, ahead=2 * len(rows))
    for start in starts:
        batch = collate(list(itertools.islice(examples, len(rows))))
        yield {**batch, "_mask": np.array([start + row < len(source) for row in rows])}


def eval_examples(
    source: Source, transform: Transform, indices: Iterable[int], ahead: int
) -> Iterator[dict[str, Any]]:
    """Transformed examples, not yet a batch; see `eval_batches`."""

    def load(index: int) -> dict[str, Any]:
        try:
            return transform(source[index], sample_rng(0, index))
        except BadRecord as error:
            raise UserError(f"data: record {index} of {source.fingerprint}: {error}") from None

    return parallel_map(load, indices, ahead)


def collate(
    rows: Sequence[Mapping[str, Any]], members: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Stacks rows into arrays.

    Args:
      rows: key -> array or number.
      members: whose rows they are, of a mixture.

    Raises:
      UserError: rows whose keys or shapes differ; names the key and the members.
    """
    batch = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        try:
            batch[key] = np.stack([row[key] for row in rows])
        except (KeyError, ValueError):
            shapes = [str(np.shape(row[key])) if key in row else "none" for row in rows]
            if any(members):
                shapes = [f"{member} {shape}" for member, shape in zip(members, shapes)]
            raise UserError(
                f"data: rows of a batch differ in {key!r} ({', '.join(sorted(set(shapes)))}): "
                "resize, pad, or keep the same keys"
            ) from None
        if batch[key].dtype.kind in "OUS":
            raise UserError(f"data: {key!r} is text: tokenize it, or drop it with the step 'keep'")
    return batch
