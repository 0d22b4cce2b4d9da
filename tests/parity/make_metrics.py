# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records what the official scorers make of captions and answers that are made here.

python -m tests.parity.make_metrics VQA_EVAL    # writes tests/golden/metrics_{caption,ptb,vqa}.json

Needs pycocoevalcap 1.2 and Java; VQA_EVAL is PythonEvaluationTools/vqaEvaluation/vqaEval.py of
GT-Vision-Lab/VQA.
"""

import json
import pathlib
import random
import re
import sys

from jvlm.metrics.vqa import _WHOLE

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
COLOURS = ["red", "green", "blue", "yellow", "grey", "white"]
NUMBERS = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "one", "two", "three"]
PLACES = ("left of", "right of", "above", "below", "next to", "in front of")
ODD = (
    "don't", "it's", "the dog's", "two dogs'", "they're", "cannot", "gonna", "o'clock", "ma'am",
    "rock'n'roll", "O'Brien", "d’Avignon", "it’s", "don’t", "'90s", "1990s", "5:30pm", "5:30 p.m.",
    "1/2", "1 1/2", "½", "1,000", "2.5", "-3", "10%", "$5", "£5", "€5", "#5", "6'2\"", "5\"", "1st",
    "black-and-white", "t-shirt", "x-ray", "5-year-old", "and/or", "w/", "w/o", "U.S.", "u.s.",
    "e.g.", "etc.", "Mr.", "St.", "vs.", "No. 5", "no.", "ft.", "a.m.", "B.", "AT&T", "R&B", "&",
    "&amp;", "www.foo.com", "a@b.com,", "@bob", "#tag", "...", "....", ". . .", "-", "--", "---",
    "?", "?!", "!!", ",", ";", ":", "(a)", "[b]", "{c}", "<unk>", "< 5", "“so”", "‘so’", '"so"',
    "'so'", "``so''", "–", "—", "…", "°", "©", "café", "naïve", "日本", "😀", "♥", ":)", ":-(", "*",
    "a_b", "__", "~", "^", "|", "\\", "/", "+", "=", "file.jpg", "1.jpg", "c++", "10/12/2010",
    "555-1234", "(555) 123-4567", "1-800-555-1234", "4x4", "5ft.", "co-op", "&quot;", "&lt;",
)  # fmt: skip
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
    save("caption", caption_goldens(random.Random(0)))
    save("ptb", ptb_goldens())
    save("vqa", vqa_goldens(random.Random(0), load_vqa_eval(pathlib.Path(vqa_eval))))


def save(name, value):
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    (GOLDEN / f"metrics_{name}.json").write_text(text + "\n", encoding="utf-8")


def make_caption(rng) -> str:
    words = ["A" if rng.random() < 0.7 else "The", rng.choice(COLOURS), rng.choice(NUMBERS)]
    words += ["is", rng.choice(PLACES), "a", rng.choice(COLOURS), rng.choice(NUMBERS)]
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        words.insert(rng.randrange(len(words) + 1), rng.choice(ODD))
    if rng.random() < 0.1:
        words = words[: rng.randrange(4)]
    text = "".join(word + rng.choice((" ",) * 15 + (", ", "", "-", "'s ", "; ")) for word in words)
    return text.strip() + rng.choice((".", "", " .", "!", "..."))


def coco_tokens(captions) -> dict:
    """pycocoevalcap's tokens of lists of captions: their number -> list."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    as_coco = {i: [{"caption": text} for text in texts] for i, texts in enumerate(captions)}
    return PTBTokenizer().tokenize(as_coco)


def ptb_goldens() -> dict:
    """The tokens of the hard captions that the file holds, each before the line 'The x'."""
    captions = json.loads((GOLDEN / "metrics_ptb.json").read_text(encoding="utf-8"))["captions"]
    tokens = coco_tokens([[caption, "The x"] for caption in captions])
    return {"captions": captions, "tokens": [tokens[i][0] for i in range(len(captions))]}


def caption_goldens(rng) -> dict:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    predictions = [make_caption(rng) for _ in range(520)]
    references = []
    for prediction in predictions:  # Some alike, some of the same words, some of others.
        words = prediction.split()
        alike = " ".join(word for word in words if rng.random() < 0.8)
        shuffled = " ".join(rng.sample(words, len(words)))
        options = (prediction, alike, shuffled, make_caption(rng), make_caption(rng))
        references.append([rng.choice(options) for _ in range(rng.randint(1, 3))])

    guesses, truths = coco_tokens([[text] for text in predictions]), coco_tokens(references)
    rouge, each_rouge = Rouge().compute_score(truths, guesses)
    cider, each_cider = Cider().compute_score(truths, guesses)
    return {
        "predictions": predictions,
        "references": references,
        "prediction_tokens": [guesses[i][0] for i in range(len(predictions))],
        "reference_tokens": [truths[i] for i in range(len(predictions))],
        "bleu": Bleu(4).compute_score(truths, guesses, verbose=0)[0],
        "rouge_l": float(rouge),
        "cider": float(cider),
        "each_rouge_l": [round(float(score), 8) for score in each_rouge],
        "each_cider": [round(float(score), 8) for score in each_cider],
    }


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
