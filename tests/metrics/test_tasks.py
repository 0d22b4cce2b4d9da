# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tasks against official scorers (tests/parity/make_task_metrics.py), or by hand."""

import json
import pathlib

import numpy as np
import pytest

from jvlm.errors import UserError
from jvlm.metrics.benchmarks import gqa_consistency
from jvlm.metrics.choice import science_qa_option
from jvlm.metrics.retrieval import reranked, top_ranked
from jvlm.metrics.tasks import TASKS, score
from jvlm.metrics.vqa import textvqa_answer
from jvlm.score import score_file

FILE = pathlib.Path(__file__).parent.parent / "golden" / "metrics_tasks.json"


@pytest.fixture(scope="module")
def golden():
    return json.loads(FILE.read_text(encoding="utf-8"))


def metrics(task, rows):
    found = score(task, rows)
    assert len(found.samples) == len(rows)
    return {name.removeprefix(f"{task}/"): value for name, value in found.metrics.items()}


def test_pope_as_llava(golden):
    got = metrics("pope", golden["pope"]["rows"])
    want = golden["pope"]["figures"]
    assert {name: got[name] for name in want} == pytest.approx(want, abs=1e-12)
    splits = [got[f"f1_{name}"] for name in ("random", "popular", "adversarial")]
    assert got["f1"] == pytest.approx(np.mean(splits)) and got["neither"] == 0
    assert got["neither_strict"] > 0 and got["accuracy_strict"] != got["accuracy"]


def test_science_qa_as_llava(golden):
    rows = golden["science_qa"]["rows"]
    parsed = [science_qa_option(row["prediction"], row["options"]) for row in rows]
    assert parsed == golden["science_qa"]["options"]
    got = metrics("science_qa", rows)
    assert got["accuracy"] == pytest.approx(golden["science_qa"]["figures"]["accuracy"])
    assert f"{100 * got['accuracy_image']:.2f}" == golden["science_qa"]["image_percent"]


def test_gqa_as_the_official_script(golden, tmp_path):
    """From GQA's own files: questions by id, and a list of answers."""
    said, questions = tmp_path / "said.json", tmp_path / "questions.json"
    said.write_text(json.dumps(golden["gqa"]["said"]))
    questions.write_text(json.dumps(golden["gqa"]["questions"]))
    got = score_file(said, "gqa", questions).metrics
    want = {f"gqa/{name}": value for name, value in golden["gqa"]["figures"].items()}
    assert got == pytest.approx(want, abs=1e-9)


def test_textvqa_as_llava(golden):
    golden = golden["textvqa"]
    assert [textvqa_answer(text) for text in golden["strings"]] == golden["normalized"]
    found = score("textvqa", golden["rows"])
    assert found.metrics["textvqa/accuracy"] == pytest.approx(golden["figures"]["accuracy"])
    assert [s["accuracy"] for s in found.samples] == pytest.approx(golden["each"])


def test_visdial_as_the_challenge(golden):
    got = metrics("visdial", golden["visdial"]["rows"])
    names = {"r@1": "r1", "r@5": "r5", "r@10": "r10", "mean": "mean_rank"}
    want = {names.get(name, name): value for name, value in golden["visdial"]["figures"].items()}
    assert got == pytest.approx(want, abs=1e-6)


def test_gqa_consistency():
    assert gqa_consistency({1: True, 2: True, 3: False}, {1: [1, 2, 3], 2: [2], 3: [1]}) == 0.5
    assert gqa_consistency({1: False}, {1: [2]}) == 0


@pytest.mark.parametrize("ids", [("1", "2"), (1, 2)])
def test_gqa_entails_what_was_not_asked(ids):
    """testdev_balanced_questions.json names unbalanced questions, which the file lacks."""
    rows = [dict(id=i, prediction="red", answer="red", entailed=["1", "2"]) for i in ids]
    assert metrics("gqa", rows) == {"accuracy": 1, "consistency": 1}
    assert metrics("gqa", rows[:1]) == {"accuracy": 1}


@pytest.mark.parametrize("task, prediction", [("nlvr2", "?"), ("pope", "no"), ("mme", "No")])
def test_no_label_is_no_answer(task, prediction):
    """An unknown label (-1 of a test set) must not count as a no, nor agree with 'cannot say'."""
    row = dict(prediction=prediction, image=1, category="count")
    with pytest.raises(UserError, match="prediction 1: the label -1 is neither"):
        score(task, [row | dict(label="no"), row | dict(label=-1)])


