# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from jvlm.errors import UserError


def test_visdial(read, tmp_path):
    turns = [
        {"question": 1, "answer": 2, "answer_options": [0, 2], "gt_index": 1},
        {"question": 0, "answer": 1, "answer_options": [1, 0], "gt_index": 0},
    ]
    dialogue = {"image_id": 378466, "caption": "a man by a van", "dialog": turns}
    data = {
        "questions": ["is it sunny", "is he old"],
        "answers": ["no", "yes it is", "not really"],
        "dialogs": [dialogue, {**dialogue, "dialog": [{"question": 2, "answer": 0}]}],
    }
    last = [turns[0] | {"answer_options": []}, {"question": 0, "answer_options": [0, 1]}]
    test = {**data, "dialogs": [{**dialogue, "dialog": last}]}
    contents = {"visdial_1.0_val.json": {"data": data}, "visdial_1.0_test.json": {"data": test}}
    contents["visdial_1.0_val_dense_annotations.json"] = []  # Distributed beside them.
    contents["VisualDialog_val2018/VisualDialog_val2018_000000378466.jpg"] = b""
    records, dropped = read("visdial", contents)
    assert [split for split, *_ in records] == ["test", "validation", "validation"]
    split, name, values, images = records[2]
    assert (name, images) == (
        "378466:2",
        ["VisualDialog_val2018/VisualDialog_val2018_000000378466.jpg"],
    )
    assert values == {
        "question": "is it sunny",
        "context": "a man by a van q: is he old a: not really",
        "choices": ["yes it is", "no"],
        "label": 0,
        "answers": ["yes it is"],
        "question_id": "378466:2",
        "image_id": "378466",
    }
    test = records[0][2]
    assert (test["label"], test["answers"], test["question_id"]) == (-1, [], "378466:2")
    assert test["context"] == values["context"]
    assert dropped == [("visdial_1.0_val.json:data:dialogs:1", "question is not one of the list")]
    # Pictures of val2018 are not COCO's: one of the same number is another.
    (tmp_path / "VisualDialog_val2018/VisualDialog_val2018_000000378466.jpg").unlink()
    contents = {"visdial_1.0_train.json": {"data": data}}
    contents["train2014/COCO_train2014_000000378466.jpg"] = b""
    records, _ = read("visdial", contents)
    assert [images[0].split("/")[0] for *_, images in records[1:]] == ["train2014"] * 2 + [
        "VisualDialog_val2018"
    ] * 2


def test_visdial_without_its_lists(read):
    with pytest.raises(UserError, match=r"val\.json: no list under 'data:questions'"):
        read("visdial", {"visdial_1.0_val.json": {"data": {"dialogs": []}}})


def turn(who, text):
    return {"from": who, "value": text}


def test_llava(read):
    asked, said = turn("human", "<image>\nWhat is it?"), turn("gpt", "A van.")
    rows = [
        {"id": "a", "image": "coco/1.jpg", "conversations": [asked, said]},
        {"id": "b", "conversations": [turn("gpt", "?"), turn("human", "Hi."), said]},
        {"id": "c", "image": ["1.jpg", "2.jpg"], "conversations": [asked, said, asked, said]},
        {"id": "d", "image": "coco/1.jpg", "conversations": [turn("human", "What?"), said]},
        {"id": "e", "conversations": [asked]},
        {"id": "f", "conversations": [turn("bot", "Hi.")]},
        {"id": "g", "conversations": [turn("human", "Hi."), said, said]},
    ]
    records, dropped = read("llava", {"llava_v1_5_mix665k.json": rows})
    user = {"role": "user", "text": "<image>\nWhat is it?"}
    assistant = {"role": "assistant", "text": "A van."}
    assert records == [
        ("train", "a", {"turns": [user, assistant]}, ["coco/1.jpg"]),
        ("train", "b", {"turns": [{"role": "user", "text": "Hi."}, assistant]}, []),
        ("train", "c", {"turns": [user, assistant] * 2}, ["1.jpg", "2.jpg"]),
    ]
    assert [reason for _, reason in dropped] == [
        "not one '<image>' per picture",
        "no turn from gpt",
        "turn from an unknown role",
        "turns that do not alternate",
    ]


def test_instructions(read, lines):
    row = {"image": "a/1.jpg", "text_input": "Describe it.", "text_output": "A van."}
    contents = {"train.json": [row, {**row, "text_output": ""}], "val.jsonl": lines(row)}
    records, dropped = read("instructions", contents)
    values = {"prompt": "Describe it.", "answer": "A van."}
    assert records == [
        ("train", "train.json:0", values, ["a/1.jpg"]),
        ("validation", "val.jsonl:1", values, ["a/1.jpg"]),
    ]
    assert dropped == [("train.json:1", "no text_output")]


def test_captcha(read):
    contents = {
        "archive_split/train/x7Fq.jpg": b"",
        "archive_split/valid/9ab2.png": b"",
        "a.txt": "",
    }
    records, dropped = read("captcha", contents)
    assert [(split, v["answer"], v["prompt"], images) for split, _, v, images in records] == [
        ("train", "x7Fq", "CAPTCHA:", ["archive_split/train/x7Fq.jpg"]),
        ("validation", "9ab2", "CAPTCHA:", ["archive_split/valid/9ab2.png"]),
    ]
