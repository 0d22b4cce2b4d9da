# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Phrases and the boxes of what they name: x0, y0, x1, y1 in pixels, the last two exclusive."""

import pickle
import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jvlm.data.importers.annotations import (
    BadEntry,
    Entry,
    Table,
    beside,
    coco_names,
    companion,
    convert,
    corners,
    list_or_lines,
    numbers,
    rows,
    rows_of,
    visual_genome_image,
)
from jvlm.data.importers.captioning import flickr30k_splits
from jvlm.data.importers.files import Files
from jvlm.data.importers.records import Dropped, Kind, Record
from jvlm.errors import UserError

REFER = ("unc", "umd", "google", "berkeley")
"""Divisions of a refer data set, the usual one first: unc of RefCOCO and RefCOCO+, umd of g."""
REFER_SPLITS = {name: name for name in ("train", "test", "testA", "testB")} | {"val": "validation"}


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, dicts, texts and numbers, and refuses all that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"holds {module}.{name}, not plain values")


def refcoco(files: Files) -> Iterator[Record | Dropped]:
    """RefCOCO, RefCOCO+, RefCOCOg: refs(<division>).p and instances.json (lichengunc/refer).

    [{ref_id, ann_id, image_id, split, sentences: [{sent}]}] in a pickle, with boxes by ann_id. One
    record per object, with all its expressions. Splits: train, validation, test, testA, testB. Of
    several divisions in a folder the usual one is read; a pickle as SRC chooses another.

    Detected boxes come from dets.json, if it is there: {image_id: [[x, y, width, height, ...]]}, as
    salesforce/ALBEF has those of MAttNet.
    """
    found = {path.name: path for path in files.need(*(f"refs({name}).p" for name in REFER))}
    folders = {path.parent for path in files.find(*found)}
    if len(folders) > 1:
        names = ", ".join(sorted(str(folder) for folder in folders))
        raise UserError(f"{files.root}: several data sets ({names}): give one of them as SRC")
    path = next(found[f"refs({name}).p"] for name in REFER if f"refs({name}).p" in found)
    try:
        with open(path, "rb") as file:
            refs = _PlainUnpickler(file, encoding="utf-8").load()
    except Exception as error:  # Whatever a damaged pickle makes of itself.
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path}: cannot be read as a refer pickle: {reason}") from None
    notes = rows(companion(files, path, "instances.json"), "annotations")
    boxes = Table(notes, "id", lambda entry: corners(entry.fields.get("bbox")))
    proposals = {}
    for file in beside(files, path.parent, "dets.json")[:1]:
        proposals = dict(rows(file))
    yield from convert(rows_of(path, refs), _reference, files, boxes, proposals)


def _reference(entry: Entry, files: Files, boxes: Table, proposals: dict) -> Iterator[Record]:
    split, image_id = entry.text("split"), entry.number("image_id")
    found = proposals.get(str(image_id)) or []
    box = boxes.get(entry.text("ann_id"))
    if box is None:
        raise BadEntry("no box")
    if split not in REFER_SPLITS:
        raise BadEntry("unknown split")
    values = {
        "expressions": [sentence.text("sent") for sentence in entry.entries("sentences")],
        "box": box,
        "proposals": [{"box": _detected(item)} for item in found],
        "image_id": str(image_id),
    }
    yield Record(
        REFER_SPLITS[split],
        entry.text("ref_id"),
        values,
        (files.image(*coco_names(image_id, "train2014")),),
    )


def _detected(item: Any) -> list[float]:
    """A box of dets.json, behind which its score may stand."""
    return corners(item[:4] if isinstance(item, list) else item)


_PHRASE = re.compile(r"\[/EN#(\d+)(?:/[^\s\]]*)? ([^\]]*)\]")


def flickr30k_entities(files: Files) -> Iterator[Record | Dropped]:
    """Flickr30k Entities: Sentences/*.txt and Annotations/*.xml (BryanPlummer/flickr30k_entities).

    A record per caption: a line of 'Two [/EN#1/people young men] ...', where the number names
    objects of the XML, each a box. Phrases without a box (scene, not visible) are not regions.
    Splits are those of train.txt, val.txt, test.txt, if they are there.

    The layout is PASCAL VOC's: xmin to xmax are pixels counted from 1, both inside the box. So x0
    is xmin - 1, as in the authors' reader, and x1 is xmax.
    """
    splits = flickr30k_splits(files)
    notes = {path.stem: path for path in files.need("Annotations/*.xml", "*/Annotations/*.xml")}
    for path in files.need("Sentences/*.txt", "*/Sentences/*.txt"):
        image_id = path.stem
        if image_id not in notes:
            yield Dropped(image_id, "no annotation")
            continue
        boxes, bad = _entity_boxes(notes[image_id])
        yield from (Dropped(f"{image_id}.xml", reason) for reason in bad)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        for number, line in enumerate(filter(str.strip, lines)):
            caption, regions = _entity_regions(line.strip(), boxes)
            name = f"{image_id}:{number}"
            if not regions:
                yield Dropped(name, "no phrase with a box")
                continue
            values = {"caption": caption, "regions": regions, "image_id": image_id}
            image = files.image(f"{image_id}.jpg")
            yield Record(splits.get(image_id, "train"), name, values, (image,))


