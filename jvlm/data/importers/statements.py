# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Statements that a picture, or a pair, makes true or false."""

from collections.abc import Iterator
from pathlib import Path

from jvlm.data.importers.annotations import BadEntry, Entry, by_split, convert, list_or_lines, rows
from jvlm.data.importers.files import Files, read_lines, split_of
from jvlm.data.importers.records import Dropped, Kind, Record

TRUTH = ("False", "True")
ENTAILMENT = ("contradiction", "neutral", "entailment")
"""ALBEF's numbers (dataset/ve_dataset.py); those of MMF are the reverse."""


def _label(entry: Entry, key: str, names: tuple[str, ...]) -> int:
    """The number of a name, which may be a number already."""
    value = entry.fields.get(key)
    if isinstance(value, int) and 0 <= value < len(names):
        return int(value)
    if value not in names:
        raise BadEntry(f"unknown {key}")
    return names.index(value)


def nlvr2(files: Files) -> Iterator[Record | Dropped]:
    """NLVR2's train.json, dev.json, test1.json, test2.json (lil-lab/nlvr, nlvr2/README.md).

    JSON lines of {sentence, label, identifier: 'split-set-pair-sentence', directory (train)}; the
    pictures are 'split-set-pair-img0.png', left, and img1. The split test is test1, as published
    results are; test2 is the one that was hidden.
    """
    splits = {"train": "train", "dev": "validation", "test1": "test", "test2": "test2"}
    for path in files.need(*(f"{name}.json" for name in splits)):
        if path.parent.name not in ("balanced", "unbalanced"):
            yield from convert(read_lines(path), _nlvr2_pair, files, splits[path.stem])


def _nlvr2_pair(entry: Entry, files: Files, split: str) -> Iterator[Record]:
    name = entry.text("identifier")
    pair = name.rsplit("-", 1)[0]
    folder = pair.split("-")[0]
    if entry.text("directory", ""):
        folder = f"images/train/{entry.text('directory')}"
    values = {"text": entry.text("sentence"), "label": _label(entry, "label", TRUTH)}
    names = [f"{pair}-img{number}.png" for number in (0, 1)]
    yield Record(split, name, values, tuple(files.image(f"{folder}/{n}", n) for n in names))


def albef_nlvr(files: Files) -> Iterator[Record | Dropped]:
    """ALBEF's and BLIP's nlvr_{train,dev,test}.json: [{images: [2], sentence, label: 'True'}]."""
    for split, path in by_split(files.need("nlvr_*.json")).items():
        yield from convert(rows(path), _albef_nlvr_pair, files, split)


def _albef_nlvr_pair(entry: Entry, files: Files, split: str) -> Iterator[Record]:
    names = entry.texts("images")
    if len(names) != 2:
        raise BadEntry("not two images")
    values = {"text": entry.text("sentence"), "label": _label(entry, "label", TRUTH)}
    yield Record(split, entry.name, values, tuple(files.image(name) for name in names))


def snli_ve(files: Files) -> Iterator[Record | Dropped]:
    """SNLI-VE's snli_ve_{train,dev,test}.jsonl (necla-ml/SNLI-VE).

    JSON lines of {pairID: '<picture>.jpg#...', sentence2, gold_label}: the name of the field that
    repeats the picture changed between releases, so the picture is taken from pairID, which it was
    made of (vet/tools/snli_ve_generator.py).
    """
    for split, path in by_split(files.need("snli_ve_*.jsonl")).items():
        yield from convert(read_lines(path), _snli_ve_pair, files, split)


def _snli_ve_pair(entry: Entry, files: Files, split: str) -> Iterator[Record]:
    name = entry.text("pairID")
    yield _entailment(entry, files, split, name.split(".jpg")[0], "sentence2", "gold_label", name)


def albef_ve(files: Files) -> Iterator[Record | Dropped]:
    """ALBEF's ve_{train,dev,test}.json: [{image (without its ending), sentence, label}]."""
    for split, path in by_split(files.need("ve_*.json")).items():
        yield from convert(rows(path), _albef_ve_pair, files, split)


def _albef_ve_pair(entry: Entry, files: Files, split: str) -> Iterator[Record]:
    image_id = entry.text("image")
    yield _entailment(entry, files, split, image_id, "sentence", "label", entry.name)


def _entailment(
    entry: Entry, files: Files, split: str, image_id: str, text: str, label: str, name: str
) -> Record:
    values = {
        "text": entry.text(text),
        "label": _label(entry, label, ENTAILMENT),
        "image_id": image_id,
    }
    return Record(split, name, values, (files.image(f"{image_id}.jpg"),))


def vsr(files: Files) -> Iterator[Record | Dropped]:
    """VSR's train.jsonl, dev.jsonl, test.jsonl (cambridgeltl/visual-spatial-reasoning).

    JSON lines of {image, caption, label}. The folders random and zeroshot are two divisions of the
    same sentences: SRC is one of them.
    """
    for split, path in by_split(files.need("train.jsonl", "dev.jsonl", "test.jsonl")).items():
        yield from convert(list_or_lines(path), _vsr_statement, files, split)


def _vsr_statement(entry: Entry, files: Files, split: str) -> Iterator[Record]:
    name = entry.text("image")
    label = _label(entry, "label", TRUTH)
    values = {"text": entry.text("caption"), "label": label, "image_id": Path(name).stem}
    yield Record(split, entry.name, values, (files.image(name),))


def hateful_memes(files: Files) -> Iterator[Record | Dropped]:
    """Hateful Memes' train.jsonl, dev*.jsonl, test*.jsonl: {id, img, text, label?}.

    The splits dev and test of the first release are validation and test; the later dev_seen,
    dev_unseen, test_seen and test_unseen keep their names. Unlabelled ones are -1.
    """
    split = lambda name: name if name.endswith("seen") else split_of(name)
    paths = files.need("train.jsonl", "dev*.jsonl", "test*.jsonl")
    for name, path in by_split(paths, split).items():
        yield from convert(read_lines(path), _meme, files, name)


def _meme(entry: Entry, files: Files, split: str) -> Iterator[Record]:
    name, image = entry.text("id"), entry.text("img")
    unknown = split.startswith("test") and entry.fields.get("label") is None
    label = -1 if unknown else _label(entry, "label", MEMES)
    yield Record(
        split,
        name,
        {"text": entry.text("text"), "label": label, "image_id": name},
        (files.image(image),),
    )


MEMES = ("not-hateful", "hateful")

STATEMENTS = {
    "nlvr2": Kind(nlvr2, "image_pairs", "NLVR2's train.json, dev.json, test1.json", TRUTH),
    "albef_nlvr": Kind(
        albef_nlvr, "image_pairs", "ALBEF's and BLIP's nlvr_{train,dev,test}.json", TRUTH
    ),
    "snli_ve": Kind(snli_ve, "statements", "snli_ve_{train,dev,test}.jsonl", ENTAILMENT),
    "albef_ve": Kind(albef_ve, "statements", "ALBEF's ve_{train,dev,test}.json", ENTAILMENT),
    "vsr": Kind(vsr, "statements", "VSR's train.jsonl, dev.jsonl, test.jsonl of one split", TRUTH),
    "hateful_memes": Kind(
        hateful_memes, "statements", "train.jsonl, dev*.jsonl, test*.jsonl, and img/", MEMES
    ),
}
