# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is in a data set: sizes of its pictures, lengths of its texts, answers, boxes, damage."""

import array
import collections
import dataclasses
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from jvlm.data import images
from jvlm.data.images import BadRecord
from jvlm.data.parallel import parallel_map
from jvlm.data.sources import Source

_NAMES = ("id", "url", "path", "txt", "__key__")  # Texts that no one reads for their own sake.


def survey(parts: Mapping[str, Source], sample: int | None) -> dict[str, Any]:
    """Reads examples and sums up what is in them.

    Args:
      parts: sources.
      sample: how many examples, evenly spaced over all; None is all.

    Returns:
      JSON-ready: `examples` read, `of` how many, `broken`, a line each, and in groups, entry ->
      what there is of it: `images`: formats (distinct, most_frequent), width, height; `texts`:
      per_example, words, characters; `values` (answers, labels): distinct, most_frequent; `boxes`:
      outside (of their image, or empty), width, height (pixels), area (share of the image's), of
      the entries `box` and `boxes`: x0, y0, x1, y1; other names tell no convention.
      All have `count`; other numbers are [least, median, greatest].
    """
    from jvlm import progress

    firsts = np.cumsum([0, *map(len, parts.values())])
    total = int(firsts[-1])
    count = total if sample is None else min(sample, total)
    sources = list(parts.items())

    def read(place: int) -> _Summary:
        index = place * total // count
        number = int(np.searchsorted(firsts, index, "right")) - 1
        name, source = sources[number]
        index -= int(firsts[number])
        label = f"{name} {index}" if len(sources) > 1 else str(index)
        return _sum_up(label, source, index)

    broken: list[str] = []
    numbers: dict[tuple, array.array] = {}
    counters: dict[tuple, collections.Counter] = {}
    summaries = parallel_map(read, range(count), ahead=64, threads=2 * (os.cpu_count() or 1))
    for summary in progress.bar(summaries, unit="example", total=count):
        broken += summary.broken
        for key, values in summary.numbers.items():
            numbers.setdefault(key, array.array("d")).extend(values)
        for key, values in summary.values.items():
            counters.setdefault(key, collections.Counter()).update(values)

    result: dict[str, Any] = {"examples": count, "of": total, "broken": broken}
    result |= {"images": {}, "texts": {}, "values": {}, "boxes": {}}
    for (group, key, measure), values in sorted(numbers.items()):
        if not values:
            continue
        place = result[group].setdefault(key, {"count": len(values)})
        place[measure] = int(sum(values)) if measure == "outside" else _spread(values)
    names = next((n for n in (getattr(s, "class_names", None) for _, s in sources) if n), None)
    for (group, key), counter in sorted(counters.items()):
        top = counter.most_common(10)
        if key == "label" and names:
            top = [(names[v] if v in range(len(names)) else v, n) for v, n in top]
        ranked = {"count": counter.total(), "distinct": len(counter), "most_frequent": top}
        result[group].setdefault(key, {}).update(ranked)
    return result


@dataclasses.dataclass
class _Summary:
    """What `survey` needs of an example: (group, entry, measure) -> numbers, and so on."""

    broken: list[str] = dataclasses.field(default_factory=list)
    numbers: dict[tuple[str, str, str], Iterable[float]] = dataclasses.field(default_factory=dict)
    values: dict[tuple[str, str], list] = dataclasses.field(default_factory=dict)


def _sum_up(label: str, source: Source, index: int) -> _Summary:
    summary = _Summary()
    try:
        example = source[index]
    except BadRecord as error:
        summary.broken.append(f"{label}: {error}")
        return summary
    sizes, formats = [], []
    for data in pictures_of(example):
        try:
            sizes.append(images.decode(data).shape[1::-1])
            formats.append(_format(data))
        except BadRecord as error:
            known = (example[key] for key in ("path", "__key__", "id") if key in example)
            summary.broken.append(": ".join(map(str, (label, *list(known)[:1], error))))
    for axis, side in enumerate(("width", "height")):
        if sizes:
            summary.numbers["images", "image", side] = [size[axis] for size in sizes]
            summary.values["images", "image"] = formats
    width, height = sizes[0] if sizes else (np.inf, np.inf)
    for key, value in entries(example):
        last = key.rpartition("/")[2]
        many = [entry for entry in listed(value) if entry is not None]
        texts = [text for text in many if isinstance(text, str)]
        if texts and last not in _NAMES and not last.endswith("_id"):
            summary.numbers["texts", key, "per_example"] = [len(texts)]
            summary.numbers["texts", key, "words"] = [len(text.split()) for text in texts]
            summary.numbers["texts", key, "characters"] = [len(text) for text in texts]
        if last in ("answer", "answers", "label"):
            plain = [v.item() if isinstance(v, np.generic) else v for v in many]
            shown = [v for v in plain if isinstance(v, str | int | float)]
            summary.values |= {("values", key): shown} if shown else {}
        if last in ("box", "boxes"):
            several = not many or any(isinstance(box, list | tuple | np.ndarray) for box in many)
            found = [box_of(box) for box in (many if several else [value])]
            if wrong := sum(box is None for box in found):
                summary.broken.append(f"{label}: {key}: {wrong} not four numbers")
            corners = [box for box in found if box is not None]
            measures = _measures(np.array(corners).reshape(-1, 4), width, height)
            summary.numbers |= {("boxes", key, name): v.tolist() for name, v in measures.items()}
    return summary


