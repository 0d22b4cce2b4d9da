# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from jvlm.errors import UserError


def vqa_files(prefix, subset, questions, notes=None):
    files = {f"q/{prefix}OpenEnded_mscoco_{subset}_questions.json": {"questions": questions}}
    if notes is not None:
        files[f"a/{prefix}mscoco_{subset}_annotations.json"] = {"annotations": notes}
    return files


def test_vqav2(read):
    ask = lambda number: {"question_id": number, "image_id": 42, "question": "What is it?"}
    note = {
        "question_id": 420,
        "image_id": 42,
        "answers": [{"answer": "kite", "answer_id": 1}] * 2 + [{"answer": "2"}, {"answer": ""}],
        "answer_type": "other",
    }
    contents = vqa_files("v2_", "train2014", [ask(420), ask(421)], [note, {**note, "answers": 3}])
    contents |= vqa_files("v2_", "test2015", [ask(7)])
    contents |= vqa_files("v2_", "test-dev2015", [ask(8)])
    contents["coco/train2017/000000000042.jpg"] = b""  # Only the later release is there.
    records, dropped = read("vqav2", contents)
    asked = {"question": "What is it?", "image_id": "42"}
    later = "coco/train2017/000000000042.jpg"
    assert records == [
        ("testdev", "8", {**asked, "question_id": "8"}, [later]),
        ("test", "7", {**asked, "question_id": "7"}, [later]),
    ]
    assert dropped == [
        ("v2_OpenEnded_mscoco_train2014_questions.json:questions:0", "answers is not a list"),
        ("v2_OpenEnded_mscoco_train2014_questions.json:questions:1", "no annotation"),
    ]
    contents |= vqa_files("v2_", "train2014", [ask(420)], [note])
    split, name, values, _ = read("vqav2", contents)[0][-1]
    assert (split, name, values["category"]) == ("train", "420", "other")
    assert values["answers"] == ["kite", "kite", "2", ""]  # As many as annotators.


def test_vqav2_needs_its_annotations(read):
    with pytest.raises(UserError, match=r"no file v2_mscoco_val2014_annotations\.json"):
        read("vqav2", vqa_files("v2_", "val2014", []))


def test_okvqa_is_not_vqav2(read):
    questions = [{"question_id": 1, "image_id": 9, "question": "Which sport?"}]
    notes = [{"question_id": 1, "answers": [{"answer": "polo"}], "question_type": "five"}]
    contents = vqa_files("", "val2014", questions, notes) | vqa_files("v2_", "val2014", [], [])
    records, dropped = read("okvqa", contents)
    values = {"question": "Which sport?", "question_id": "1", "image_id": "9"}
    values |= {"answers": ["polo"], "category": "five"}
    image = "val2014/COCO_val2014_000000000009.jpg"
    assert (records, dropped) == ([("validation", "1", values, [image])], [])


def test_gqa(read):
    types = {"structural": "query", "semantic": "attr", "detailed": "color"}
    row = {"question": "Which color?", "imageId": "2370", "answer": "red", "types": types}
    contents = {
        "train_balanced_questions.json": {"02": row, "03": {**row, "answer": None}},
        "testdev_balanced_questions.json": {"04": row},
        "challenge_balanced_questions.json": {"05": {"question": "Who?", "imageId": "n1"}},
        "val_all_questions.json": {"06": row},
        "train_all_questions/train_all_questions_0.json": {"07": row},
        "train_all_questions/train_all_questions_1.json": {"08": row},
        "submission_all_questions.json": {"09": row},
    }
    records, dropped = read("gqa", contents)
    assert [(split, name, values.get("category")) for split, name, values, _ in records] == [
        ("challenge", "05", ""),
        ("testdev", "04", "query/attr"),
        ("train", "02", "query/attr"),
    ]
    assert records[2][2]["answers"] == ["red"] and records[2][3] == ["images/2370.jpg"]
    assert records[0][2]["answers"] == []
    assert dropped == [("03", "no answer")]
    splits = [(split, name) for split, name, _, _ in read("gqa_all", contents)[0]]
    assert splits == [("train", "07"), ("train", "08"), ("validation", "06")]


