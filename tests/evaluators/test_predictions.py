# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Predictions sample by sample: what is written scores as the evaluation did."""

import json
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm import sharding
from jvlm.errors import UserError
from jvlm.evaluators import Generate, Rank, Retrieval, build_evaluators, evaluate
from jvlm.evaluators.predictions import plain, write
from jvlm.generation.tasks import Speaker
from jvlm.models import build_model
from jvlm.score import score_file
from jvlm.tokenizers.sentencepiece import SentencePiece

TEXTS = [f"is it {colour} ? {answer}" for colour in ("red", "blue") for answer in ("yes", "no")]


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh(8, 1, 1)


@pytest.fixture(scope="module")
def speaker(mesh):
    """A random model whose answers differ, its weights stacked."""
    tokenizer = SentencePiece.make(
        TEXTS * 5, 32, vocab_size=40, model_type="bpe", start=True, end=False
    )
    section = dict(name="gpt2", max_len=48, width=16, depth=1, num_heads=2, mlp_dim=24)
    ids = dict(pad_id=0, eos_id=1, bos_id=3)
    model = build_model({**section, **ids, "vocab_size": tokenizer.vocab_size})
    params = jax.jit(model.init)(jax.random.key(0), model.dummy_batch(1))["params"]
    return model, tokenizer, jax.tree.map(lambda x: x * 8 if x.ndim > 1 else x, params)


class Examples:
    """Eleven questions, as `evaluators.Batches` gives them."""

    batch_size, fingerprint = 4, {"name": "questions"}
    rows = [
        {
            "qa": {"question": f"is it {('red', 'blue')[i % 2]} ?", "answer": ("yes", "no")[i % 2]},
            "options": ["yes", "no", "red"][: 2 + i % 2],
            "number": np.int32(i),
            "right": i % 2,
            "truth": [("yes", "no")[i % 2]],
            "pixels": np.full((2, 2), i, np.float32),
        }
        for i in range(11)
    ]

    def __len__(self):
        return len(self.rows)

    def examples(self, places):
        return [self.rows[place] for place in places]


def section(kind, **more):
    fields = dict(answers="qa/answer", number="number")
    return {"kind": kind, "task": "exact", "prompt": "{qa[question]}", "fields": fields, **more}


@pytest.fixture
def build(monkeypatch, mesh, speaker):
    """Evaluators of sections without `data`, and the weights."""
    monkeypatch.setattr("jvlm.evaluators.Batches", Examples)
    monkeypatch.setattr("jvlm.evaluators.construct", construct)
    model, tokenizer, params = speaker
    given = dict(model=model, tokenizer=tokenizer, mesh=mesh)
    return lambda **sections: build_evaluators(sections, **given), params


def construct(cls, options, *, where, **given):
    from jvlm.config import construct as real

    return Examples() if cls is Examples else real(cls, options, where=where, **given)


def test_written_answers_score_alike(build, mesh, speaker, tmp_path):
    make, params = build
    sections = {
        "free": section("generate", name="free", options=dict(max_new_tokens=6)),
        "best": section("rank", name="best", candidates="options", before=" ", count=7),
    }
    with jax.set_mesh(mesh):
        metrics = evaluate(make(**sections), params, tmp_path, {"model": "m", "config": sections})
    for name, count in (("free", 11), ("best", 7)):
        path = tmp_path / f"{name}.jsonl"
        again = score_file(path, "exact").metrics
        assert {k.replace("exact", name): v for k, v in again.items()}.items() <= metrics.items()
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert [row["id"] for row in rows] == [row["number"] for row in rows] == list(range(count))
        assert rows[1]["prompt"] == "is it blue ?" and rows[1]["answers"] == ["no"]
        settings = json.loads((tmp_path / f"{name}.settings.json").read_text())
        assert settings["config"] == sections[name] and settings["prompt"] == "{qa[question]}"
        assert settings["data"] == {"name": "questions"} and settings["model"] == "m"
        assert settings["metrics"] == {k: v for k, v in metrics.items() if k.startswith(name)}
    assert settings["ranking"]["before"] == " " and len(rows[1]["scores"]) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        f"{name}{end}" for name in sections for end in (".jsonl", ".settings.json")
    )
    # As the same model answers one by one.
    model, tokenizer, _ = speaker
    alone = Speaker(model, tokenizer, mesh)
    alone.params = params
    free = [json.loads(line) for line in (tmp_path / "free.jsonl").read_text().splitlines()]
    want = alone.generate(prompts=[row["prompt"] for row in free], max_new_tokens=6)
    assert [row["prediction"] for row in free] == [text.strip() for text in want]
    scores = alone.rank(prompts=["is it blue ?"], candidates=[" yes", " no", " red"])
    np.testing.assert_allclose(rows[1]["scores"], scores[0], rtol=1e-4)
    assert rows[1]["prediction"] == ["yes", "no", "red"][scores[0].argmax()]


