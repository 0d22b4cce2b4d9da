# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Serialised tf.train.Examples, without TensorFlow."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jvlm.paths import unflatten


def example_parser(features: Mapping) -> Callable[[bytes], dict[str, Any]] | None:
    """A parser of serialised tf.train.Examples for the common features, five times TFDS's speed.

    Images stay encoded bytes, texts become str, tensors numpy arrays, sequences lists or, of
    dicts, dicts of lists.

    Args:
      features: a TFDS FeaturesDict.

    Returns:
      bytes -> example; None where a feature is of a kind that is left to TFDS.
    """
    from tensorflow_datasets import features as kinds
    from tensorflow_datasets.proto import tf_example_pb2

    tensors = (kinds.Tensor, kinds.Scalar, kinds.ClassLabel, kinds.BBoxFeature)

    def reader(feature):
        """How one value is read, protobuf Feature -> value."""
        if type(feature) is kinds.Image:
            return lambda value: value.bytes_list.value[0]
        if type(feature) is kinds.Sequence:
            return sequence_reader(feature.feature)
        read = sequence_reader(feature)
        return read and (lambda value: read(value)[0])

    def sequence_reader(feature):
        """How several values of a kind are read, protobuf Feature -> list."""
        if type(feature) is kinds.Text:
            return lambda value: [text.decode() for text in value.bytes_list.value]
        if type(feature) in tensors:
            shape, dtype = feature.shape, np.dtype(feature.np_dtype)
            if None not in shape and dtype.kind in "fiub":
                return lambda value: list(np.array(_numbers(value), dtype).reshape(-1, *shape))
        return None

    readers = {}
    for key, feature in features.items():
        if type(feature) is kinds.Sequence and isinstance(feature.feature, kinds.FeaturesDict):
            for name, inner in feature.feature.items():
                readers[f"{key}/{name}"] = sequence_reader(inner)
        else:
            readers[key] = reader(feature)
    if None in readers.values():
        return None

    def parse(record: bytes) -> dict[str, Any]:
        values = tf_example_pb2.Example.FromString(record).features.feature
        return unflatten({key: read(values[key]) for key, read in readers.items()})

    return parse


def _numbers(value: Any) -> Any:
    return value.int64_list.value or value.float_list.value
