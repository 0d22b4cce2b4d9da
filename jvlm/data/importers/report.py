# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What an import made, and what it dropped and why."""

import collections
import dataclasses
import json
from pathlib import Path

from jvlm.data.importers.spool import Plan


class TooManyBad(Exception):
    """More records were dropped than may be."""


@dataclasses.dataclass(frozen=True)
class Summary:
    """An import in numbers.

    Attributes:
      records: in the annotation, dropped ones too.
      dropped: reason -> how many of them.
      dropped_entries: reason -> how many entries of records that were kept, such as regions.
      examples: reason -> the first of these, with its detail.
      repeats: share of the records that store the pictures of the one before once more.
      path: the data set's folder.
      splits: split -> records in it.
      linked: folder that stored paths are relative to; "" where pictures are stored.
      bytes: of the serialised examples.
      seconds: that the call took.
    """

    records: int
    dropped: dict[str, int]
    dropped_entries: dict[str, int]
    examples: dict[str, str]
    repeats: float
    path: str = ""
    splits: dict[str, int] = dataclasses.field(default_factory=dict)
    linked: str = ""
    bytes: int = 0
    seconds: float = 0.0


def collect(work: Path, plan: Plan, out: Path) -> Summary:
    """Gathers what was dropped into one list.

    Args:
      work: folder of the spool.
      plan: what is imported.
      out: the list, JSON lines: `id`, `reason`, `detail`, and `entry`, the index of an entry that
        was left out of a kept record.
    """
    counts: dict[bool, collections.Counter] = {
        False: collections.Counter(),
        True: collections.Counter(),
    }
    examples: dict[str, str] = {}
    lists = [work / "dropped.jsonl", *(work / f"{shard.key}.dropped" for shard in plan.shards)]
    with open(out, "w") as gathered:
        for path in lists:
            if not path.exists():  # An import that stops has not begun all shards.
                continue
            with open(path) as lines:
                for line in lines:
                    gathered.write(line)
                    entry = json.loads(line)
                    counts["entry" in entry][entry["reason"]] += 1
                    first = ": ".join(filter(None, (entry["id"], entry["detail"])))
                    examples.setdefault(entry["reason"], _printable(first))
    sort = lambda counter: dict(counter.most_common())
    total = plan.records + plan.dropped
    return Summary(total, sort(counts[False]), sort(counts[True]), examples, plan.repeats)


def _printable(text: str) -> str:
    """One line, which any terminal takes: names of files may have bytes that are no letters."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def describe(summary: Summary) -> list[str]:
    """Lines for people."""
    path = Path(summary.path)
    lines = [f"wrote {path}: {summary.bytes / 1e6:,.1f} MB in {summary.seconds:.0f} s"]
    lines += [f"  split {split}: {size:,} examples" for split, size in summary.splits.items()]
    bad = sum(summary.dropped.values())
    if bad or summary.dropped_entries:
        lines.append(
            f"dropped {bad:,} of {summary.records:,} records ({bad / summary.records:.2%}), listed "
            f"in {path / '1.0.0' / 'dropped.jsonl'}"
        )
    for what, reasons in (("", summary.dropped), (" (entry)", summary.dropped_entries)):
        lines += [f"  {n:,} {why}{what}: {summary.examples[why]}" for why, n in reasons.items()]
    if summary.repeats > 0.5:
        lines.append("most pictures are stored several times: with --link they would stay outside")
    lines.append(
        f'read it with source=dict(kind="tfds", name="{path.name}", split="{[*summary.splits][0]}",'
        f' data_dir="{path.parent}")'
    )
    if summary.linked:
        lines.append(f'and its pictures with ("read_image", dict(root="{summary.linked}"))')
    return lines


def too_many(summary: Summary, max_bad: float, listed: Path) -> str:
    """The line that an import ends with."""
    bad = sum(summary.dropped.values())
    why, count = next(iter(summary.dropped.items()))
    cause = f"{count:,} {why} ({summary.examples[why]}); all are listed in {listed}"
    if bad == summary.records:
        return f"none of {bad:,} records can be used: {cause}"
    return (
        f"{bad:,} of {summary.records:,} records are bad so far, more than --max-bad {max_bad}: "
        f"{cause}; to go on, give a larger --max-bad"
    )