@pytest.mark.parametrize("ending", ["json", "txt"])
def test_a_file_of_candidates(build, mesh, tmp_path, ending):
    """Read once; a row keeps the best, as scoring them one by one finds them."""
    make, params = build
    answers, path = ["red", "yes", "no", "blue"], tmp_path / f"answers.{ending}"
    path.write_text(json.dumps(answers) if ending == "json" else "\n".join(answers))
    given = dict(before=" ", count=4)
    full = make(a=section("rank", candidates=answers, **given))["a"]
    short = section("rank", candidates=str(path), kept=2, preselect=3, first_weight=2.0, **given)
    short = make(b=short)["b"]
    with jax.set_mesh(mesh):
        full, rows = full.predict(params).rows, short.predict(params).rows
        twice = make(c=section("rank", candidates=answers, first_weight=2.0, **given))["c"]
        twice = twice.predict(params).rows
    for row, all_of_them, once in zip(rows, twice, full):
        assert all_of_them["candidates"] == once["candidates"] == answers
        assert all(a < b for a, b in zip(all_of_them["scores"], once["scores"]))
        scores = dict(zip(answers, all_of_them["scores"]))
        assert row["prediction"] == row["candidates"][0] and len(row["candidates"]) == 2
        got = [scores[text] for text in row["candidates"]]
        np.testing.assert_allclose(row["scores"], got, rtol=1e-5)
        assert row["scores"][0] >= row["scores"][1]
    with pytest.raises(UserError, match="exact: kept: 0 candidates"):
        make(b=section("rank", candidates=answers, kept=0))


@pytest.mark.parametrize("task", ["auc", "visdial"])
def test_tasks_of_scores(build, mesh, task):
    """They get the candidates' scores, not the best one's text."""
    make, params = build
    fields = dict(label="right", answer="right")
    options = section("rank", candidates=("yes", "no"), before=" ", count=4)
    evaluator = make(a={**options, "task": task, "fields": fields})["a"]
    with jax.set_mesh(mesh):
        found = evaluator.predict(params)
    scores = np.array([row["scores"] for row in found.rows])
    want = {"auc": np.exp(scores[:, 0]) / np.exp(scores).sum(1), "visdial": scores}[task]
    np.testing.assert_allclose([row["prediction"] for row in found.rows], want, rtol=1e-6)
    assert f"{task}/{'auc' if task == 'auc' else 'mrr'}" in evaluator.score(found)


def test_the_first_of_a_list(build, mesh):
    """POPE's label is one text; imported questions list their answers."""
    make, params = build
    options = section("rank", candidates=("yes", "no"), before=" ", count=4)
    evaluator = make(a={**options, "task": "pope", "fields": dict(label="truth")})["a"]
    with jax.set_mesh(mesh):
        rows = evaluator.predict(params).rows
    assert [row["label"] for row in rows] == ["yes", "no", "yes", "no"]


def test_the_decoding_is_told(build):
    make, _ = build
    options = dict(max_new_tokens=6, allowed_texts=("yes", "no"))
    settings = make(a=section("generate", options=options))["a"].settings()
    assert settings["decoding"]["max_new_tokens"] == 6 and settings["decoding"]["num_beams"] == 1
    assert settings["decoding"]["allowed_texts"] == ("yes", "no") and settings["count"] == 11


