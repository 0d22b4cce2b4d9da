# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The features of imported examples: a few schemas, so that one transform serves many data sets.

A feature's kind is 'image', 'images' (any number), 'text', 'texts', 'int', 'label' (an int with
the kind's names; -1 is unknown), 'box' (float32[4]: x0, y0, x1, y1 in pixels, x1 and y1 exclusive),
or a mapping: a list of such entries. Every example has `id` too, the text that names it in reports.
"""

from collections.abc import Mapping

Feature = str | Mapping[str, str]

_QUESTION: dict[str, Feature] = {
    "question": "text",
    "answers": "texts",  # Of every annotator: equal ones are there several times.
    "choices": "texts",  # Of a multiple-choice question,
    "label": "int",  # whose right one is this; else -1.
    "context": "text",  # What is to be read beside the question: a hint, a lecture, a dialogue.
    "ocr": "texts",  # Words that were read in the image.
    "explanations": "texts",
    "category": "text",  # The data set's own: question type, split of POPE, skill of MMBench.
    "question_id": "text",
    "image_id": "text",
}

SCHEMAS: dict[str, dict[str, Feature]] = {
    "captions": {
        "image": "image",
        "captions": "texts",
        "image_id": "text",
        "url": "text",
        "category": "text",  # The domain of NoCaps.
    },
    "video_captions": {"images": "images", "captions": "texts", "image_id": "text"},
    "questions": {"image": "image", **_QUESTION},
    "video_questions": {"images": "images", **_QUESTION},  # Frames, or several pictures.
    "pointing": {"image": "image", **_QUESTION, "boxes": {"box": "box"}},  # The choices are boxes.
    "statements": {"image": "image", "text": "text", "label": "label", "image_id": "text"},
    "image_pairs": {"images": "images", "text": "text", "label": "label"},
    "expressions": {  # One object, and all that was said to single it out.
        "image": "image",
        "expressions": "texts",
        "box": "box",
        "proposals": {"box": "box"},  # What a detector found in the image; may be empty.
        "image_id": "text",
    },
    "regions": {  # A phrase with n boxes is n entries; its place in the caption, or 0, 0.
        "image": "image",
        "caption": "text",
        "regions": {"phrase": "text", "start": "int", "end": "int", "box": "box"},
        "image_id": "text",
    },
    "conversations": {  # Images: none, one or several; '<image>' in a turn is the next of them.
        "images": "images",
        "turns": {"role": "text", "text": "text"},  # 'user', 'assistant' or 'system'.
    },
    "instructions": {"image": "image", "prompt": "text", "answer": "text"},
    "labelled": {"image": "image", "label": "label"},
    "poems": {
        "lines": "texts",
        "title": "text",
        "author": "text",
        "dynasty": "text",
        "keywords": "texts",
    },
}
