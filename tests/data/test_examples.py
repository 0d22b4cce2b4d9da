# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Serialised examples: what is written is what TFDS and our parser read."""

import numpy as np
import pytest
from tensorflow_datasets import features as kinds
from tensorflow_datasets.core import example_parser as tfds_parser

from jvlm.data.examples import example_parser, example_writer

FEATURES = kinds.FeaturesDict(
    {
        "image": kinds.Image(),
        "images": kinds.Sequence(kinds.Image()),
        "texts": kinds.Sequence(kinds.Text()),
        "label": kinds.ClassLabel(names=["a", "b"]),
        "box": kinds.Tensor(shape=(4,), dtype=np.float32),
        "flags": kinds.Sequence(kinds.Scalar(np.bool_)),
        "regions": kinds.Sequence(
            {"phrase": kinds.Text(), "box": kinds.Tensor(shape=(4,), dtype=np.float32)}
        ),
    }
)
EXAMPLE = {
    "image": b"\xff\x00",
    "images": [b"a", b"bc"],
    "texts": ["雪", ""],
    "label": -1,
    "box": [0.5, 1, 2, 3],
    "flags": [True, False],
    "regions": {"phrase": ["a dog"], "box": [[1, 2, 3, 4]]},
}


def test_round_trip():
    record = example_writer(FEATURES)(EXAMPLE)
    example = example_parser(FEATURES)(record)
    regions = example.pop("regions")
    for key, value in example.items():
        assert np.array_equal(value, EXAMPLE[key]), key
    assert regions["phrase"] == ["a dog"]
    np.testing.assert_array_equal(regions["box"], [[1, 2, 3, 4]])
    assert example["box"].dtype == np.float32


def test_empty_sequences():
    empty = {
        **EXAMPLE,
        "images": [],
        "texts": [],
        "flags": [],
        "regions": {"phrase": [], "box": []},
    }
    example = example_parser(FEATURES)(example_writer(FEATURES)(empty))
    assert example["images"] == example["texts"] == example["flags"] == []
    assert example["regions"] == {"phrase": [], "box": []}


def test_tfds_reads_it():
    record = example_writer(FEATURES)(EXAMPLE)
    read = tfds_parser.ExampleParserNp(FEATURES.get_serialized_info()).parse_example(record)
    assert read["images"].tolist() == [b"a", b"bc"] and read["label"] == -1
    np.testing.assert_array_equal(read["regions"]["box"], [[1, 2, 3, 4]])


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("texts", "one text", "texts: 'one text' is not a list"),
        ("texts", [3], "texts: 3 is not a text"),
        ("texts", ["\ud83d"], r"texts: '\\ud83d' is not Unicode"),
        ("label", "a", "label: 'a' is not a number"),
        ("label", 0.5, "label: 0.5 is not a whole number"),
        ("label", float("nan"), "label: nan is not a whole number"),
        ("box", [1, 2, 3], r"box: \[1, 2, 3\] is not 4 numbers"),
        ("image", None, "image: "),
        ("regions", {"phrase": ["a"], "box": []}, "regions: its lists differ in length"),
    ],
)
def test_wrong_values_are_named(key, value, line):
    with pytest.raises(ValueError, match=line):
        example_writer(FEATURES)({**EXAMPLE, key: value})


def test_unknown_kinds_are_left_to_tfds():
    features = kinds.FeaturesDict({"words": kinds.Sequence(kinds.Sequence(kinds.Text()))})
    assert example_parser(features) is None
    with pytest.raises(ValueError, match="words"):
        example_writer(features)