def test_a_server_s_file(build, mesh, tmp_path):
    """Ids that are numbers are such, whatever the data set stores; a prediction stays a text."""
    make, params = build
    fields = dict(answers="qa/answer", image_id="number")
    results = dict(image_id="image_id", caption="prediction")
    how = dict(results=results, count=3, options=dict(max_new_tokens=4))
    sections = {"a": section("generate", fields=fields, **how)}
    with jax.set_mesh(mesh):
        evaluate(make(**sections), params, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    want = [dict(image_id=i, caption=row["prediction"]) for i, row in enumerate(rows)]
    assert json.loads((tmp_path / "a.results.json").read_text()) == want
    evaluator = make(**sections)["a"]
    assert evaluator.results([dict(image_id="012", prediction="7")]) == [
        dict(image_id=12, caption="7")
    ]
    with pytest.raises(UserError, match="results: rows have no field 'image'. Did you mean"):
        make(a=section("generate", fields=fields, results=dict(image_id="image")))


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(task="exakt"), "Did you mean 'exact'"),
        (dict(prompt="{query}"), "prompt: no 'query' in"),
        (dict(fields={"answers": "qa/reply"}), "no entry 'qa/reply'"),
        (dict(fields={}), "a: fields: the task exact needs answers too"),
        (dict(fields={"answers": "right"}), "first example's: 'answers' should be a list of texts"),
        (dict(fields={"answers": "truth", "prediction": "truth"}), "prediction: what the model"),
        (dict(prompt="{qa[question]"), "prompt '.*': expected '}'"),
        (dict(prompt="{}"), "prompt '{}': "),
        (dict(count=0), "count: 0 examples"),
        (dict(options=dict(beams=2)), "Did you mean 'num_beams'"),
        (dict(options=dict(num_beams=2, num_return_sequences=2)), "one answer is scored"),
    ],
)
def test_wrong_sections(build, changes, message):
    make, _ = build
    with pytest.raises(UserError, match=message):
        make(a=section("generate", name="a") | changes)


def test_metrics_of_one_name(build):
    """Found before the training, not when the second one has been evaluated."""
    make, _ = build
    with pytest.raises(UserError, match="eval.evaluators.b: a gives exact/... too"):
        make(a=section("generate"), b=section("rank", candidates="options"))
    make(a=section("generate"), b=section("rank", candidates="options", name="ranked"))


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(candidates="option"), "no entry 'option'"),
        (dict(candidates="number"), "candidates: 'number' of the first example is no list"),
        (dict(candidates="qa/answer"), "candidates: 'qa/answer' of the first example is no list"),
        (dict(candidates="options", inputs=("pixel",)), "no entry 'pixel'"),
        (dict(candidates="options", length="men"), "rank: length 'men' is unknown. Did you mean"),
        (dict(candidates="options", preselect=-1), "rank: preselect -1"),
    ],
)
def test_mistakes_of_ranking_are_found_before_the_training(build, changes, message):
    make, _ = build
    with pytest.raises(UserError, match=message):
        make(a=section("rank", **changes))


def test_candidates_may_be_numbers(build, mesh):
    make, params = build
    with jax.set_mesh(mesh):
        rows = make(a=section("rank", candidates=(1, 2), count=2))["a"].predict(params).rows
    assert rows[0]["candidates"] == ["1", "2"] and rows[0]["prediction"] in ("1", "2")


def test_labels_are_named(build, mesh, monkeypatch):
    """An imported label is a number; what is ranked are the names."""
    names = ["contradiction", "neutral", "entailment"]
    monkeypatch.setattr(Examples, "class_names", names, raising=False)
    rows = [{"question": "is it red ?", "label": np.int64(i - 1)} for i in range(4)]
    monkeypatch.setattr(Examples, "rows", rows)
    make, params = build
    options = section("rank", candidates=names, before=" ")
    options |= dict(task="snli_ve", prompt="{question}", fields=dict(label="label"))
    with jax.set_mesh(mesh):
        found = make(a=options)["a"].predict(params)
    assert [row["label"] for row in found.rows] == [-1, *names]


def test_any_text_is_written(tmp_path):
    """Half a surrogate pair, as JSON may have one, is no UTF-8."""
    texts = ["\ud83d", "\u2028 \x85", 'a "b"\n', "\U0001f600"]
    evaluator = types.SimpleNamespace(task="exact", settings=dict, results=lambda rows: None)
    write(tmp_path, "a", evaluator, [dict(id=t, prediction=t, answers=[t]) for t in texts], {})
    each = tmp_path / "each.jsonl"
    scores = score_file(tmp_path / "a.jsonl", "exact", per_sample=each)
    assert scores.metrics["exact/accuracy"] == 1 and len(scores.samples) == 4
    ids = [json.loads(line)["id"] for line in each.read_text("utf-8").split("\n")[:4]]
    assert ids == texts


