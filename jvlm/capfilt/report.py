# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What was kept and what was dropped: in numbers, and as a picture."""

import collections
import dataclasses
import heapq
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jvlm import whole
from jvlm.capfilt import shards
from jvlm.capfilt.shards import SYNTHETIC, WEB, Shard
from jvlm.data import images, preview
from jvlm.data.order import mix
from jvlm.data.sources import Source
from jvlm.report import metric_table, provenance

PICTURE = "examples.png"
_BINS = 20
_SHOWN = 4  # Images for each of: web and synthetic, kept and dropped.
_KEPT, _DROPPED = "#1a7f37", "#cf222e"


def write(
    out: Path, every: Sequence[Shard], source: Source, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Writes report.json, report.md and the picture; removes what killed calls left.

    Args:
      out: the folder, all of whose shards are there.
      every: these shards.
      source: of the web pairs, for the picture.
      settings: what was asked for.

    Returns:
      `metrics`, `counts`, `histogram` and what `jvlm.report.provenance` says.
    """
    found = _survey(shards.read_lines(out, every))
    counts, metrics = found.counts, {"capfilt/images_kept": found.share("images", "kept")}
    for provenance_ in (WEB, SYNTHETIC):
        metrics[f"capfilt/{provenance_}_kept"] = found.share(provenance_, "kept")
    if "wrong" in counts or "right" in counts:
        metrics["capfilt/wrong_dropped"] = found.share("wrong", "dropped")
        metrics["capfilt/right_kept"] = found.share("right", "kept")
    report = {
        "metrics": {name: value for name, value in metrics.items() if value is not None},
        "counts": counts,
        "histogram": {"bins": _BINS, **{k: v.tolist() for k, v in found.histogram.items()}},
        **provenance(settings),
    }
    sheet = _picture(found.shown, source)
    if sheet is not None:
        preview.save(sheet, out / PICTURE)
    whole.write_text(out / "report.md", [to_markdown(report, out, sheet is not None)])
    whole.write_json(out / "report.json", report)
    for left in out.glob("shard-*.part"):  # Others may be of a machine that reports as well.
        left.unlink(missing_ok=True)
    return report


def to_markdown(report: Mapping[str, Any], out: Path, has_picture: bool) -> str:
    """The report for people."""
    counts, histogram = report["counts"], report["histogram"]
    lines = ["# CapFilt", "", *metric_table(report["metrics"])]
    lines += ["", "| | kept | dropped |", "|---|---|---|"]
    lines += [
        f"| {name} | {counts[name]['kept']:,} | {counts[name]['dropped']:,} |"
        for name in ("images", WEB, SYNTHETIC, "wrong", "right")
        if name in counts
    ]
    lines += ["", f"{counts['bad']:,} images could not be read. An image without kept captions is"]
    lines[-1] += " dropped; the list of all captions is in shard-*.jsonl."
    if "wrong" in counts:
        lines[-1] += " Wrong and right are web captions, as the data set says (`mismatched`)."
    lines += ["", "Train on it with", "", f"    {usage(out)}"]
    columns = [name for name in histogram if name != "bins"]
    lines += ["", f"| match | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for bin_ in range(_BINS):
        row = " | ".join(f"{histogram[name][bin_]:,}" for name in columns)
        lines.append(f"| {bin_ / _BINS:.2f} to {(bin_ + 1) / _BINS:.2f} | {row} |")
    if has_picture:
        lines += ["", "Kept captions are green, dropped ones red:", "", f"![examples]({PICTURE})"]
    lines += ["", "Versions: " + ", ".join(f"{k} {v}" for k, v in report["versions"].items()) + "."]
    lines += ["", "## Settings", "", "```json", json.dumps(report["config"], indent=1), "```"]
    return "\n".join(lines) + "\n"


def usage(out: Path) -> str:
    """The `source` section that reads the bootstrapped set."""
    return f'source=dict(kind="tar", path="{out}")'


@dataclasses.dataclass
class _Survey:
    """Sums over all images.

    Attributes:
      counts: images, web, synthetic and, where the source knows, wrong and right -> kept, dropped.
      histogram: of the probabilities, by web, synthetic, wrong and right.
      shown: `Judged.line` of images for the picture.
    """

    counts: dict[str, Any]
    histogram: dict[str, np.ndarray]
    shown: list[dict[str, Any]]

    def share(self, name: str, what: str) -> float | None:
        """Of one of `counts`; None of nothing."""
        entry = self.counts.get(name, {"kept": 0, "dropped": 0})
        total = entry["kept"] + entry["dropped"]
        return entry[what] / total if total else None


def _survey(lines: Iterable[dict[str, Any]]) -> _Survey:
    counts: dict[str, Any] = {"bad": 0}
    counts |= {name: {"kept": 0, "dropped": 0} for name in ("images", WEB, SYNTHETIC)}
    histogram = {name: np.zeros(_BINS, int) for name in (WEB, SYNTHETIC)}
    drawn: dict[tuple, list] = collections.defaultdict(list)
    for line in lines:
        if "bad" in line:
            counts["bad"] += 1
            continue
        captions = line["captions"]
        counts["images"]["kept" if any(c["kept"] for c in captions) else "dropped"] += 1
        for caption in captions:
            names = [caption["provenance"]]
            if caption["provenance"] == WEB and "mismatched" in line:
                names.append("wrong" if line["mismatched"] else "right")
            what = "kept" if caption["kept"] else "dropped"
            for name in names:
                counts.setdefault(name, {"kept": 0, "dropped": 0})[what] += 1
                bins = histogram.setdefault(name, np.zeros(_BINS, int))
                bins[min(int(caption["match"] * _BINS), _BINS - 1)] += 1
        for group in {(c["provenance"], c["kept"]) for c in captions}:
            # By a hash of the number: a few of all images, the same ones every time.
            heapq.heappush(drawn[group], (-mix(line["index"]), line["index"], line))
            if len(drawn[group]) > _SHOWN:
                heapq.heappop(drawn[group])
    shown = {index: line for group in drawn.values() for _, index, line in group}
    return _Survey(counts, histogram, [shown[index] for index in sorted(shown)])


def _picture(lines: Sequence[Mapping[str, Any]], source: Source) -> Any:
    """A sheet of images with all of their captions; None of no images."""
    cells = []
    for line in lines:
        pixels = images.decode(source[line["index"]]["image"])
        said = []
        for caption in line["captions"]:
            wrong = ", wrong" if caption["provenance"] == WEB and line.get("mismatched") else ""
            text = f"{caption['provenance']}{wrong} {caption['match']:.2f}: {caption['text']}"
            said.append((text, _KEPT if caption["kept"] else _DROPPED))
        cells.append(preview.Cell([preview.Picture(pixels)], said))
    if not cells:
        return None
    font, _ = preview.font_for([text for cell in cells for text, _ in cell.lines])
    return preview.draw(cells, columns=4, side=220, font=font)
