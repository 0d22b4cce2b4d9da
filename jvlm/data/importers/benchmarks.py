# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Suites that large models are judged by: POPE, MME, MMBench, SEED-Bench."""

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

from jvlm.data.importers.annotations import (
    BadEntry,
    Entry,
    Named,
    by_split,
    convert,
    list_or_lines,
    rows_of,
)
from jvlm.data.importers.choices import choose
from jvlm.data.importers.files import Files, read_json, split_of
from jvlm.data.importers.questions import answered, question
from jvlm.data.importers.records import Blob, Dropped, Kind, Record
from jvlm.data.importers.tables import read_tsv

_LETTERS = {letter: place for place, letter in enumerate("ABCDEFGH")}


def pope(files: Files) -> Iterator[Record | Dropped]:
    """POPE's coco_pope_{random,popular,adversarial}.json (AoiDragon/POPE, output/), JSON lines.

    {question_id, image, text, label}; the category is the sampling of the negatives. Question
    numbers begin anew in each file.
    """
    paths = files.need("*pope*_random.json", "*pope*_popular.json", "*pope*_adversarial.json")
    sampling = lambda name: name.rsplit("_", 1)[1]
    for category, path in by_split(paths, sampling, "sampling").items():
        yield from convert(list_or_lines(path), _pope_question, files, category)


def _pope_question(entry: Entry, files: Files, category: str) -> Iterator[Record]:
    label = entry.text("label").lower()
    if label not in ("yes", "no"):
        raise BadEntry("label is not yes or no")
    image, question_id = entry.text("image"), entry.text("question_id")
    values = {
        "question": entry.text("text"),
        "answers": [label],
        "category": category,
        "question_id": question_id,
        "image_id": Path(image).stem,
    }
    place = files.image(f"val2014/{image}", image)
    yield Record("test", f"{category}-{question_id}", values, (place,))


def mme(files: Files) -> Iterator[Record | Dropped]:
    """MME's folders (MME_Benchmark_release_version): a folder per task, a text file per picture.

    'question<TAB>Yes|No' lines: two per picture, which share `image_id`, 'task/picture'. The text
    is beside the picture, or in questions_answers_YN/ with the picture in images/. The category
    is the task.
    """
    for path in files.need("*/*.txt"):
        folder = path.parent
        paired = folder.name == "questions_answers_YN"
        task = folder.parent if paired else folder
        place = (task / "images" if paired else folder).relative_to(files.folder)
        names = [f"{place / path.stem}{ending}" for ending in (".jpg", ".png", ".jpeg")]
        image, image_id = files.image(*names, anywhere=False), f"{task.name}/{path.stem}"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        pairs = (_mme_line(f"{image_id}:{number}", line) for number, line in enumerate(lines, 1))
        values = {"category": task.name, "image_id": image_id}
        yield from convert((pair for pair in pairs if pair), answered, "test", image, values)


def _mme_line(name: str, line: str) -> Named | Dropped | None:
    asked, _, answer = line.strip().partition("\t")
    if answer.strip().lower() in ("yes", "no"):
        return name, {"question": asked, "answer": answer.strip().lower(), "question_id": name}
    return Dropped(name, "answer is not yes or no") if asked else None


def mmbench(files: Files) -> Iterator[Record | Dropped]:
    """MMBench and CCBench, tab-separated tables with pictures in base64 (open-compass/MMBench).

    Columns index, question, hint, A to D, answer, category, image. A row's picture can be the
    index of the row that has it. Rows i + 1,000,000 k ask question i with its choices turned
    (circular evaluation): `image_id` is i. Splits are validation and test, Chinese ones with _cn,
    and ccbench.
    """
    paths = files.need("*MMBench*.tsv", "*mmbench*.tsv", "CCBench*.tsv")
    for split, path in by_split(paths, _mmbench_split).items():
        table = list(read_tsv(path, "image"))
        images = {
            row[1].get("index"): row[1]["image"]
            for row in table
            if not isinstance(row, Dropped) and isinstance(row[1].get("image"), Blob)
        }
        yield from convert(table, _mmbench_question, split, images)


