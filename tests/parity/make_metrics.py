# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records what the official scorer makes of answers that are made here.

python -m tests.parity.make_metrics VQA_EVAL    # writes tests/golden/metrics_vqa.json

VQA_EVAL is PythonEvaluationTools/vqaEvaluation/vqaEval.py of GT-Vision-Lab/VQA.
"""

import json
import pathlib
import random
import re
import sys

from jvlm.metrics.vqa import _WHOLE

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
ANSWERS = (
    "yes", "no", "Yes.", "No!", "a dog", "the dog", "dog", "Dogs", "two", "2", "two dogs", "none",
    "0", "zero", "ten", "1,000", "1,000 people", "1000", "1, 000", "2.5", "2.50", ".5", "5.", "5 .",
    "a.m.", "5:30", "5:30 p.m.", "t-shirt", "t shirt", "tshirt", "t - shirt", "red/white", "50/50",
    "red / white", "red, white", "red,white", "red and white", "black-and-white", "(left)", "[a]",
    "left (side)", "what?", "what ?", "$5", "5%", "#1", "a@b", "@ home", "a_b", "<unk>", "x > y",
    "man's", "mans", "don't know", "dont know", "it is a cat", "an orange", "orange", "the", "a",
    "", "an", "A The An", "rock & roll", "c'mon", "\tyes\n", " yes ", "new\nline", "U.S.A.",
    "St. Louis",
    "...", "e.g. this", "one two three", "One", "TEN", "`quoted`", '"quoted"', "a;b", "a; b", "a=b",
    "1+1", "1 + 1", "\\", "no, 5,000", "what?!", "20,000.50", "3.14.15", "." * 40, "a" + ".b" * 35,
    "Im here", "Ive", "Id've", "lets go", "let's go", "shes", "she's", "i'm", "café", "somebody'd",
)  # fmt: skip


def main(vqa_eval: str):
    golden = vqa_goldens(random.Random(0), load_vqa_eval(pathlib.Path(vqa_eval)))
    text = json.dumps(golden, ensure_ascii=False, separators=(",", ":"))
    (GOLDEN / "metrics_vqa.json").write_text(text + "\n", encoding="utf-8")


def load_vqa_eval(path: pathlib.Path) -> type:
    """The official class. Its file is Python 2, by two print statements."""
    source = re.sub(r'^(\s*)print (".*")$', r"\1print(\2)", path.read_text(), flags=re.MULTILINE)
    scope = {}
    exec(compile(source, path.name, "exec"), scope)
    return scope["VQAEval"]


class Answers:
    """What the official class asks of its data."""

    def __init__(self, qa):
        self.qa = qa

    def getQuesIds(self):
        return list(self.qa)


def vqa_goldens(rng, evaluator_class) -> dict:
    evaluator = evaluator_class(Answers({}), Answers({}), n=12)
    reachable = {key: word for key, word in evaluator.contractions.items() if key.islower()}
    assert {key: word for key, word in reachable.items() if key != word} == _WHOLE
    strings = sorted({*ANSWERS, *_WHOLE, *_WHOLE.values()})
    strings += [text.upper() for text in ANSWERS if text.upper() not in strings]
    strings += [
        rng.choice(strings) + rng.choice((" ", ", ", "-", "/", ". ")) + rng.choice(strings)
        for _ in range(200)
    ]
    questions = []
    for _ in range(1200):
        pool = [rng.randrange(len(strings)) for _ in range(rng.choice((1, 2, 2, 3, 5)))]
        given = [rng.choice(pool) for _ in range(10)]
        questions.append([rng.choice((*pool, rng.randrange(len(strings)))), *given])
    truths = {
        i: {
            "answers": [
                {"answer": strings[place], "answer_id": j} for j, place in enumerate(given)
            ],
            "question_type": "",
            "answer_type": "",
        }
        for i, (_, *given) in enumerate(questions)
    }
    guesses = {i: {"answer": strings[prediction]} for i, (prediction, *_) in enumerate(questions)}
    evaluator = evaluator_class(Answers(truths), Answers(guesses), n=12)
    evaluator.evaluate()
    normalized = [
        evaluator.processDigitArticle(evaluator.processPunctuation(text)) for text in strings
    ]
    return {
        "strings": strings,
        "normalized": normalized,
        "questions": questions,  # The place of the prediction among the strings, then ten answers'.
        "percent": [evaluator.evalQA[i] for i in range(len(questions))],
        "overall": evaluator.accuracy["overall"],
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