def test_auc_needs_both_labels():
    with pytest.raises(UserError, match="prediction 0: the label -1 is neither"):
        score(
            "auc", [dict(prediction=0.5, label=-1)] + [dict(prediction=1, label=i) for i in (0, 1)]
        )


def test_mme():
    row = lambda image, said, label, category="color": dict(
        prediction=said, label=label, image=image, category=category
    )
    rows = [
        *(row(1, "Yes.", "Yes"), row(1, "no way", "No")),
        *(row(2, "yes", "Yes"), row(2, "Yes", "No")),
        *(row(3, "It is so: yes", "Yes", "code_reasoning"), row(3, "No", "No", "code_reasoning")),
    ]
    got = metrics("mme", rows)
    assert got == {"color": 125, "code_reasoning": 50, "perception": 125, "cognition": 50}


def test_nlvr2():
    rows = [
        dict(prediction="True", label="True", sentence="a"),
        dict(prediction="no", label="False", sentence="a"),
        dict(prediction="yes, both", label="True", sentence="b"),
        dict(prediction="maybe", label="False", sentence="b"),
    ]
    assert metrics("nlvr2", rows) == {"accuracy": 0.75, "consistency": 0.5}


def test_boxes_and_points():
    rows = [
        dict(prediction="[[000,000,500,500]]", box=[0, 0, 10, 20], size=[20, 40]),
        dict(prediction=[0, 0, 10, 10], box=[0, 0, 10, 10]),
        dict(prediction="there", box=[0, 0, 1, 1], size=[2, 2]),
    ]
    got = metrics("grounding", rows)
    assert got["acc_iou50"] == got["parsed"] == pytest.approx(2 / 3)
    points = [dict(prediction=[1, 1], box=[0, 0, 2, 2]), dict(prediction=[3, 1], box=[0, 0, 2, 2])]
    assert score("pointing", points).metrics == {"grounding/pointing": 0.5}
    points = [{**point, "category": name} for point, name in zip(points, "ab")]
    want = {"pointing": 0.5, "pointing_a": 1.0, "pointing_b": 0.0}
    assert score("pointing", points, "g").metrics == {f"g/{key}": x for key, x in want.items()}


def test_answers():
    rows = [
        dict(prediction=" aB3", answers=["aB3"], category="captcha"),
        dict(prediction="AB3", answers=["aB3"], category="captcha"),
        dict(prediction="The aB3!", answers=["ab3"], category="sign"),
    ]
    got = metrics("exact", rows)
    assert got["accuracy"] == pytest.approx(1 / 3) and got["accuracy_any_case"] == pytest.approx(
        2 / 3
    )
    assert got["accuracy_normalized"] == 1 and got["accuracy_captcha"] == 0.5
    rows = [dict(prediction="Oven", answers=["oven"] + ["pan"] * 4)] * 2
    assert metrics("ivqa", rows) == {"accuracy": 0.5}
    # eval_predictions.py of A-OKVQA: no answer is left out, none normalised.
    rows = [dict(prediction="red", answers=["red"] * 3 + ["blue"] * 7)]
    rows += [dict(prediction="Red", answers=["red"] * 10, difficult=False)]
    rows += [dict(prediction="red", answers=["x"] * 10, difficult=True)]
    assert metrics("aokvqa", rows) == {"accuracy": 0.5}
    rows = [dict(prediction="B", options=["x", "y"], answer=1, category="a b", group=3)]
    rows += [dict(prediction="A", options=["y", "x"], answer="x", category="c", group=3)]
    got = metrics("multiple_choice", rows)
    assert got == {"accuracy": 0.5, "accuracy_a_b": 1, "accuracy_c": 0, "circular": 0}
    rows = [
        dict(prediction="Entailment.", label="entailment"),
        dict(prediction="x", label="neutral"),
    ]
    assert metrics("snli_ve", rows)["accuracy_entailment"] == 1
    assert metrics("anls", [dict(prediction="helo", answers=["hello"])]) == {"anls": 0.8}
    assert (
        metrics("auc", [dict(prediction=0.2, label=0), dict(prediction=0.3, label=1)])["auc"] == 1
    )
    rows = [dict(prediction="red", answers=["red"] * 3 + ["blue"] * 7, answer_type="other")]
    assert metrics("vqa", rows) == pytest.approx({"accuracy": 0.9, "accuracy_other": 0.9})