def _mmbench_split(name: str) -> str:
    if name.startswith("CCBench"):
        return "ccbench"
    return split_of(name) + ("_cn" if "_cn" in name.lower() else "")


_MMBENCH_ROUND = 1_000_000


def _mmbench_question(entry: Entry, split: str, images: dict[str, Blob]) -> Iterator[Record]:
    index, image = entry.text("index"), entry.fields.get("image")
    image = image if isinstance(image, Blob) else images.get(image or index)
    if image is None or not index.isdecimal():
        raise BadEntry("no picture" if image is None else "index is not a number")
    texts = (entry.text(letter, "") for letter in "ABCD")
    options = list(itertools.takewhile(lambda text: text not in ("", "nan"), texts))
    answer, hint = entry.fields.get("answer"), entry.text("hint", "")
    label = None if answer in (None, "nan") else _LETTERS.get(answer, answer)
    yield question(
        entry,
        split,
        image,
        context="" if hint == "nan" else hint,
        category=entry.text("category", ""),
        question_id=index,
        image_id=str(int(index) % _MMBENCH_ROUND),
        **choose(options, label, known=False),
    )


SEED_TYPES = {
    "one": ("image", "Single Image"),
    "several": ("video", "Video", "Multiple Images", "Interleaved Image"),
}
_SEED_VIDEOS = {"10": "ssv2", "11": "kitchen", "12": "breakfast"}


def seed(files: Files, pictures: str) -> Iterator[Record | Dropped]:
    """SEED-Bench.json and SEED-Bench_v2*.json (AILab-CVC/SEED-Bench, DATASET.md).

    {questions: [{question_id, question, choice_a .. choice_d, answer, data_id, data_type,
    question_type_id}], question_type: {name: id}}; the category is the name. Videos of the first
    release are the eight frames that the authors distribute (task10/ssv2_8_frame/<question>/1.png).
    Questions whose choices are pictures, about generation, are left out.

    Args:
      pictures: 'one' or 'several': which questions.
    """
    for path in files.need("SEED-Bench*.json"):
        content = read_json(path)
        asked = (
            (name, row)
            for name, row in rows_of(path, content, "questions")
            if not isinstance(row, dict) or row.get("data_type") in SEED_TYPES[pictures]
        )
        types = content.get("question_type")
        types = types if isinstance(types, dict) else {}
        names = {str(number): name for name, number in types.items()}
        yield from convert(asked, _seed_question, files, names)


def _seed_question(entry: Entry, files: Files, names: dict[str, str]) -> Iterator[Record]:
    question_id, kind = entry.text("question_id"), entry.text("question_type_id")
    sources = entry.texts("data_id")
    if entry.text("data_type") == "video":
        folder = f"task{kind}/{_SEED_VIDEOS.get(kind)}_8_frame/{question_id}"
        images = files.video(folder, f"v1_video/{folder}")
    else:
        roots = ("", "SEED-Bench-image/", "SEED-Bench-2-image/", "cc3m-image/")
        images = tuple(
            files.image(*(root + source for root in roots), anywhere=False) for source in sources
        )
    values = {
        "question": entry.text("question"),
        "category": names.get(kind, kind),
        "question_id": question_id,
        "image_id": sources[0],
    }
    options = [entry.text(f"choice_{letter}") for letter in "abcd"]
    answer = entry.text("answer")
    chosen = choose(options, _LETTERS.get(answer, answer))
    yield Record("test", question_id, {**values, **chosen}, images)


BENCHMARKS = {
    "pope": Kind(pope, "questions", "coco_pope_{random,popular,adversarial}.json"),
    "mme": Kind(mme, "questions", "MME_Benchmark_release_version: folders of the tasks"),
    "mmbench": Kind(mmbench, "questions", "MMBench_{DEV,TEST}_{EN,CN}.tsv, CCBench.tsv"),
    "seed": Kind(
        functools.partial(seed, pictures="one"),
        "questions",
        "SEED-Bench.json: questions about one picture",
    ),
    "seed_video": Kind(
        functools.partial(seed, pictures="several"),
        "video_questions",
        "SEED-Bench.json: questions about videos or several pictures",
    ),
}
