# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""From a set of web pairs to a bootstrapped one, shard by shard."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jvlm import __version__, progress, sharding
from jvlm.capfilt import report, shards
from jvlm.capfilt.models import Captioner, Filter
from jvlm.capfilt.shards import SYNTHETIC, WEB, Caption, Judged, Shard
from jvlm.data.images import BadRecord, decode
from jvlm.data.parallel import parallel_map
from jvlm.data.sources import Source
from jvlm.distributed import Preemption
from jvlm.embeddings import refuse_bad
from jvlm.errors import Preempted, UserError

TEXT_KEYS = ("caption", "captions", "text", "title")
_KEYS = ("__key__", "id", "key", "image_id", "path", "url")
_LOOKED_AT = 100


def bootstrap(
    source: Source,
    captioner: Any,
    filter: Any,
    out: str | Path,
    *,
    options: Mapping[str, Any] | None = None,
    prompt: str | None = None,
    threshold: float = 0.5,
    text_key: str | None = None,
    batch_size: int = 64,
    shard_size: int = 1000,
    shard: tuple[int, int] = (0, 1),
    max_bad_share: float = 0.05,
) -> dict[str, Any]:
    """Captions a set of web pairs, filters it, and writes what is left; or goes on with that.

    Finished shards are kept. An image's captions do not depend on what was done before: on the
    same devices and with the same `batch_size` the files are the same, byte for byte, however
    often the work was cut off or shared out. With several processes each writes its share of the
    shards, so its models live on its own devices. Who finds all shards there writes the report.

    Args:
      source: examples with an `image` (bytes) and web captions.
      captioner, filter: from `jvlm.load`; one model may be both.
      out: folder, see `jvlm.capfilt`.
      options: fields of `generation.Options`; default nucleus sampling, see `models.decoding`.
      prompt: what captions go on from; default the captioner's own.
      threshold: least probability of a match of a caption that is kept. 0.5 is the paper's: the
        head's more likely class.
      text_key: entry with the web captions; default the first of TEXT_KEYS that is there.
      batch_size: images at a time, rounded up to what the devices share evenly.
      shard_size: images of the source to a shard.
      shard: (i, n), this machine's part of the shards: number i of n, from 0 on.
      max_bad_share: unreadable images, as a share of this call's, that end it; up to ten never do.

    Returns:
      `out`; `images`, `bad`: of this call's shards; `missing`, shards that others have still to
      write; `report`, content of report.json, or None while some are missing.

    Raises:
      UserError: bad options, models that cannot do it, or a folder with something else in it.
      Preempted: SIGTERM came; finished shards stay.
    """
    out = Path(out)
    _check(threshold, max_bad_share, batch_size, shard_size, shard)
    writer, judge = Captioner(captioner, prompt, options or {}), Filter(filter)
    text_key = _find_text_key(source, text_key)
    settings = {
        "jvlm": __version__,
        "data": source.fingerprint,
        "text_key": text_key,
        "captioner": writer.facts,
        "filter": judge.facts,
        "threshold": threshold,
        "shard_size": shard_size,
    }
    settings = shards.settle(out, settings)
    every = shards.plan(len(source), shard_size)
    mine = every[shard[0] :: shard[1]][jax.process_index() :: jax.process_count()]
    together = np.lcm(*(sharding.batch_shards(m.mesh) for m in (captioner, filter)))
    size = int(-(-batch_size // together) * together)
    read = _Reader(source, text_key, captioner.processor, filter.processor)
    job = _Job(out, writer, judge, read, threshold, size)
    images, bad = job.run(mine, max_bad_share)
    missing = sum(not shards.is_done(out, one) for one in every)
    found = None if missing else report.write(out, every, source, settings)
    return {"out": str(out), "images": images, "bad": bad, "missing": missing, "report": found}


@dataclasses.dataclass(frozen=True)
class _Read:
    """An image, ready for both models.

    Attributes:
      judged: the image, without captions yet; or why there is none.
      web: its captions.
      rows: uint8[H, W, 3] as the captioner and as the filter see it.
    """

    judged: Judged
    web: Sequence[str] = ()
    rows: Sequence[np.ndarray] = ()


class _Reader:
    """Reads, decodes and resizes image number `index`, in any thread."""

    def __init__(self, source: Source, text_key: str, *processors: Any):
        self._source, self._text_key, self._processors = source, text_key, processors

    def __call__(self, index: int) -> _Read:
        try:
            example = self._source[index]
            if not isinstance(example.get("image"), bytes):
                raise BadRecord(f"no image, only {', '.join(sorted(example))}")
            pixels = decode(example["image"])
        except BadRecord as error:
            return _Read(Judged(index, bad=f"image {index}: {error}"))
        first, second = self._processors
        rows = [first(images=[pixels])["image"][0]]
        same = first.steps == second.steps
        rows.append(rows[0] if same else second(images=[pixels])["image"][0])
        key = next((str(example[name]) for name in _KEYS if name in example), str(index))
        fields = shards.carried(example, self._text_key)
        judged = Judged(index, key, (), example["image"], fields)
        return _Read(judged, _web_texts(example.get(self._text_key)) or [], rows)


@dataclasses.dataclass(frozen=True)
class _Job:
    """What all shards of a call share."""

    out: Path
    captioner: Captioner
    filter: Filter
    read: _Reader
    threshold: float
    batch_size: int

    def run(self, mine: Sequence[Shard], max_bad_share: float) -> tuple[int, list[str]]:
        """Writes the shards that are not there yet; returns (images, a line for each bad one)."""
        done = {one.index for one in mine if shards.is_done(self.out, one)}
        total, bad = sum(one.size for one in mine), []
        pending = [range(s.first, s.first + s.size) for s in mine if s.index not in done]
        indices = itertools.chain.from_iterable(pending)
        ahead = parallel_map(self.read, indices, ahead=2 * self.batch_size)
        asked = itertools.count()
        with (
            Preemption() as preemption,
            progress.bar(total=total, unit="image", leave=True) as bar,
            contextlib.closing(ahead),
        ):

            def check() -> None:
                # Several processes agree on a number that each has to ask for.
                if preemption.reached(next(asked)):
                    raise Preempted(
                        f"the machine is taken away: finished shards are in {self.out}, the same "
                        "command goes on from there"
                    )

            def judged(one: Shard) -> Iterator[Judged]:
                for size in self._batches(one):
                    check()
                    batch = list(itertools.islice(ahead, size))
                    bad.extend(r.judged.bad for r in batch if r.judged.bad is not None)
                    refuse_bad(bad, total, max_bad_share)
                    yield from self._judge(batch)
                    bar.update(size)

            for one in mine:
                if one.index not in done:
                    shards.write(self.out, one, judged(one))
                    continue
                for size in self._batches(one):
                    check()
                    bar.update(size)
                bad += [x["bad"] for x in shards.read_lines(self.out, [one]) if "bad" in x]
        return total, bad

    def _batches(self, shard: Shard) -> Iterator[int]:
        """Images of each batch; a batch has those of one shard, whoever computes it."""
        for start in range(0, shard.size, self.batch_size):
            yield min(self.batch_size, shard.size - start)

    def _judge(self, batch: Sequence[_Read]) -> Iterator[Judged]:
        """Captions and judges images that follow each other, unless none can be used."""
        good = next((read for read in batch if read.rows), None)
        if good is None:
            yield from (read.judged for read in batch)
            return
        # A bad one keeps its place, so that samples are drawn by the images' numbers.
        spare = [good.rows] * (self.batch_size - len(batch))
        rows = [read.rows or good.rows for read in batch] + spare
        seen, looked_at = (np.stack(side) for side in zip(*rows))
        states = self.filter.see(looked_at)
        texts = [list(read.web) for read in batch]
        nothing = [[]] * len(spare)
        of_web = self.filter.match(states, texts + nothing)  # Computed before the captions are.
        written = self.captioner(seen, batch[0].judged.index)
        written = [text if read.rows else [] for read, text in zip(batch, written)]
        of_written = self.filter.match(states, written + nothing)
        of_web, of_written = jax.device_get((of_web, of_written))
        for row, read in enumerate(batch):
            captions = [
                self._caption(text, provenance, float(found[row]))
                for provenance, own, probabilities in (
                    (WEB, texts[row], of_web),
                    (SYNTHETIC, written[row], of_written),
                )
                for text, found in zip(own, probabilities)
            ]
            yield dataclasses.replace(read.judged, captions=tuple(captions))

    def _caption(self, text: str, provenance: str, match: float) -> Caption:
        match = round(match, 6)
        return Caption(text, provenance, match, bool(text) and match >= self.threshold)


def _web_texts(entry: Any) -> list[str] | None:
    """Captions that an entry holds, but for empty ones; None where it holds something else."""
    texts = [entry] if isinstance(entry, str) else entry
    if not isinstance(texts, list | tuple | np.ndarray):
        return None
    return [text for text in texts if isinstance(text, str) and text.strip()]


def _find_text_key(source: Source, key: str | None) -> str:
    """The entry with the web captions, as the first readable example has it."""
    for index in range(min(len(source), _LOOKED_AT)):
        try:
            example = source[index]
        except BadRecord:
            continue
        found = next((name for name in TEXT_KEYS if name in example), None) if key is None else key
        if found is None or found not in example:
            wanted = f"--text_key {key}" if key else "the web captions"
            has = ", ".join(sorted(example))
            raise UserError(f"{wanted}: not in an example, which has {has}: give --text_key")
        value = example[found]
        if value is not None and _web_texts(value) is None:
            raise UserError(f"--text_key {found}: the entry is {type(value).__name__}, no text")
        return found
    raise UserError(f"the data set has no readable example among the first {_LOOKED_AT}")


def _check(
    threshold: float,
    max_bad_share: float,
    batch_size: int,
    shard_size: int,
    shard: tuple[int, int],
) -> None:
    for name, value in (("threshold", threshold), ("max_bad_share", max_bad_share)):
        if not 0 <= value <= 1:
            raise UserError(f"--{name} {value}: from 0 to 1")
    for name, value in (("batch_size", batch_size), ("shard_size", shard_size)):
        if value < 1:
            raise UserError(f"--{name} {value}: give at least 1")
    index, count = shard
    if not 0 <= index < count:
        raise UserError(f"--shard {index}/{count}: count from 0/{count} to {count - 1}/{count}")