def test_captions_by_domain():
    """NoCaps: each domain's figures are those of its rows alone."""
    texts = {"in-domain": ["a red dog runs", "two cats"], "out-domain": ["a red dog", "a zebra"]}
    rows = [
        dict(prediction=text, references=["a red dog runs fast", "the cats"], category=domain)
        for domain, pair in texts.items()
        for text in pair
    ]
    found = metrics("caption", rows)
    for domain in texts:
        own = metrics("caption", [row for row in rows if row["category"] == domain])
        assert {f"{name}_{domain}": value for name, value in own.items()}.items() <= found.items()
        assert not any("domain" in name for name in own)
    assert len(found) == 3 * len(own)


def test_ranked_lists():
    rows = [
        dict(prediction=[5, 7, 7], answers=[7], direction="i2t"),
        dict(prediction=[], answers=[1], direction="i2t"),
        dict(prediction=[1], answers=[1, 2], direction="t2i"),
    ]
    found = score("retrieval", rows)
    assert found.metrics["retrieval/i2t_r1"] == 0 and found.metrics["retrieval/i2t_r5"] == 0.5
    assert found.metrics["retrieval/rsum"] == pytest.approx(100 * (0 + 0.5 + 0.5 + 3))
    assert found.samples == [{"rank": 2}, {}, {"rank": 1}]
    assert found.metrics["retrieval/t2i_median_rank"] == 1
    assert "retrieval/i2t_median_rank" not in found.metrics  # Half of them have none.
    rows[1]["rank"] = 31
    assert metrics("retrieval", rows)["i2t_median_rank"] == (2 + 31) / 2
    rows = [dict(prediction=["a", "b"], label="b"), dict(prediction=["a", "b"], label="a")]
    assert metrics("classification", rows) == {"top1": 0.5, "mean_per_class": 0.5, "top5": 1}


def test_top_ranked_and_reranked():
    scores = np.array([[0.1, 0.5, 0.5, 0.9], [0.3, 0.2, 0.1, 0.0]], np.float32)
    ranked = top_ranked(scores, 2)
    assert ranked.tolist() == [[3, 1], [0, 1]]  # Of equal scores the earlier one.
    matches = np.array([[1.0, 3.0], [-2.0, -1.0]])
    replaced = reranked(scores, ranked, matches)
    assert replaced.tolist() == [[-100, 3, -100, 1], [-2, -1, -100, -100]]
    added = reranked(scores, ranked, matches, "add")
    np.testing.assert_allclose(added[0], [-100, 3.5, -100, 1.9])
    with pytest.raises(UserError, match="Did you mean 'replace'"):
        reranked(scores, ranked, matches, "replaced")


@pytest.mark.parametrize(
    "task, row, message",
    [
        ("vqa", dict(answers=["a"]), "prediction 1: no 'prediction': the task vqa needs text"),
        ("vqa", dict(prediction="a", answers="a"), "'answers' should be a list of texts, not 'a'"),
        ("vqa", dict(prediction="a", answers=[]), "'answers' should be a list of texts"),
        ("pointing", dict(prediction=[1, float("nan")], box=[1] * 4), "should be two numbers"),
        ("grounding", dict(prediction="[[1,2,3,4]]", box=[1] * 4), "prediction 1: boxes in text"),
        (
            "multiple_choice",
            dict(prediction="a", options=["x"], answer=4),
            "prediction 1: the answer 4 is no option",
        ),
        ("visdial", dict(prediction=[1, 2], answer=2), "prediction 1: answer 2 of 2 options"),
        (
            "visdial",
            dict(prediction=[1, 2], answer=1.0, relevance=[1]),
            "prediction 1: relevance of 1 options",
        ),
        ("nlvr2", dict(prediction="True", label="True", sentence=["a"]), "'sentence' should be"),
    ],
)
def test_wrong_fields(task, row, message):
    good = {
        "vqa": dict(prediction="a", answers=["a"]),
        "pointing": dict(prediction=[1, 1], box=[0, 0, 1, 1]),
        "grounding": dict(prediction=[0, 0, 1, 1], box=[0, 0, 1, 1]),
        "multiple_choice": dict(prediction="a", options=["x"], answer=0),
        "visdial": dict(prediction=[1, 2], answer=1.0, relevance=[1, 0]),
        "nlvr2": dict(prediction="True", label="True", sentence="a"),
    }
    with pytest.raises(UserError) as error:
        score(task, [good[task], row])
    assert message in str(error.value)


def test_tasks():
    with pytest.raises(UserError, match="Did you mean 'vqa'"):
        score("vqav", [{}])
    with pytest.raises(UserError, match="no predictions"):
        score("vqa", [])
    assert all(task.help and task.needs for task in TASKS.values())
    assert score("unscored", [dict(prediction="a")] * 3).metrics == {"unscored/count": 3}