def test_vizwiz(read):
    answers = [{"answer": "soup", "answer_confidence": "yes"}, {"answer": "unanswerable"}]
    row = {"image": "VizWiz_val_00000000.jpg", "question": "What can?", "answers": answers}
    contents = {
        "val.json": [{**row, "answer_type": "other"}, {"image": "x.jpg", "question": "No?"}],
        "test.json": [{"image": "VizWiz_test_00000000.jpg", "question": "Which?"}],
        "val/VizWiz_val_00000000.jpg": b"",
    }
    records, dropped = read("vizwiz", contents)
    (test, _, asked, _), (split, name, values, images) = records
    assert (test, asked["answers"]) == ("test", [])
    assert (split, name, images) == ("validation", row["image"], [f"val/{row['image']}"])
    assert values["answers"] == ["soup", "unanswerable"] and values["category"] == "other"
    assert dropped == [("val.json:1", "no answers")]


def test_textvqa(read):
    row = {"question_id": 3, "question": "Brand?", "image_id": "0a", "answers": ["nokia"] * 10}
    contents = {
        "TextVQA_0.5.1_val.json": {"data": [row, {**row, "question": None}]},
        "TextVQA_Rosetta_OCR_v0.2_val.json": {
            "data": [{"image_id": "0a", "ocr_tokens": ["NOKIA"]}]
        },
        "TextVQA_0.5.1_test.json": {
            "data": [{"question_id": 4, "question": "Q?", "image_id": "b"}]
        },
    }
    records, dropped = read("textvqa", contents)
    assert [(split, values["answers"], values["ocr"]) for split, _, values, _ in records] == [
        ("test", [], []),
        ("validation", ["nokia"] * 10, ["NOKIA"]),
    ]
    assert records[1][3] == ["train_images/0a.jpg"]
    [(_, _, values, _)] = read("textvqa", {}, root="TextVQA_0.5.1_val.json")[0]
    assert values["ocr"] == ["NOKIA"]
    assert dropped == [("TextVQA_0.5.1_val.json:data:1", "no question")]


def test_ocrvqa(read):
    book = {
        "imageURL": "http://a/b/51x.gif",
        "title": "Tides",
        "genre": "Science",
        "questions": ["Who wrote it?", "What title?"],
        "answers": ["A. Poe", "Tides"],
        "split": 2,
    }
    contents = {
        "dataset.json": {"17": book, "18": {**book, "split": 4}, "19": {**book, "answers": []}}
    }
    records, dropped = read("ocrvqa", contents)
    assert [(split, name, v["question"], v["answers"]) for split, name, v, _ in records] == [
        ("validation", "17:0", "Who wrote it?", ["A. Poe"]),
        ("validation", "17:1", "What title?", ["Tides"]),
    ]
    assert records[0][3] == ["images/17.gif"] and records[0][2]["category"] == "Science"
    assert dropped == [("18", "unknown split"), ("19", "no answers")]


def test_vg_questions(read):
    asked = {"qa_id": 98, "image_id": 1, "question": "What color?", "answer": "Green."}
    contents = {
        "question_answers.json": [{"id": 1, "qas": [asked, {"qa_id": 99, "answer": "No."}]}],
        "VG_100K_2/1.jpg": b"",
    }
    records, dropped = read("vg_questions", contents)
    values = {
        "question": "What color?",
        "question_id": "98",
        "answers": ["Green."],
        "image_id": "1",
    }
    assert records == [("train", "98", values, ["VG_100K_2/1.jpg"])]
    assert dropped == [("question_answers.json:0:1", "no question")]
    later = {"question_answers.json": [{"image_id": 1, "qas": [asked]}]}
    assert read("vg_questions", later) == (records, [])


def test_albef_vqa(read):
    row = {"image": "train2014/a.jpg", "question": "Cat?", "question_id": 5, "dataset": "vqa"}
    vg = {"image": "VG_100K/2.jpg", "question": "Hue?", "question_id": 6, "answer": "blue"}
    contents = {
        "vqa_train.json": [{**row, "answer": ["yes", "yes", "no"]}, row],
        "vg_qa.json": [{**vg, "dataset": "vg"}],
        "vqa_test.json": [row],
        "answer_list.json": ["yes", "no"],
    }
    records, dropped = read("albef_vqa", contents)
    assert [(split, v["category"], v["answers"]) for split, _, v, _ in records] == [
        ("vg", "vg", ["blue"]),
        ("test", "vqa", []),
        ("train", "vqa", ["yes", "yes", "no"]),
    ]
    assert records[0][3] == ["VG_100K/2.jpg"]
    assert dropped == [("vqa_train.json:1", "no answer")]
    lavis = {"okvqa_train.json": [{**row, "answer": ["polo"]}]}
    [(split, _, values, _)] = read("albef_vqa", lavis, root="okvqa_train.json")[0]
    assert (split, values["answers"]) == ("train", ["polo"])