def test_values_as_json_has_them():
    value = {"a": np.array([b"x", b"y"], object), "b": [np.float32(0.5), {"c": np.int64(3)}]}
    assert json.dumps(plain(value)) == '{"a": ["x", "y"], "b": [0.5, {"c": 3}]}'


@pytest.mark.parametrize("kind", ["rank", "retrieval"])
def test_weights_that_are_not_finite(build, mesh, kind):
    make, params = build
    if kind == "rank":
        evaluator = make(a=section("rank", candidates="options"))["a"]
        params = jax.tree.map(lambda x: x * np.nan, params)
    else:
        image, text = np.full((8, 2, 2, 3), np.nan, np.float32), np.ones((8, 2), np.int32)
        batch = dict(image=image, text=text, text_mask=text > 0, _mask=np.ones(8, bool))
        evaluator, params = Retrieval(Diverged(), Pairs([batch]), mesh), {}
    with jax.set_mesh(mesh), pytest.raises(UserError, match="not finite"):
        evaluator.run(params)


def test_no_tokenizer(mesh, speaker):
    with pytest.raises(UserError, match="no tokenizer"):
        Generate(speaker[0], None, Examples(), mesh, "exact", "x", {})
    with pytest.raises(UserError, match="no candidates"):
        fields = dict(answers="qa/answer")
        Rank(*speaker[:2], Examples(), mesh, "exact", "x", fields, candidates=())


class Matcher(nn.Module):
    """Two towers that see nothing; a pair matches by how near the text's number is."""

    def encode_image(self, image):
        return jax.nn.one_hot(jnp.zeros(len(image), int), 8)

    def encode_text(self, text, text_mask):
        return jax.nn.one_hot(jnp.zeros(len(text), int), 8) * (1 + 1e-3 * text[:, :1])

    def image_states(self, image):
        return image[:, 0, 0, :1, None].astype(jnp.float32)

    def match(self, states, text, text_mask):
        return -jnp.abs(states[:, 0, 0] - text[:, 0])


class Diverged(Matcher):
    def encode_image(self, image):
        return jnp.full((len(image), 8), jnp.nan)


class Pairs(list):
    batch_size, fingerprint = 8, {"name": "pairs"}


@pytest.mark.parametrize("rule", ["replace", "add"])
def test_second_look(mesh, tmp_path, rule):
    """11 images with two captions; the first look prefers the last texts, whatever the image."""
    numbers = np.minimum(np.arange(16), 10)
    image = np.zeros((16, 2, 2, 3), np.uint8)
    image[:, 0, 0, 0] = numbers
    text = np.stack([numbers, numbers], 1)[..., None].repeat(2, -1).astype(np.int32)
    batch = {"image": image, "text": text, "text_mask": np.ones_like(text, bool)}
    batch["_mask"] = np.arange(16) < 11
    batches = Pairs([{k: v[i : i + 8] for k, v in batch.items()} for i in (0, 8)])
    with jax.set_mesh(mesh):
        evaluator = Retrieval(Matcher(), batches, mesh, rerank=6, rule=rule)
        metrics = evaluate({"pairs": evaluator}, {}, tmp_path)
    assert metrics["retrieval/i2t_r1"] == 1 / 11  # Texts of image 10 are always first.
    # Among the six best texts are those of images 8, 9 and 10 only; those images find their own.
    assert metrics["retrieval/i2t_r1_rerank"] == 3 / 11
    # Every image ties for a text, so the first six are looked at.
    assert metrics["retrieval/t2i_r1_rerank"] == 6 / 11
    assert score_file(tmp_path / "pairs.jsonl", "retrieval").metrics == metrics
    settings = json.loads((tmp_path / "pairs.settings.json").read_text())
    assert settings["rerank"] == 6 and settings["rule"] == rule


def test_what_cannot_match(mesh):
    class Towers(nn.Module):
        pass

    with pytest.raises(UserError, match="a model that matches"):
        Retrieval(Towers(), Pairs(), mesh, rerank=2)
    with pytest.raises(UserError, match="Did you mean 'add'"):
        Retrieval(Matcher(), Pairs(), mesh, rerank=2, rule="addd")
