# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Questions about videos, and captions: a video file, or a folder of its frames, by its name."""

import functools
from collections.abc import Iterator

from jvlm.data.importers.annotations import BadEntry, Entry, beside, by_split, convert, rows
from jvlm.data.importers.files import Files, read_lines
from jvlm.data.importers.records import Dropped, Kind, Record
from jvlm.data.importers.tables import read_csv


def video_qa(files: Files, prefix: str) -> Iterator[Record | Dropped]:
    """MSVD-QA and MSRVTT-QA: {train,val,test}_qa.json (xudejing/video-question-answering).

    [{id, question, answer, video_id}]: the videos are called by a prefix and the number, or, where
    MSVD's youtube_mapping.txt is there ('name vid1' lines), by that name. Or LAVIS's
    qa_{train,val,test}.json: [{question_id, question, answer, video}]. The category is the
    question's first word, by which the paper breaks accuracy down (what, who, how, when, where).

    Args:
      files: to read.
      prefix: 'video' (MSR-VTT) or 'vid' (MSVD).
    """
    lists = beside(files, files.folder, "youtube_mapping.txt")
    texts = [path.read_text("utf-8", "replace") for path in lists]
    pairs = [line.split() for text in texts for line in text.splitlines()]
    clips = {pair[1]: pair[0] for pair in pairs if len(pair) == 2}
    names = [name for split in ("train", "val", "test") for name in (f"{split}_qa", f"qa_{split}")]
    for split, path in by_split(files.need(*(f"{name}.json" for name in names))).items():
        yield from convert(rows(path), _video_question, files, split, prefix, clips)


def _video_question(
    entry: Entry, files: Files, split: str, prefix: str, clips: dict[str, str]
) -> Iterator[Record]:
    video = entry.text("video", "").rsplit(".", 1)[0] or prefix + entry.text("video_id")
    asked = entry.text("question")
    values = {
        "question": asked,
        "answers": entry.texts("answer"),
        "category": asked.split()[0].lower(),
        "question_id": entry.text("id", "") or entry.text("question_id"),
        "image_id": video,
    }
    yield Record(split, values["question_id"], values, files.video(clips.get(video, video), video))


def ivqa(files: Files) -> Iterator[Record | Dropped]:
    """iVQA's train.csv, val.csv, test.csv (antoyang/just-ask).

    Columns video_id, question, answer1 .. answer5. The videos are the clips from start to end,
    called by video_id. Accuracy is min(1, n / 2) for an answer that n of the five gave, so all
    five are kept.
    """
    for split, path in by_split(files.need("train.csv", "val.csv", "test.csv")).items():
        yield from convert(read_csv(path), _ivqa_question, files, split)


def _ivqa_question(entry: Entry, files: Files, split: str) -> Iterator[Record]:
    video = entry.text("video_id")
    values = {
        "question": entry.text("question"),
        "answers": [entry.text(f"answer{number}") for number in range(1, 6)],
        "question_id": entry.name,
        "image_id": video,
    }
    yield Record(split, entry.name, values, files.video(video))


def video_captions(files: Files) -> Iterator[Record | Dropped]:
    """BLIP's msrvtt_test.jsonl: {clip_name, caption} a line (data/video_dataset.py).

    Or LAVIS's retrieval_{train,val,test}.json and cap_{train,val,test}.json of MSR-VTT, DiDeMo,
    MSVD: [{video, caption}]. The captions of a video are one record, where its first one stands.
    """
    for path in files.need("*_test.jsonl", "retrieval_*.json", "cap_*.json"):
        captions: dict[str, list[str]] = {}
        for row in read_lines(path) if path.suffix == ".jsonl" else rows(path):
            if isinstance(row, Dropped):
                yield row
                continue
            try:
                entry = Entry(*row)
                name = entry.text("clip_name", "") or entry.text("video").rsplit(".", 1)[0]
                texts = entry.texts("caption")
            except BadEntry as error:
                yield Dropped(row[0], str(error))
                continue
            captions.setdefault(name, []).extend(texts)
        for name, texts in captions.items():
            values = {"captions": texts, "image_id": name}
            yield Record(files.split(path), name, values, files.video(name))


VIDEO = {
    "video_captions": Kind(
        video_captions,
        "video_captions",
        "BLIP's msrvtt_test.jsonl; LAVIS's retrieval_*.json, cap_*.json of videos",
    ),
    "msrvtt_qa": Kind(
        functools.partial(video_qa, prefix="video"),
        "video_questions",
        "MSRVTT-QA's {train,val,test}_qa.json, videos video0.mp4 ...",
    ),
    "msvd_qa": Kind(
        functools.partial(video_qa, prefix="vid"),
        "video_questions",
        "MSVD-QA's {train,val,test}_qa.json, videos vid1.avi ...",
    ),
    "ivqa": Kind(ivqa, "video_questions", "iVQA's train.csv, val.csv, test.csv"),
}