def _entity_boxes(path: Path) -> tuple[dict[str, list[list[float]]], list[str]]:
    """Object number -> its boxes, and what is wrong with others."""
    boxes: dict[str, list[list[float]]] = defaultdict(list)
    bad: list[str] = []
    try:
        found = ElementTree.parse(path).getroot().iter("object")
    except ElementTree.ParseError:
        return boxes, ["not XML"]
    for item in found:
        box = item.find("bndbox")
        if box is None:  # A scene, or nothing that can be seen.
            continue
        try:
            sides = [float(box.findtext(side, "")) for side in ("xmin", "ymin", "xmax", "ymax")]
            x0, y0, x1, y1 = numbers(sides, "box")
            for name in item.iter("name"):
                boxes[name.text or ""].append([x0 - 1, y0 - 1, x1, y1])
        except ValueError:
            bad.append("box: not 4 numbers")
    return boxes, bad


def _entity_regions(line: str, boxes: dict[str, list]) -> tuple[str, list[dict]]:
    """A line without its marks, and a region per box of every phrase."""
    caption, end, regions = "", 0, []
    for match in _PHRASE.finditer(line):
        caption += line[end : match.start()]
        number, phrase = match.groups()
        start, end = len(caption), match.end()
        caption += phrase
        place = {"phrase": phrase, "start": start, "end": len(caption)}
        regions += [place | {"box": box} for box in boxes.get(number, ())]
    return caption + line[end:], regions


def grit(files: Files) -> Iterator[Record | Dropped]:
    """Grounded captions as GRIT has them (Kosmos-2; zzliang/GRIT): noun phrases and their boxes.

    {caption, noun_chunks: [[start, end, x0, y0, x1, y1, score]], width, height, image | key}: spans
    of the caption, boxes as shares of width and height. A JSON list, JSON lines, or, as img2dataset
    writes them, a JSON file beside each picture. CogVLM's grounded captions are made the same way.
    """
    for path in files.need("*.json", "*.jsonl"):
        if not path.name.endswith("_stats.json"):  # img2dataset's own.
            yield from convert(list_or_lines(path), _grit_caption, files)


def _grit_caption(entry: Entry, files: Files) -> Iterator[Record]:
    caption, (width, height) = entry.text("caption"), entry.numbers("width", "height")
    regions = []
    for _, chunk in entry.items("noun_chunks"):
        start, end, x0, y0, x1, y1, *_ = numbers(chunk, "noun_chunks", 7)
        if not 0 <= start < end <= len(caption):
            raise BadEntry("span outside the caption")
        box = [x0 * width, y0 * height, x1 * width, y1 * height]
        place = {"start": int(start), "end": int(end), "box": box}
        regions.append({"phrase": caption[int(start) : int(end)], **place})
    name = entry.text("image", "") or entry.text("key") + ".jpg"
    values = {"caption": caption, "regions": regions, "image_id": Path(name).stem}
    yield Record("train", entry.name, values, (files.image(name),))


def vg_regions(files: Files) -> Iterator[Record | Dropped]:
    """Visual Genome's region_descriptions.json.

    [{id | image_id, regions: [{phrase, x, y, width, height}]}]. A record
    per picture; the regions have no caption around them. No splits.
    """
    for path in files.need("region_descriptions.json"):
        yield from convert(rows(path), _vg_picture, files)


def _vg_picture(entry: Entry, files: Files) -> Iterator[Record | Dropped]:
    (image_id, image), regions = visual_genome_image(entry, files), []
    for name, row in entry.items("regions"):
        try:
            region = Entry(name, row)
            box = corners(region.numbers("x", "y", "width", "height"))
            regions.append({"phrase": region.text("phrase"), "start": 0, "end": 0, "box": box})
        except BadEntry as error:
            yield Dropped(f"{image_id}:{name.rsplit(':', 1)[1]}", str(error))
    if not regions:
        raise BadEntry("no regions")
    yield Record("train", image_id, {"regions": regions, "image_id": image_id}, (image,))


GROUNDING = {
    "refcoco": Kind(
        refcoco,
        "expressions",
        "refs(unc|umd|google).p, instances.json, dets.json if there: RefCOCO, + or g",
    ),
    "flickr30k_entities": Kind(
        flickr30k_entities,
        "regions",
        "Sentences/*.txt, Annotations/*.xml, train.txt val.txt test.txt",
    ),
    "grit": Kind(grit, "regions", "grounded captions: JSON of caption, noun_chunks, width, height"),
    "vg_regions": Kind(vg_regions, "regions", "Visual Genome's region_descriptions.json"),
}
