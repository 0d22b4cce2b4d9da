# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Mixtures: exact shares, exact epochs, and the same samples from any host, worker or restart."""

import json
import pickle
import sys

import numpy as np
import pytest

import jvlm
from jvlm import config as config_lib
from jvlm import paths, pretrained
from jvlm.data import mixture as mixture_lib
from jvlm.data.images import BadRecord
from jvlm.data.mixture import PERIOD, MemberOrder, Mixture
from jvlm.data.pipeline import TrainBatches
from jvlm.errors import UserError
from jvlm.train import check_fingerprint, make_tokenizer


def sequence(order, start, stop):
    return [order[unit] for unit in range(start, stop)]


@pytest.mark.parametrize("weights", [(1, 1), (5, 3, 2), (1, 1e-9, 7), range(1, 27), (1,)])
def test_shares_are_exact(weights):
    """In every period, to a unit; and a window of any length has its share, but for chance."""
    order = MemberOrder(weights, [None] * len(weights), seed=0, renew=True)
    shares = np.array(weights) / sum(weights)
    counts = order.phases[0].counts
    assert counts.sum() == PERIOD and (np.abs(counts - np.maximum(shares * PERIOD, 1)) <= 1).all()
    for start in (0, 3 * PERIOD):
        served = np.bincount([m for m, _ in sequence(order, start, start + PERIOD)])
        np.testing.assert_array_equal(served, counts)
    window = 1000
    members = order.phases[0].members[: PERIOD // window * window].reshape(-1, window)
    expected = window * counts / PERIOD
    for member, want in enumerate(expected):
        got = (members == member).sum(1)
        # Spread evenly, so that it varies less than a draw at random would.
        assert ((got - want) ** 2).mean() <= max(want, 1)
        assert np.abs(got - want).max() <= 2 + 1.5 * np.sqrt(len(weights))


def test_the_order_within_batches_is_not_a_pattern():
    order = MemberOrder((1, 1), (None, None), seed=0, renew=True)
    members = order.phases[0].members
    assert (members[::2] + members[1::2] == 1).all()  # Spread evenly: each pair has both.
    assert 0.4 < members[::2].mean() < 0.6
    other = MemberOrder((1, 1), (None, None), seed=1, renew=True).phases[0].members
    assert 0.4 < (members != other).mean() < 0.6


def test_occurrences_count_up():
    order = MemberOrder((5, 3, 2), (None, 40_000, 70_000), seed=3, renew=True)
    served = [0, 0, 0]
    for member, occurrence in sequence(order, 0, 5 * PERIOD):
        assert occurrence == served[member]
        served[member] += 1
    assert served[1:] == [40_000, 70_000] and len(order.phases) == 3
    assert order.length is None
    # When the second is used up, the others have 5 : 2, and at last the first has all.
    second, third = order.phases[1:]
    assert second.counts.tolist() == [round(PERIOD * 5 / 7), 0, round(PERIOD * 2 / 7)]
    assert third.counts.tolist() == [PERIOD, 0, 0]
    far = 10**12
    assert order[far] == (0, far - 110_000)


@pytest.mark.parametrize("renew", [True, False])
def test_the_end_of_all(renew):
    limits = (100, 250, 30)
    order = MemberOrder((1, 1, 1), limits, seed=0, renew=renew)
    served = np.bincount([m for m, _ in sequence(order, 0, order.length)], minlength=3)
    if renew:
        assert served.tolist() == list(limits) and order.length == 380
    else:
        assert (
            served[2] == 30 and (served[:2] < limits[:2]).all() and order[order.length - 1][0] == 2
        )
    with pytest.raises(IndexError):
        order[order.length]


def test_pinned():
    """A run that was started elsewhere goes on here: these numbers may never change."""
    order = MemberOrder((5, 3, 2), (None, 10, None), seed=7, renew=True)
    got = [order[unit] for unit in (0, 1, 2, 3, 1000, 10**9)]
    assert got == [(2, 0), (0, 0), (1, 0), (1, 1), (0, 707), (2, 285720822)]


class Numbers:
    """A source of its own numbers; some cannot be used."""

    def __init__(self, size, name="", bad=()):
        self.size, self.name, self.bad = size, name, bad
        self.fingerprint = {"kind": "numbers", "size": size}

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if index in self.bad:
            raise BadRecord("broken")
        return {"id": np.int64(index)}


def keep_all(example, rng):
    return {**example, "noise": rng.random()}


@pytest.fixture
def numbers(monkeypatch):
    """Members of Numbers; options of TrainBatches and of Mixture."""
    monkeypatch.setattr(mixture_lib, "build_source", lambda section, where: Numbers(**section))

    def make(members, batch_size=8, rows=None, **options):
        sections = {
            name: {"source": {"size": size, **extra.pop("source", {})}, **extra}
            for name, (size, extra) in {k: (v[0], dict(v[1])) for k, v in members.items()}.items()
        }
        mixture = Mixture(sections, **options, seed=3, batch_size=batch_size)
        transform = mixture.compose((), tokenizer=None)
        add = lambda example, rng: keep_all(transform(example, rng), rng)
        return TrainBatches(mixture, add, batch_size, seed=3, rows=rows)

    return make


MEMBERS = {"a": (30, {}), "b": (7, {"weight": 2.0}), "c": (100, {"epochs": 2})}


def rows_of(batches):
    return [
        tuple(row)
        for batch in batches
        for row in zip(batch["member"].tolist(), batch["id"].tolist(), batch["noise"].tolist())
    ]


@pytest.mark.parametrize("per_batch", [False, True])
def test_hosts_share_the_global_batch(numbers, per_batch):
    whole = numbers(MEMBERS, per_batch=per_batch)
    for step in (0, 9, 40):
        parts = [
            numbers(MEMBERS, rows=range(2 * i, 2 * i + 2), per_batch=per_batch)[step]
            for i in range(4)
        ]
        assert rows_of([whole[step]]) == rows_of(parts)
        assert len(set(whole[step]["member"].tolist())) == 1 or not per_batch


@pytest.mark.parametrize("start, workers", [(0, 0), (4, 0), (4, 2)])
def test_iteration_resumes_anywhere(numbers, start, workers):
    want = [rows_of([numbers(MEMBERS)[step]]) for step in range(start, 9)]
    iterator = numbers(MEMBERS).iterate(start, workers=workers)
    assert [rows_of([next(iterator)]) for _ in want] == want
    iterator.close()


@pytest.mark.parametrize("per_batch", [False, True])
def test_every_member_runs_through_its_own_epochs(numbers, per_batch):
    batches = numbers(MEMBERS, per_batch=per_batch)
    ids = {0: [], 1: [], 2: []}
    for member, index, _ in rows_of(batches[step] for step in range(120)):
        ids[member].append(index)
    for member, size in ((0, 30), (1, 7), (2, 100)):
        assert len(ids[member]) >= 2 * size
        for epoch in range(len(ids[member]) // size):
            assert sorted(ids[member][epoch * size :][:size]) == list(range(size))
    assert len(ids[2]) == 200  # Used up; the others went on.
    share = len(ids[1]) / (len(ids[0]) + len(ids[1]))
    assert abs(share - 2 / 3) < 0.02


@pytest.mark.parametrize(
    "rule, want",
    [
        (dict(), (1, 1, 2)),
        (dict(weights="proportional"), (4, 100, 2 * 2500)),
        (dict(weights="sqrt"), (2, 10, 2 * 50)),
        (dict(weights="temperature", temperature=4.0), (2**0.5, 10**0.5, 2 * 50**0.5)),
    ],
)
def test_weights(numbers, rule, want):
    members = {"a": (4, {}), "b": (100, {}), "c": (2500, {"weight": 2})}
    counts = numbers(members, **rule).source.order.phases[0].counts
    np.testing.assert_allclose(counts / PERIOD, np.array(want) / sum(want), atol=1 / PERIOD)


def test_all_used_up(numbers):
    members = {"a": (30, {"epochs": 1}), "b": (7, {"epochs": 3})}
    for per_batch, size in ((False, 51 // 8), (True, 30 // 8 + 21 // 8)):
        batches = numbers(members, per_batch=per_batch)
        assert len(batches) == size
        iterator = batches.iterate(0)
        assert len([next(iterator) for _ in range(size)]) == size
        with pytest.raises(UserError, match="all members of data.mixture are used up"):
            next(iterator)
    assert len(numbers(members, exhausted="stop")) < 51 // 8
    with pytest.raises(UserError, match="b: 0.1 epochs of 7 examples are no example"):
        numbers({"a": (30, {}), "b": (7, {"epochs": 0.1})})


def test_bad_records_are_replaced_within_their_member(numbers):
    members = {"a": (30, {}), "b": (7, {"source": {"bad": (2, 3)}})}
    clean = numbers({"a": (30, {}), "b": (7, {})})
    batches = numbers(members)
    bad = []
    for step in range(6):
        batch, want = batches[step], clean[step]
        bad += batch["_bad"]
        assert batch["member"].tolist() == want["member"].tolist()
        same = batch["id"] == want["id"]
        assert (same | ((want["member"] == 1) & np.isin(want["id"], (2, 3)))).all()
    assert "b record 2: broken" in bad and "b record 3: broken" in bad


def test_rows_of_members_must_agree(numbers):
    batches = numbers(MEMBERS)
    plain = batches.transform
    shapes = {0: np.zeros(3), 1: np.zeros(2), 2: np.zeros(2)}
    transform = lambda e, rng: {**plain(e, rng), "text": shapes[int(e["member"])]}
    with pytest.raises(UserError, match=r"differ in 'text' \(a \(3,\), b \(2,\)"):
        TrainBatches(batches.source, transform, 8, 3)[0]
    extra = lambda e, rng: {**plain(e, rng), **({"box": 1} if e["member"] == 1 else {})}
    with pytest.raises(UserError, match=r"differ in 'box' \(a none, b \(\)"):
        TrainBatches(batches.source, extra, 8, 3)[0]


def test_the_mixture_as_a_source(numbers):
    mixture = pickle.loads(pickle.dumps(numbers(MEMBERS).source))
    assert len(mixture) == 137
    assert [(int(mixture[i]["member"]), int(mixture[i]["id"])) for i in (0, 29, 30, 36, 37)] == [
        (0, 0),
        (0, 29),
        (1, 0),
        (1, 6),
        (2, 0),
    ]
    with pytest.raises(IndexError):
        mixture[137]


@pytest.mark.parametrize(
    "section, message",
    [
        ({"members": {"a": {"sorce": {}}}}, "members.a: unknown key 'sorce'. Did you mean"),
        ({"members": {"a": {}}}, "members.a: missing source"),
        ({"members": {}}, "there is none"),
        ({"members": {"a": {"source": {"kind": "tar"}}}}, "members.a.source: missing path"),
        ({"members": {"a": {"source": {}, "weight": 0}}}, "a.weight is 0"),
        ({"members": {"a": {"source": {}}}, "weights": "sqr"}, "Did you mean 'sqrt'"),
        ({"members": {"a": {"source": {}}}, "temperature": 0.0}, "temperature is 0"),
        ({"members": {"a": {"source": {}}}, "temperature": "2"}, "temperature is '2'"),
        ({"members": {"a": {"source": {}, "epochs": "3"}}}, "a.epochs is '3': give a number"),
        ({"members": {"a": {"source": {}, "weight": float("nan")}}}, "a.weight is nan"),
        ({"members": {"a": {"source": "coco"}}}, "members.a.source is 'coco': give kind"),
        ({"members": {"a": "coco"}}, "members.a is 'coco': give source"),
        ({"members": ["a"]}, "members: there is none: give name"),
    ],
)
def test_mistakes_are_named(section, message):
    with pytest.raises(UserError, match=message):
        Mixture(**section, seed=0, batch_size=4)


def mixed_config():
    """The quickstart in miniature: digits twice, told apart by their own transforms."""
    c = config_lib.load("configs/clip/digits.py:test", ["seed=3", "optim.schedule=constant"])
    c.eval.evaluators = {}
    del c.eval.picture
    c.checkpoint.update(dict(best=None, every_steps=100))
    shared = [step for step in c.data.transforms if step[0] != "choose"]
    c.data.transforms = shared
    pick = lambda name: ((name, dict(key="captions", out="caption")),)
    train = c.data.source.to_dict()
    del c.data.source
    c.data.mixture = dict(
        weights="sqrt",
        members=dict(
            first=dict(source=train, transforms=pick("first")),
            any=dict(source=dict(train, split="validation"), transforms=pick("choose"), epochs=3),
        ),
    )
    return c


def test_training_resumes_bit_exactly(tmp_path, data_dir):
    config = mixed_config()
    for folder, steps in (("whole", 2), ("parts", 1), ("parts", 2)):
        config.steps = steps
        jvlm.train(config, tmp_path / folder)
    one, other = (
        paths.flatten(pretrained.load(tmp_path / name, step="latest").params)
        for name in ("whole", "parts")
    )
    assert one.keys() == other.keys()
    for path in one:
        np.testing.assert_array_equal(one[path], other[path], err_msg=path)

    config.steps = 6
    config.data.mixture.members.any.weight = 2.0
    with pytest.raises(UserError, match="data.mixture.members.any.weight differ"):
        jvlm.train(config, tmp_path / "parts")
    config = mixed_config()
    config.steps = 10_000
    with pytest.raises(UserError, match="used up after"):
        config.data.mixture.members.first.epochs = 1
        jvlm.train(config, tmp_path / "other")
    with pytest.raises(UserError, match="give source or mixture, not source and mixture"):
        config.data.source = config.data.mixture.members.first.source
        jvlm.train(config, tmp_path / "other")


def test_a_tokenizer_sees_some_of_every_member(numbers, tmp_path, monkeypatch):
    members = {"a": (30, {"source": {"bad": (0, 6)}}), "b": (10, {})}
    source = numbers(members).source
    read = Numbers.__getitem__
    monkeypatch.setattr(
        Numbers, "__getitem__", lambda self, i: {"text": f"{self.size} {read(self, i)['id']}"}
    )
    monkeypatch.setattr(
        sys.modules["jvlm.train"], "build_tokenizer", lambda section, folder, texts: list(texts)
    )
    config = config_lib.ml_collections.ConfigDict({"tokenizer": {"train_on": ("text",)}})
    assert len(make_tokenizer(config, tmp_path, source)) == 38
    config.tokenizer.train_examples = 20
    want = [f"30 {i}" for i in range(2, 30, 2) if i != 6] + [f"10 {i}" for i in range(0, 10, 2)]
    assert make_tokenizer(config, tmp_path, source) == want


def test_a_member_that_has_changed(tmp_path, numbers):
    old = json.loads(json.dumps(numbers(MEMBERS).fingerprint()))
    check_fingerprint(old, numbers(MEMBERS).fingerprint())
    changed = numbers({**MEMBERS, "a": (31, {})}).fingerprint()
    with pytest.raises(UserError, match="data has changed: member a was .*'size': 30"):
        check_fingerprint(old, changed)
