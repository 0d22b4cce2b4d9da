# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm score`: our files and the official ones."""

import json

import pytest

from jvlm.cli.score import TASK_NAMES
from jvlm.errors import UserError
from jvlm.metrics.tasks import TASKS
from jvlm.score import score_file


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_help_names_every_task():
    assert list(TASK_NAMES) == sorted(TASKS)


def test_our_file(tmp_path, call):
    rows = [
        dict(id="a", prediction="red", answers=["red"] * 10),
        dict(id="b", prediction="blue", answers=["red"] * 10),
    ]
    path, out = lines(tmp_path / "p.jsonl", rows), tmp_path / "each.jsonl"
    status, got, _ = call("score", path, "--task", "vqa", "--json", "--per-sample", str(out))
    assert status == 0 and json.loads(got) == {"vqa/accuracy": 0.5}
    each = [json.loads(line) for line in out.read_text().splitlines()]
    assert each == [{"id": "a", "accuracy": 1.0}, {"id": "b", "accuracy": 0.0}]


def test_coco_files(tmp_path, capsys):
    said = tmp_path / "captions.json"
    captions = ["a red dog runs", "two cats sleep here"]
    said.write_text(json.dumps([dict(image_id=i, caption=c) for i, c in enumerate(captions)]))
    truth = tmp_path / "captions_val.json"
    annotations = [dict(image_id=i, id=9 - i, caption=c) for i, c in enumerate(captions)]
    annotations += [dict(image_id=1, id=3, caption="cats"), dict(image_id=7, id=4, caption="x")]
    truth.write_text(json.dumps(dict(images=[], annotations=annotations)))
    got = score_file(said, "caption", truth).metrics
    assert got["caption/bleu4"] == pytest.approx(1) and got["caption/exact"] == 1
    assert "1 of 3 references lack a prediction" in capsys.readouterr().err


def test_vqa_files(tmp_path):
    said, truth = tmp_path / "r.json", tmp_path / "a.json"
    said.write_text(json.dumps([dict(question_id=5, answer="yes")]))
    answers = [dict(answer="yes", answer_id=i) for i in range(10)]
    one = dict(question_id=5, answers=answers, answer_type="yes/no", question_type="is it")
    truth.write_text(json.dumps(dict(annotations=[one])))
    assert score_file(said, "vqa", truth).metrics == {
        "vqa/accuracy": 1,
        "vqa/accuracy_yes_no": 1,
        "vqa/accuracy_is_it": 1,
    }


def test_questions_are_no_annotations(tmp_path):
    said, truth = tmp_path / "r.json", tmp_path / "v2_questions.json"
    said.write_text(json.dumps([dict(question_id=5, answer="yes")]))
    truth.write_text(json.dumps(dict(info={}, questions=[dict(question_id=5)])))
    with pytest.raises(UserError, match="neither JSON lines nor an official annotation file"):
        score_file(said, "vqa", truth)


def test_llava_files(tmp_path):
    said = lines(tmp_path / "a.jsonl", [dict(question_id=1, prompt="?", text="No, it is not.")])
    truth = lines(tmp_path / "q.jsonl", [dict(question_id=1, text="Is it?", label="no")])
    assert score_file(said, "pope", truth).metrics["pope/accuracy"] == 1


@pytest.mark.parametrize(
    "content, references, message",
    [
        ('{"prediction": "a"', None, "p.jsonl:1: not JSON"),
        ('{"prediction": "a", "answers": ["a"]}\n{"x": 1}', None, "p.jsonl:2: no 'prediction'"),
        ('{"prediction": "a", "answers": ["a"]}\n[1]', None, "p.jsonl:2: not an object"),
        ('{"prediction": "a"}', '{"id": 1, "answers": ["a"]}', "p.jsonl:1: no id"),
        ('{"id": 2, "prediction": "a"}', '{"id": 1, "answers": ["a"]}', "id 2 is not among"),
        ('{"id": 2, "prediction": "a"}', '{"answers": ["a"]}', "reference 1 has no id"),
        ('{"id": 2, "prediction": "a"}', '{"id": 2}\n{"id": 2}', "the id 2 a second time"),
        ('{"id": [2], "prediction": "a"}\n' * 2, '{"id": [2]}', "p.jsonl:2: a second prediction"),
        ("", None, "no predictions to score"),
        ('{"prediction": "a", "answers": ["a"]}', None, "p.jsonl:1: 'answers' has 1 of the four"),
        (
            '{"id": 1, "prediction": "a"}\n' * 2,
            '{"id": 1, "answers": ["a"]}',
            "p.jsonl:2: a second",
        ),
    ],
)
def test_wrong_files(tmp_path, content, references, message):
    path, known = tmp_path / "p.jsonl", tmp_path / "r.jsonl"
    path.write_text(content)
    known.write_text(references or "")
    with pytest.raises(UserError) as error:
        score_file(path, "vqa", references and known)
    assert message in str(error.value)


def test_task_is_checked_first(tmp_path, call):
    path = lines(tmp_path / "p.jsonl", [dict(image_id=1, caption="a")])
    status, _, error = call("score", path, "--task", "capton")
    assert status == 2 and "Did you mean 'caption'" in error


def test_strange_lines(tmp_path):
    """A byte order mark, line ends of Windows, empty lines."""
    row = b'{"prediction": "a", "answers": ["a"]}\r\n'
    path = tmp_path / "p.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + row + b"\r\n" + row + b" \r\n[1]\r\n")
    with pytest.raises(UserError, match="p.jsonl:5: not an object"):
        score_file(path, "exact")
    path.write_bytes(b"\xef\xbb\xbf" + row + b"\r\n" + row + b" \r\n")
    assert score_file(path, "exact").metrics["exact/accuracy"] == 1


def test_samples_do_not_replace_predictions(tmp_path):
    path = lines(tmp_path / "p.jsonl", [dict(prediction="a", answers=["a"])])
    with pytest.raises(UserError, match="would be written over what is scored"):
        score_file(path, "exact", per_sample=path)


def test_aokvqa_file(tmp_path):
    said = lines(tmp_path / "p.jsonl", [dict(question_id="x", answer="red")])
    truth = tmp_path / "aokvqa_v1p0_val.json"
    one = dict(question_id="x", choices=["blue", "red"], correct_choice_idx=1)
    one |= dict(direct_answers=["red"] * 2 + ["x"] * 8, difficult_direct_answer=False)
    truth.write_text(json.dumps([one]))
    assert score_file(said, "aokvqa", truth).metrics["aokvqa/accuracy"] == pytest.approx(2 / 3)
    assert score_file(said, "multiple_choice", truth).metrics["multiple_choice/accuracy"] == 1


def test_missing_file_and_java(tmp_path):
    with pytest.raises(UserError, match="nothing.jsonl: No such file"):
        score_file(tmp_path / "nothing.jsonl", "vqa")
    path = lines(tmp_path / "p.jsonl", [dict(prediction="a", references=["a"], answers=["a"])])
    with pytest.raises(UserError, match="of captions only"):
        score_file(path, "exact", java=["meteor"])
    with pytest.raises(UserError, match=r"pip install 'jvlm\[coco\]'"):
        score_file(path, "caption", java=["meteor"])
