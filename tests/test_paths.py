# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Paths and rule lists."""

import numpy as np
import pytest

from jvlm import paths
from jvlm.errors import UserError

PARAMS = {
    "vision/blocks/mlp/up/kernel": np.zeros((4, 2, 3)),
    "vision/blocks/norm1/scale": np.zeros((4, 2)),
    "vision/pos": np.zeros((5, 2)),
    "logit_scale": np.zeros(()),
}


def test_flatten_round_trip():
    tree = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert paths.flatten(tree) == {"a/b": 1, "a/c/d": 2, "e": 3}
    assert paths.unflatten(paths.flatten(tree)) == tree


def test_first_match_wins():
    values = paths.resolve([(".*kernel", 1), ("vision/.*", 2), (".*", 3)], PARAMS, what="x")
    assert values["vision/blocks/mlp/up/kernel"] == 1
    assert values["vision/pos"] == 2
    assert values["logit_scale"] == 3


def test_layer_range_gives_a_vector():
    rules = [("vision/blocks/.*[1:3]", 0.5), (".*/blocks/.*[3:]", 0.1), (".*", 1.0)]
    values = paths.resolve(rules, PARAMS, what="lr")
    kernel = "vision/blocks/mlp/up/kernel"
    assert values[kernel] == [1.0, 0.5, 0.5, 0.1]
    assert values["vision/pos"] == 1.0
    assert paths.per_leaf(values[kernel], PARAMS[kernel]).shape == (4, 1, 1)


def test_whole_range_is_a_single_value():
    values = paths.resolve([("vision/blocks/.*[0:4]", 2), (".*", 1)], PARAMS, what="lr")
    assert values["vision/blocks/norm1/scale"] == 2


@pytest.mark.parametrize(
    "rules, message",
    [
        ([("vision/.*", 1)], "no rule matches logit_scale"),
        ([("vison/pos", 1), (".*", 0)], "Did you mean 'vision/pos'"),
        ([(".*", 0), ("vision/pos", 1)], "decides no parameter"),
        ([("vision/blocks/.*[2:9]", 1), (".*", 0)], "reaches past 4 layers"),
        ([("vision/pos[0:1]", 1), (".*", 0)], "layer range but matches vision/pos"),
        ([("(", 1), (".*", 0)], "not a regular expression"),
    ],
)
def test_bad_rules_are_named(rules, message):
    with pytest.raises(UserError, match="lr: ") as error:
        paths.resolve(rules, PARAMS, what="lr")
    assert message in str(error.value)


def test_all_problems_are_reported_together():
    with pytest.raises(UserError) as error:
        paths.resolve([("nope", 1), ("vision/.*", 1)], PARAMS, what="lr")
    assert "nope" in str(error.value) and "logit_scale" in str(error.value)
