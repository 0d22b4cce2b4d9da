# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Caption data sets as their authors distribute them."""

import functools
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from jvlm.data.importers.annotations import (
    BadEntry,
    Entry,
    beside,
    by_split,
    convert,
    rows,
    rows_of,
    textvqa_image,
)
from jvlm.data.importers.files import Files, read_json
from jvlm.data.importers.records import Dropped, Kind, Record

KARPATHY_SPLITS = {"train": "train", "restval": "train", "val": "validation", "test": "test"}
"""Karpathy trains on COCO's 'restval' too (neuraltalk2, prepro.py), as everybody since."""


def karpathy(files: Files, name: str) -> Iterator[Record | Dropped]:
    """Karpathy's dataset_coco.json and dataset_flickr30k.json (cs.stanford.edu/people/karpathy).

    {images: [{filepath?, filename, split, sentences: [{raw}], cocoid?, imgid}]}.
    """
    for path in files.need(name):
        yield from convert(rows(path, "images"), _karpathy_image, files)


def _karpathy_image(entry: Entry, files: Files) -> Iterator[Record]:
    split, file = entry.text("split"), entry.text("filename")
    if split not in KARPATHY_SPLITS:
        raise BadEntry("unknown split")
    image_id = entry.text("cocoid", "") or file.removesuffix(".jpg")
    captions = [sentence.text("raw") for sentence in entry.entries("sentences")]
    image = files.image(os.path.join(entry.text("filepath", ""), file), file)
    values = {"captions": captions, "image_id": image_id}
    yield Record(KARPATHY_SPLITS[split], image_id, values, (image,))


def coco_captions(files: Files, patterns: tuple[str, ...]) -> Iterator[Record | Dropped]:
    """COCO's own layout (cocodataset.org, format-data), and that of NoCaps.

    {images: [{id, file_name, coco_url, domain (NoCaps)}], annotations: [{image_id, caption}]}; a
    file without annotations is a test split. A picture without a caption is dropped elsewhere.

    Args:
      files: to read.
      patterns: names of the files.
    """
    for split, path in by_split(files.need(*patterns)).items():
        content = read_json(path)
        images = rows_of(path, content, "images")
        captions = None
        if "annotations" in content:
            captions = defaultdict(list)
            for name, note in rows_of(path, content, "annotations"):
                try:
                    entry = Entry(name, note)
                    captions[entry.text("image_id")].append(entry.text("caption"))
                except BadEntry as error:
                    yield Dropped(name, str(error))
        yield from convert(images, _coco_image, files, split, captions)


def _coco_image(entry: Entry, files: Files, split: str, captions: dict | None) -> Iterator[Record]:
    image_id, name = entry.text("id"), entry.text("file_name")
    texts = [] if captions is None else captions.get(image_id, [])
    if captions is not None and not texts:
        raise BadEntry("no caption")
    folder = Path(entry.text("coco_url", "")).parent.name  # http://.../val2014/COCO_val2014_...jpg
    values = {
        "captions": texts,
        "image_id": image_id,
        "url": entry.text("coco_url", ""),
        "category": entry.text("domain", ""),
    }
    yield Record(split, image_id, values, (files.image(os.path.join(folder, name), name),))


def flickr30k(files: Files) -> Iterator[Record | Dropped]:
    """Flickr30k's results_20130124.token: 'picture.jpg#number<TAB>caption' lines.

    The archive knows no splits: lists of picture numbers train.txt, val.txt and test.txt, as
    Flickr30k Entities has them, tell them; without lists all is train.
    """
    splits = flickr30k_splits(files)
    for path in files.need("results*.token"):
        captions: dict[str, list[str]] = defaultdict(list)
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
            name, _, caption = line.partition("\t")
            name, mark, _ = name.partition("#")
            if mark and caption.strip():
                captions[name].append(caption.strip())
            elif line.strip():
                yield Dropped(f"{path.name}:{number}", "no caption")
        for name, texts in captions.items():
            image_id = name.removesuffix(".jpg")
            split = splits.get(image_id, "train")
            values = {"captions": texts, "image_id": image_id}
            yield Record(split, image_id, values, (files.image(name),))


def flickr30k_splits(files: Files) -> dict[str, str]:
    """Picture number -> split, from train.txt, val.txt and test.txt, those that are there."""
    lists = by_split(beside(files, files.folder, "train.txt", "val.txt", "test.txt"))
    return {n: split for split, path in lists.items() for n in path.read_text("utf-8").split()}


def textcaps(files: Files) -> Iterator[Record | Dropped]:
    """TextCaps_0.1_*.json (textvqa.org/textcaps): {data: [{image_id, caption_str?}]}.

    A row per caption; rows of a picture are one record. The test split has no captions.
    """
    for split, path in by_split(files.need("TextCaps_0.1_*.json")).items():
        captions: dict[str, list[str]] = {}
        for name, row in rows(path, "data"):
            try:
                entry = Entry(name, row)
                texts = [entry.text("caption_str")] if split != "test" else []
                captions.setdefault(entry.text("image_id"), []).extend(texts)
            except BadEntry as error:
                yield Dropped(name, str(error))
        for image_id, texts in captions.items():
            image = textvqa_image(files, image_id)
            yield Record(split, image_id, {"captions": texts, "image_id": image_id}, (image,))


def albef_refcoco(files: Files) -> Iterator[Record | Dropped]:
    """ALBEF's refcoco+_{train,val,test}.json: [{image, text, ref_id}].

    Source: dataset/grounding_dataset.py. Pairs of picture and expression, without boxes: ALBEF
    learns grounding from pairs alone, and takes the boxes that it is judged by from the refer
    files: kind refcoco.
    """
    for split, path in by_split(files.need("refcoco+_*.json")).items():
        yield from convert(rows(path), _albef_pair, files, split)


def _albef_pair(entry: Entry, files: Files, split: str) -> Iterator[Record]:
    image = entry.text("image")
    values = {"captions": [entry.text("text")], "image_id": Path(image).stem}
    yield Record(split, entry.text("ref_id", entry.name), values, (files.image(image),))


CAPTIONING = {
    "coco_karpathy": Kind(
        functools.partial(karpathy, name="dataset_coco.json"),
        "captions",
        "dataset_coco.json: COCO in Karpathy's splits; restval is part of train",
    ),
    "flickr30k_karpathy": Kind(
        functools.partial(karpathy, name="dataset_flickr30k.json"),
        "captions",
        "dataset_flickr30k.json: Flickr30k in Karpathy's splits",
    ),
    "coco_captions": Kind(
        functools.partial(
            coco_captions, patterns=("captions_*20??.json", "image_info_test*20??.json")
        ),
        "captions",
        "captions_{train,val}{2014,2017}.json, image_info_test*.json: COCO's own splits",
    ),
    "nocaps": Kind(
        functools.partial(
            coco_captions,
            patterns=("nocaps_val_4500_captions.json", "nocaps_test_image_info.json"),
        ),
        "captions",
        "nocaps_val_4500_captions.json, nocaps_test_image_info.json",
    ),
    "flickr30k": Kind(
        flickr30k, "captions", "results_20130124.token, and train.txt val.txt test.txt for splits"
    ),
    "textcaps": Kind(textcaps, "captions", "TextCaps_0.1_{train,val,test}.json"),
    "albef_refcoco": Kind(albef_refcoco, "captions", "ALBEF's refcoco+_*.json: pairs, no boxes"),
}
