# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records what official scorers make of predictions that are made here.

python -m tests.parity.make_task_metrics FOLDER    # writes tests/golden/metrics_tasks.json

FOLDER has GQA's eval.py as gqa_eval.py, LLaVA's eval_pope.py, eval_science_qa.py and
m4c_evaluator.py, and visdialch/metrics.py of the VisDial challenge starter as visdial_metrics.py
(it needs torch).
"""

import importlib.util
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile

from tests.parity.make_metrics import ANSWERS

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
SAID = (
    *("Yes", "No", "yes", "no", "Yes, there is.", "No, there is not.", "There is not a dog."),
    *("I see a cat. No dog.", "NO", "Maybe", "", "The answer is no", "Yes. No.", "not sure, yes"),
)
LETTERS = (
    *(
        "A",
        "B",
        "C",
        "D",
        "E",
        "F",
        "b",
        "A. a dog",
        "B. a cat",
        "C.",
        "D) one",
        "The answer is B.",
    ),
    *("The answer is A. The answer is B.", "So The answer is C.\n", "The answer is D", "", "AB"),
)


def main(folder: str):
    rng, folder = random.Random(0), pathlib.Path(folder).absolute()
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        golden = {
            "pope": pope(rng, folder, place),
            "science_qa": science_qa(rng, folder, place),
            "gqa": gqa(rng, folder, place),
            "visdial": visdial(rng, folder),
            "textvqa": textvqa(rng, folder),
        }
    text = json.dumps(golden, ensure_ascii=False, separators=(",", ":"))
    (GOLDEN / "metrics_tasks.json").write_text(text + "\n", encoding="utf-8")


def run(script: pathlib.Path, *args) -> str:
    command = [sys.executable, str(script), *map(str, args)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def write_lines(path: pathlib.Path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def pope(rng, folder, place) -> dict:
    rows = [
        dict(
            id=i,
            category=category,
            label=rng.choice(("yes", "no")),
            prediction=rng.choice(SAID[: 4 if rng.random() < 0.6 else None]),
        )
        for i, category in enumerate(("random", "popular", "adversarial") * 60)
    ]
    write_lines(place / "q.jsonl", [{"question_id": r["id"], **r} for r in rows])
    write_lines(
        place / "a.jsonl", [{"question_id": r["id"], "text": r["prediction"]} for r in rows]
    )
    (place / "labels").mkdir()
    for name in ("random", "popular", "adversarial"):
        of_split = [r for r in rows if r["category"] == name]
        write_lines(place / "labels" / f"coco_pope_{name}.json", of_split)
    files = ("--annotation-dir", place / "labels", "--question-file", place / "q.jsonl")
    out = run(folder / "eval_pope.py", *files, "--result-file", place / "a.jsonl")
    figures = {}
    for block in out.split("Category: ")[1:]:
        for key in ("Accuracy", "Precision", "Recall", "F1 score", "Yes ratio"):
            value = re.search(rf"{key}: (\S+)", block)[1]
            name = {"F1 score": "f1", "Yes ratio": "yes_ratio"}.get(key, key.lower())
            figures[f"{name}_{block.split(',')[0]}"] = float(value)
    return {"rows": rows, "figures": figures}


def science_qa(rng, folder, place) -> dict:
    rows = []
    for i in range(150):
        count = rng.randint(2, 5)
        rows.append(
            dict(
                id=str(i),
                prediction=rng.choice(LETTERS[:5] if rng.random() < 0.5 else LETTERS),
                options=["a dog", "a cat", "one", "two", "three"][:count],
                answer=rng.randrange(count),
                has_image=rng.random() < 0.5,
            )
        )
    problems = {r["id"]: {"choices": r["options"], "answer": r["answer"]} for r in rows}
    (place / "problems.json").write_text(json.dumps(problems))
    (place / "pid_splits.json").write_text(json.dumps({"test": list(problems)}))
    answers = [
        {
            "question_id": r["id"],
            "text": r["prediction"],
            "prompt": "<image>\n?" if r["has_image"] else "?",
        }
        for r in rows
    ]
    write_lines(place / "s.jsonl", answers)
    files = ("--base-dir", place, "--result-file", place / "s.jsonl", "--split", "test")
    outs = ("--output-file", place / "o.json", "--output-result", place / "r.json")
    out = run(folder / "eval_science_qa.py", *files, *outs)
    result = json.loads((place / "r.json").read_text())
    return {
        "rows": rows,
        "options": [result["results"][row["id"]] for row in rows],
        "figures": {"accuracy": result["acc"] / 100},
        "image_percent": re.search(r"IMG-Accuracy: (\S+)%", out)[1],
    }


def gqa(rng, folder, place) -> dict:
    words = ("yes", "no", "left", "right", "red", "dog")
    rows = [
        dict(
            id=str(i),
            prediction=rng.choice(words),
            answer=rng.choice(words[: rng.randint(1, 6)]),
            structural=rng.choice(("query", "verify", "logical", "choose", "compare")),
            semantic=rng.choice(("attr", "cat", "global", "obj", "rel")),
            entailed=[str(rng.randrange(200)) for _ in range(rng.randint(0, 3))],
            balanced=rng.random() < 0.8,
        )
        for i in range(200)
    ]
    questions = {
        r["id"]: {
            "answer": r["answer"],
            "question": "is it so",
            "semantic": [],
            "entailed": r["entailed"],
            "isBalanced": r["balanced"],
            "types": {
                "structural": r["structural"],
                "semantic": r["semantic"],
                "detailed": "x",
            },
            "groups": {"global": "g"},
        }
        for r in rows
    }
    said = [{"questionId": r["id"], "prediction": r["prediction"]} for r in rows]
    for name, value in (("questions", questions), ("predictions", said)):
        (place / f"{name}.json").write_text(json.dumps(value))
    # The script prints two digits only.
    script = (folder / "gqa_eval.py").read_text().replace(":.2f}", ":.9f}")
    (place / "gqa_eval.py").write_text(script)
    files = ("--questions", place / "questions.json", "--predictions", place / "predictions.json")
    out = run(place / "gqa_eval.py", *files, "--consistency")
    figures = {
        name.lower(): float(value) / 100
        for name, value in re.findall(r"^(Binary|Open|Accuracy|Consistency): (\S+)%", out, re.M)
    }
    for name, value in re.findall(r"^  (\w+): (\S+)% \(", out, re.M):
        if not name.isdigit():
            figures[f"accuracy_{name}"] = float(value) / 100
    return {"questions": questions, "said": said, "figures": figures}


def load(path: pathlib.Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def textvqa(rng, folder) -> dict:
    module = load(folder / "m4c_evaluator.py")
    evaluator, process = module.TextVQAAccuracyEvaluator(), module.EvalAIAnswerProcessor()
    strings = [*ANSWERS, *(text.upper() for text in ANSWERS), "Levi's, 5?", "it's a dog's"]
    one = lambda: rng.choice(ANSWERS)
    strings += [one() + rng.choice(", /-") + one() for _ in range(90)]
    rows = []
    for _ in range(150):
        pool = rng.sample(strings, rng.choice((1, 2, 3)))
        rows.append(
            dict(
                prediction=rng.choice((*pool, rng.choice(strings))),
                answers=[rng.choice(pool) for _ in range(10)],
            )
        )
    each = [
        evaluator.eval_pred_list([{"pred_answer": r["prediction"], "gt_answers": r["answers"]}])
        for r in rows
    ]
    figures = {"accuracy": sum(each) / len(each)}
    normalized = [process(text) for text in strings]
    return dict(rows=rows, each=each, figures=figures, strings=strings, normalized=normalized)


def visdial(rng, folder) -> dict:
    import torch

    metrics = load(folder / "visdial_metrics.py")
    rows = [
        dict(
            prediction=[round(rng.gauss(0, 1), 6) for _ in range(20)],
            answer=rng.randrange(20),
            relevance=[rng.choice((0, 0, 0, 0.2, 0.5, 1.0)) for _ in range(19)] + [0.4],
        )
        for _ in range(30)
    ]
    scores = torch.tensor([row["prediction"] for row in rows])
    sparse, dense = metrics.SparseGTMetrics(), metrics.NDCG()
    sparse.observe(scores[:, None], torch.tensor([[row["answer"]] for row in rows]))
    dense.observe(scores, torch.tensor([row["relevance"] for row in rows]))
    return {"rows": rows, "figures": sparse.retrieve() | dense.retrieve()}


if __name__ == "__main__":
    main(*sys.argv[1:])
