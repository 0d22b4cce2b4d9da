# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0


def test_aokvqa(read):
    row = {
        "split": "val",
        "image_id": 299207,
        "question_id": "22Mw",
        "question": "What is he by?",
        "choices": ["mud", "dock"],
        "correct_choice_idx": 1,
        "direct_answers": ["dock", "pier", "dock"],
        "rationales": ["He stands on planks."],
        "difficult_direct_answer": True,
    }
    test = {key: row[key] for key in ("image_id", "question_id", "question", "choices")}
    contents = {
        "aokvqa_v1p0_val.json": [row, {**row, "correct_choice_idx": 2}, {**row, "choices": None}],
        "aokvqa_v1p0_test.json": [test],
        "val2017/000000299207.jpg": b"",
    }
    records, dropped = read("aokvqa", contents)
    (_, _, test, _), (split, name, values, images) = records
    assert (test["label"], test["answers"]) == (-1, [])
    assert (split, name, images) == ("validation", "22Mw", ["val2017/000000299207.jpg"])
    assert values["choices"][values["label"]] == "dock"
    assert values["answers"] == ["dock", "pier", "dock"]
    assert values["explanations"] == ["He stands on planks."]
    assert (values["category"], test["category"]) == ("difficult_direct_answer", "")
    assert dropped == [
        ("aokvqa_v1p0_val.json:1", "answer is not one of the choices"),
        ("aokvqa_v1p0_val.json:2", "no choices"),
    ]


def test_scienceqa(read):
    row = {
        "question": "Which is the coldest?",
        "choices": ["the ice", "the tea"],
        "answer": 0,
        "hint": "Look at the picture.",
        "image": "image.png",
        "subject": "natural science",
        "lecture": "Heat flows.",
        "solution": "",
        "split": "test",
    }
    contents = {
        "problems.json": {"4": row, "5": {**row, "image": None}, "6": {**row, "split": "minival"}},
        "images/test/4/image.png": b"",
        "images/test/9/image.png": b"",
    }
    records, dropped = read("scienceqa", contents)
    [(split, name, values, images)] = records  # 5 is text only.
    assert (split, name, images) == ("test", "4", ["images/test/4/image.png"])
    assert values["context"] == "Look at the picture." and values["explanations"] == ["Heat flows."]
    assert (values["label"], values["answers"]) == (0, ["the ice"])
    assert values["category"] == "natural science"
    assert dropped == [("6", "unknown split")]


def test_a_picture_of_another_problem_is_not_taken(read):
    row = {"question": "Q?", "choices": ["a"], "answer": 0, "image": "image.png", "split": "val"}
    contents = {"problems.json": {"7": row}, "images/val/8/image.png": b""}
    assert read("scienceqa", contents)[0][0][3] == ["val/7/image.png"]


def test_iconqa(read):
    row = {"question": "How many?", "ques_type": "choose_txt", "split": "val", "grade": "prek"}
    contents = {
        "iconqa_data/problems.json": {
            "1": {**row, "choices": ["7", "10"], "answer": 1},
            "2": {**row, "ques_type": "fill_in_blank", "answer": "3"},
            "3": {**row, "ques_type": "choose_img", "choices": ["choice_0.png"], "answer": 0},
            "4": {**row, "answer": 1},
        },
        "iconqa/val/choose_txt/1/image.png": b"",
    }
    records, dropped = read("iconqa", contents)
    assert [(v["category"], v["answers"], v.get("label")) for _, _, v, _ in records] == [
        ("choose_txt", ["10"], 1),
        ("fill_in_blank", ["3"], None),
    ]
    assert records[0][3] == ["iconqa/val/choose_txt/1/image.png"]
    assert dropped == [("4", "no choices")]
    [(_, _, values, images)] = read("iconqa_images", contents)[0]
    assert images == [f"val/choose_img/3/{name}" for name in ("image.png", "choice_0.png")]
    assert values["choices"] == ["choice_0.png"] and values["label"] == 0


def telling(**extra):
    asked = {
        "qa_id": 405,
        "question": "What is on the wall?",
        "answer": "A clock.",
        "multiple_choices": ["A hat.", "A map.", "A bell."],
        "type": "what",
        **extra,
    }
    image = {"split": "val", "filename": "v7w_9.jpg", "image_id": 9, "qa_pairs": [asked]}
    return {"images": [image]}


def test_visual7w(read):
    records, dropped = read("visual7w", {"dataset_v7w_telling.json": telling()})
    [(split, name, values, images)] = records
    assert (split, name, images) == ("validation", "405", ["images/v7w_9.jpg"])
    assert values["choices"] == ["A hat.", "A clock.", "A map.", "A bell."] and values["label"] == 1
    assert (values["answers"], values["category"]) == (["A clock."], "what")
    assert dropped == []
    dropped = read("visual7w", {"dataset_v7w_telling.json": telling(answer=None)})[1]
    assert dropped == [("dataset_v7w_telling.json:images:0:0", "choices is not text")]


def test_visual7w_pointing(read):
    box = {"name": "the cup", "x": 10, "y": 20, "width": 30, "height": 40}
    boxes = [{**box, "box_id": number} for number in (1, 2, 3)] + [
        {**box, "box_id": 4, "width": "1"}
    ]
    content = telling(answer=2, multiple_choices=[1, 3], type="which") | {"boxes": boxes}
    content["images"] += telling(answer=1, multiple_choices=[4])["images"]
    records, dropped = read("visual7w_pointing", {"dataset_v7w_pointing.json": content})
    [(_, _, values, _)] = records
    assert values["boxes"] == [{"box": [10, 20, 40, 60]}] * 3
    assert values["choices"] == ["the cup"] * 3 and values["label"] == 0
    assert dropped == [("dataset_v7w_pointing.json:images:1:0", "x, y, width, height: not numbers")]
