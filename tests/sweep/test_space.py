# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Points: products, ranges, what a config yields."""

import numpy as np
import pytest

from jvlm.errors import UserError
from jvlm.sweep import space

BASE = space.Base("configs/clip/digits.py:test", ("steps=7",))


def test_grid_has_the_values_of_the_config():
    points = space.grid(BASE, ["optim.lr=1,1e-3,0.001", "optim.b2=.9", "optim.schedule=cosine"])
    want = dict(optim_b2=0.9, optim_schedule="cosine")
    want = {key.replace("_", ".", 1): value for key, value in want.items()}
    # 1 is a float where the config has one; the same value twice is one point.
    assert points == [{"optim.lr": 1.0, **want}, {"optim.lr": 0.001, **want}]
    assert type(points[0]["optim.lr"]) is float
    nested = "optim.weight_decay=(('.*',0.0),),(('a,b',0.1),('.*',0.0))"
    points = space.grid(BASE, [nested, "steps=5,6"])
    assert [point["steps"] for point in points] == [5, 6, 5, 6]
    assert points[2]["optim.weight_decay"] == (("a,b", 0.1), (".*", 0.0))
    for point in points:  # What is written on the command line is read back as the same.
        assert BASE.load(space.to_texts(point)).optim.weight_decay == point["optim.weight_decay"]


def test_the_config_yields_points(tmp_path):
    points = space.from_config(space.Base("clip/digits"))
    assert len(points) == 6 and points[0] == {"optim.lr": 1e-3, "optim.b2": 0.95}
    file = tmp_path / "mine.py"
    text = "from configs.clip.digits import get_config\n"
    for sweep, message in (
        ("", r"has no sweep\(\): define it, or give --grid"),
        ("def sweep(): yield {'optim.lrr': 1}", "Did you mean 'lr'"),
        ("def sweep(): yield 1", "takes dicts"),
        ("def sweep(): yield {'optim.lr': 1 / 0}", "ZeroDivisionError"),
    ):
        file.write_text(text + sweep)
        with pytest.raises(UserError, match=message):
            space.from_config(space.Base(str(file)))


def test_draws_stay_in_their_ranges_and_depend_on_seed_and_index_only():
    options = ["optim.lr=log:1e-4..1e-2", "model.text.depth=1..4", "optim.schedule=cosine,constant"]
    ranges = space.parse_ranges(BASE, options, "--random")
    points = space.draws(BASE, ranges, 60, seed=0)
    assert points[:20] == space.draws(BASE, ranges, 20, seed=0)
    assert points[:20] != space.draws(BASE, ranges, 20, seed=1)
    rates = np.array([point["optim.lr"] for point in points])
    assert rates.min() >= 1e-4 and rates.max() <= 1e-2
    assert 0.3 < (rates < 1e-3).mean() < 0.7  # Uniform in the logarithm.
    assert {point["model.text.depth"] for point in points} == {1, 2, 3, 4}
    assert {point["optim.schedule"] for point in points} == {"cosine", "constant"}


@pytest.mark.parametrize(
    "option, message",
    [
        ("optim.lrr=1..2", "unknown key 'lrr'. Did you mean 'lr'?"),
        ("optim.lr=2..1", "LOW must be below HIGH"),
        ("optim.lr=log:0..1", "and above 0"),
        ("optim.lr=1..2..3", "give LOW..HIGH"),
        ("optim.lr=a..b", "give LOW..HIGH"),
        ("model.text.depth=1.5..4", "expected int"),
        ("optim.schedule=1..4", "give two ints or two floats"),
        ("optim.lr", "give --random KEY=VALUES"),
        ("optim=1..2", "is a section"),
    ],
)
def test_bad_ranges(option, message):
    with pytest.raises(UserError) as error:
        space.parse_ranges(BASE, [option], "--random")
    assert message in str(error.value)