def _measures(boxes: np.ndarray, width: float, height: float) -> dict[str, np.ndarray]:
    """Of boxes float64[n, 4] in a picture of that size."""
    x0, y0, x1, y1 = boxes.T
    outside = (x0 < 0) | (y0 < 0) | (x1 > width) | (y1 > height) | (x1 <= x0) | (y1 <= y0)
    area = (x1 - x0) * (y1 - y0) / (width * height)
    return {"width": x1 - x0, "height": y1 - y0, "area": area, "outside": outside}


def _format(data: bytes) -> str:
    """Pillow's name of the format of an image that was decoded."""
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"  # Pillow would refuse the largest ones.
    with Image.open(io.BytesIO(data)) as image:
        return image.format or "?"


def pictures_of(example: Mapping[str, Any]) -> list[bytes]:
    """The encoded pictures of an example: `image`, `images`, or none."""
    image, several = example.get("image"), example.get("images")
    found = [image] if isinstance(image, bytes) else []
    return found + [data for data in several or () if isinstance(data, bytes)]


def listed(value: Any) -> list:
    """What an entry has one or several of, as a list."""
    return list(value) if isinstance(value, list | tuple | np.ndarray) else [value]


def box_of(value: Any) -> np.ndarray | None:
    """float64[4]; None of anything but four finite numbers."""
    try:
        box = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return None
    return box if box.shape == (4,) and np.isfinite(box).all() else None


def as_group(value: Any) -> Mapping[str, Any] | None:
    """A group of lists, or the same as a list of groups; None of anything else."""
    if isinstance(value, Mapping):
        return value
    groups = [g for g in value if isinstance(g, Mapping)] if isinstance(value, list) else []
    names = dict.fromkeys(name for group in groups for name in group)
    return {name: [group.get(name) for group in groups] for name in names} or None


def entries(example: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Entries of an example; those of its groups as 'group/entry', as transforms name them."""
    for key, value in example.items():
        group = as_group(value)
        if group is None:
            yield f"{prefix}{key}", value
        else:
            yield from entries(group, f"{prefix}{key}/")


def _spread(values: array.array) -> list[float]:
    """[least, median, greatest]."""
    ordered = np.sort(np.asarray(values, np.float64))
    return [round(float(ordered[i]), 4) for i in (0, len(ordered) // 2, -1)]


def to_lines(facts: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """For people."""
    number = lambda value: f"{value:,.0f}" if value == int(value) else f"{value:,.3f}"
    spread = lambda values: " / ".join(map(number, values))
    title = " ".join(filter(None, (facts["name"], facts.get("version"))))
    lines = [f"{title} in {facts['path']}" if "path" in facts else title]
    lines += [facts["description"]] if facts.get("description") else []
    lines += [f"  split {split}: {size:,} examples" for split, size in facts["splits"].items()]
    if "bytes" in facts:
        files = f" in {facts['files']:,} file(s)" if "files" in facts else ""
        lines.append(f"  {_bytes(facts['bytes'])} on disk{files}")
    lines += [f"  {name}: {kind}" for name, kind in facts.get("features", {}).items()]
    lines += [f"  cut short: {file}" for file in facts.get("cut_short", ())]
    if "dropped" in facts:
        dropped = facts["dropped"]
        lines.append(
            f"  dropped when it was imported: {dropped['records']:,} records and "
            f"{dropped['entries']:,} entries of others"
        )
        reasons = list(dropped["reasons"].items())[:10]
        lines += [f"    {count:,} {reason}" for reason, count in reasons]
    lines.append(
        f"{found['examples']:,} of {found['of']:,} examples read (least / median / greatest):"
    )
    for key, image in found["images"].items():
        kinds = ", ".join(f"{count:,} {name}" for name, count in image["most_frequent"])
        lines.append(f"  {key}: {kinds}; {spread(image['width'])} px wide,")
        lines[-1] += f" {spread(image['height'])} px high"
    for key, text in found["texts"].items():
        each = "" if text["per_example"][2] == 1 else f"{spread(text['per_example'])} each; "
        lines.append(f"  {key}: {each}{spread(text['words'])} words,")
        lines[-1] += f" {spread(text['characters'])} characters"
    for key, value in found["values"].items():
        most = ", ".join(f"{name!s} ({count:,})" for name, count in value["most_frequent"])
        lines.append(f"  {key}: {value['distinct']:,} distinct of {value['count']:,}: {most}")
    for key, box in found["boxes"].items():
        lines.append(
            f"  {key}: {box['count']:,}, {box['outside'] / box['count']:.1%} not inside the image; "
            f"{spread(box['width'])} px wide, {spread(box['height'])} px high, "
            f"{' / '.join(f'{share:.1%}' for share in box['area'])} of its area"
        )
    lines.append(f"  broken: {len(found['broken']):,}")
    lines += [f"    {line}" for line in found["broken"][:20]]
    return lines


def _bytes(count: int) -> str:
    power = min((len(str(count)) - 1) // 3, 4)
    unit = ("bytes", "KB", "MB", "GB", "TB")[power]
    return f"{count / 1000**power:.{min(power, 1)}f} {unit}"
