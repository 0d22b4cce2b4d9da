# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0


def test_msrvtt_qa(read):
    row = {"id": 158, "question": "what is a man doing?", "answer": "sing", "video_id": 6513}
    lavis = {"question": "Who sings?", "answer": "man", "video": "video7.mp4", "question_id": 2}
    contents = {
        "train_qa.json": [row, {**row, "answer": None}, {**row, "question": " "}],
        "qa_test.json": [lavis],
        "TrainValVideo/video6513.mp4": b"",
        "video7/1.jpg": b"",
    }
    records, dropped = read("msrvtt_qa", contents)
    assert [(split, name, v["answers"], v["category"], i) for split, name, v, i in records] == [
        ("test", "2", ["man"], "who", ["video7"]),
        ("train", "158", ["sing"], "what", ["TrainValVideo/video6513.mp4"]),
    ]
    assert dropped == [("train_qa.json:1", "no answer"), ("train_qa.json:2", "no question")]


def test_msvd_qa(read):
    row = {"id": 1, "question": "who runs?", "answer": "cat", "video_id": 3}
    contents = {
        "val_qa.json": [row, {**row, "video_id": 4}],
        "vid3.avi": b"",
        "youtube/x_1_9.avi": b"",
    }
    contents["youtube_mapping.txt"] = b"x_1_9 vid4\nb\xff vid5\n"
    records, _ = read("msvd_qa", contents)
    assert [(split, images) for split, _, _, images in records] == [
        ("validation", ["vid3.avi"]),
        ("validation", ["youtube/x_1_9.avi"]),
    ]


def test_ivqa(read):
    table = "video_id,question,answer1,answer2,answer3,answer4,answer5,start,end\n"
    table += 'a1,"What, now?",pan,pan,lid,pan,pot,3,9\na2,Why?,pan,,,,,0,1\n'
    records, dropped = read("ivqa", {"test.csv": table, "clips/a1.webm": b""})
    [(split, name, values, images)] = records
    assert (split, name, images) == ("test", "test.csv:2", ["clips/a1.webm"])
    assert values["question"] == "What, now?"
    assert values["answers"] == ["pan", "pan", "lid", "pan", "pot"]
    assert dropped == [("test.csv:3", "no answer2")]


def test_captions_of_videos(read):
    """BLIP's list of MSR-VTT, and LAVIS's, of which a video has several rows."""
    lines = [
        '{"clip_name": "video7020", "caption": "a woman makes a purse"}',
        "{",
        '{"clip_name": "video7021"}',
    ]
    lavis = [
        {"video": "a.b.mp4", "caption": "a dog"},
        {"video": "c.mp4", "caption": "a cat"},
        {"video": "a.b.mp4", "caption": "a hound"},
    ]
    contents = {
        "msrvtt_test.jsonl": "\n".join(lines),
        "retrieval_train.json": lavis,
        "video7020/1.jpg": b"",
        "clips/a.b.mp4": b"",
        "c.mp4": b"",
    }
    records, dropped = read("video_captions", contents)
    assert [(split, name, v["captions"], images) for split, name, v, images in records] == [
        ("test", "video7020", ["a woman makes a purse"], ["video7020"]),
        ("train", "a.b", ["a dog", "a hound"], ["clips/a.b.mp4"]),
        ("train", "c", ["a cat"], ["c.mp4"]),
    ]
    assert dropped == [
        ("msrvtt_test.jsonl:2", "not JSON"),
        ("msrvtt_test.jsonl:3", "no caption"),
    ]
