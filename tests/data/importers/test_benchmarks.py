# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
import base64

import pytest

from jvlm.data.importers import KINDS
from jvlm.data.importers.files import Files
from jvlm.data.importers.records import Dropped
from jvlm.errors import UserError


def test_pope(read, lines):
    row = {"question_id": 1, "image": "COCO_val2014_000000000001.jpg", "text": "Is there a car?"}
    contents = {
        "coco_pope_random.json": lines({**row, "label": "yes"}, {**row, "label": "maybe"}),
        "coco_pope_adversarial.json": lines({**row, "label": "No"}) + "{broken\n",
    }
    records, dropped = read("pope", contents)
    image = "val2014/COCO_val2014_000000000001.jpg"
    assert [(split, name, v["answers"], v["category"], i) for split, name, v, i in records] == [
        ("test", "adversarial-1", ["no"], "adversarial", [image]),
        ("test", "random-1", ["yes"], "random", [image]),
    ]
    assert dropped == [
        ("coco_pope_adversarial.json:2", "not JSON"),
        ("coco_pope_random.json:2", "label is not yes or no"),
    ]
    with pytest.raises(UserError, match="both of the sampling random"):
        read("pope", {"gqa/gqa_pope_seem_random.json": ""})


def test_mme(read):
    asked = "Is it {}? Please answer yes or no.\t{}\n".format
    contents = {
        "MME/artwork/questions_answers_YN/07.txt": asked("oil", "Yes") + asked("ink", "No") + "\n",
        "MME/artwork/images/07.jpg": b"",
        "MME/OCR/07.txt": asked("tea", "Yes") + "Is it coffee?\n",
        "MME/OCR/07.png": b"",
    }
    records, dropped = read("mme", contents)
    assert [(v["category"], v["image_id"], v["answers"], i) for _, _, v, i in records] == [
        ("OCR", "OCR/07", ["yes"], ["MME/OCR/07.png"]),
        ("artwork", "artwork/07", ["yes"], ["MME/artwork/images/07.jpg"]),
        ("artwork", "artwork/07", ["no"], ["MME/artwork/images/07.jpg"]),
    ]
    assert records[2][2]["question"] == "Is it ink? Please answer yes or no."
    assert dropped == [("OCR/07:2", "answer is not yes or no")]


COLUMNS = ["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image", "source"]


def tsv(*rows):
    return "\n".join("\t".join(row) for row in (COLUMNS, *rows)) + "\n"


def test_mmbench(write):
    pictures = [bytes(range(60 + number)) for number in range(2)]
    texts = [base64.b64encode(picture).decode() for picture in pictures]
    hint = '"A ""quoted"" hint\nof two lines"'
    dev = tsv(
        ["241", "Which?", hint, "one", "two", "", "", "B", "ocr", texts[0], "web"],
        ["1000241", "Which?", hint, "two", "one", "", "", "A", "ocr", "241", "web"],
        ["242", "Where?", "nan", "here", "there", "nan", "nan", "E", "scene", texts[1], "web"],
        ["243", "Where?"],
        ["244", "Who?", "", "he", "she", "", "", "A", "scene", "999", "web"],
    )
    test = tsv(["9", "为什么?", "", "甲", "乙", "", "", "", "scene", texts[1], "web"])
    folder = write({"MMBench_DEV_EN.tsv": dev, "mmbench_test_cn_20231003.tsv": test})
    found = list(KINDS["mmbench"].read(Files(folder, folder)))
    records = [item for item in found if not isinstance(item, Dropped)]
    assert [(r.split, r.id, r.values["image_id"], r.values["label"]) for r in records] == [
        ("validation", "241", "241", 1),
        ("validation", "1000241", "241", 0),
        ("test_cn", "9", "9", -1),
    ]
    assert records[0].values["context"] == 'A "quoted" hint\nof two lines'
    assert records[0].values["choices"] == ["one", "two"]
    assert records[2].values["question"] == "为什么?"
    for record, want in zip(records, (pictures[0], pictures[0], pictures[1])):
        [blob] = record.images
        with open(blob.path, "rb") as file:
            file.seek(blob.offset)
            assert blob.base64 and base64.b64decode(file.read(blob.size)) == want
    assert [(item.id, item.reason) for item in found if isinstance(item, Dropped)] == [
        ("MMBench_DEV_EN.tsv:3", "answer is not one of the choices"),
        ("MMBench_DEV_EN.tsv:4", "another number of columns"),
        ("MMBench_DEV_EN.tsv:5", "no picture"),
    ]


def test_seed(read):
    row = {
        **{f"choice_{letter}": letter * 2 for letter in "abcd"},
        "answer": "C",
        "data_id": "145_25",
        "data_type": "image",
        "question": "How many?",
        "question_id": "101",
        "question_type_id": 5,
    }
    video = {**row, "data_type": "video", "question_type_id": 10, "question_id": "v1"}
    pair = {**row, "data_type": "Multiple Images", "data_id": ["task17/1.png", "task17/2.png"]}
    frames = [f"v1_video/task10/ssv2_8_frame/v1/{number}.png" for number in (1, 2, 10)]
    contents = {
        "SEED-Bench.json": {
            "questions": [row, {**row, "choice_d": None}, video, pair],
            "question_type": {"Instance Counting": 5},
        },
        "SEED-Bench-image/145_25": b"",
        **dict.fromkeys(frames, b""),
    }
    records, dropped = read("seed", contents)
    [(split, name, values, images)] = records
    assert (split, name, images) == ("test", "101", ["SEED-Bench-image/145_25"])
    assert (values["label"], values["answers"]) == (2, ["cc"])
    assert values["category"] == "Instance Counting"
    assert dropped == [("SEED-Bench.json:questions:1", "no choice_d")]
    assert [images for _, _, _, images in read("seed_video", contents)[0]] == [
        ["v1_video/task10/ssv2_8_frame/v1"],
        ["task17/1.png", "task17/2.png"],
    ]
