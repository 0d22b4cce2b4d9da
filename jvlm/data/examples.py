# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Examples: entries of nested ones; serialised as tf.train.Example, without TensorFlow."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jvlm.paths import unflatten


def entry(example: Mapping, key: str) -> Any:
    """An entry of an example; 'a/b' is entry b of entry a. Raises KeyError if there is none."""
    value: Any = example
    for part in key.split("/"):
        if not isinstance(value, Mapping):
            raise KeyError(key)
        value = value[part]
    return value


def plain(value: Any) -> Any:
    """NumPy's arrays and numbers as JSON takes them; `default` of `json.dumps`."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON")


def example_parser(features: Mapping) -> Callable[[bytes], dict[str, Any]] | None:
    """A parser of serialised tf.train.Examples for the common features, five times TFDS's speed.

    Images stay encoded bytes, texts become str, tensors numpy arrays, sequences lists or, of
    dicts, dicts of lists.

    Args:
      features: a TFDS FeaturesDict.

    Returns:
      bytes -> example; None where a feature is of a kind that is left to TFDS.
    """
    from tensorflow_datasets.proto import tf_example_pb2

    codecs = _codecs(features)
    if None in codecs.values():
        return None

    def parse(record: bytes) -> dict[str, Any]:
        values = tf_example_pb2.Example.FromString(record).features.feature
        return unflatten({key: codec.read(values[key]) for key, codec in codecs.items()})

    return parse


def example_writer(features: Mapping) -> Callable[[Mapping[str, Any]], bytes]:
    """The inverse of `example_parser`: what TFDS writes, without TensorFlow.

    Args:
      features: a TFDS FeaturesDict of kinds that `example_parser` knows.

    Returns:
      example -> bytes; raises ValueError for a value that does not fit its feature.
    """
    from tensorflow_datasets.proto import tf_example_pb2

    codecs = _codecs(features)
    if None in codecs.values():
        unknown = [key for key, codec in codecs.items() if codec is None]
        raise ValueError(f"features {unknown} are of kinds that cannot be written")
    groups = {key for key, feature in features.items() if _is_group(feature)}

    def serialize(example: Mapping[str, Any]) -> bytes:
        message = tf_example_pb2.Example()
        values = message.features.feature
        for path, codec in codecs.items():
            key, _, name = path.partition("/")
            value = example[key]
            try:
                codec.write(values[path], value[name] if key in groups else value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}: {error}") from None
        for key in groups:
            if len({len(entries) for entries in example[key].values()}) > 1:
                raise ValueError(f"{key}: its lists differ in length")
        return message.SerializeToString(deterministic=True)

    return serialize


@dataclasses.dataclass(frozen=True)
class _Codec:
    """How one feature is read and written.

    Attributes:
      read: protobuf Feature -> value.
      write: puts a value into an empty protobuf Feature.
    """

    read: Callable[[Any], Any]
    write: Callable[[Any, Any], None]


def _codecs(features: Mapping) -> dict[str, _Codec | None]:
    """Path in the example -> codec; None for kinds that are left to TFDS."""
    codecs = {}
    for key, feature in features.items():
        if _is_group(feature):
            for name, inner in feature.feature.items():
                codecs[f"{key}/{name}"] = _several(inner)
        elif _is_sequence(feature):
            codecs[key] = _several(feature.feature)
        else:
            codec = _several(feature)
            codecs[key] = codec and _one(codec)
    return codecs


def _is_sequence(feature: Any) -> bool:
    from tensorflow_datasets import features as kinds

    return type(feature) is kinds.Sequence


def _is_group(feature: Any) -> bool:
    """A sequence of dicts, which is kept as a dict of lists."""
    from tensorflow_datasets import features as kinds

    return _is_sequence(feature) and isinstance(feature.feature, kinds.FeaturesDict)


def _one(codec: _Codec) -> _Codec:
    return _Codec(
        lambda field: codec.read(field)[0], lambda field, value: codec.write(field, [value])
    )


def _several(feature: Any) -> _Codec | None:
    """Any number of values of a kind <-> a list."""
    from tensorflow_datasets import features as kinds

    if type(feature) is kinds.Text:
        return _Codec(
            lambda field: [text.decode() for text in field.bytes_list.value],
            lambda field, values: field.bytes_list.value.extend(map(_encode, _listed(values))),
        )
    if type(feature) is kinds.Image:
        return _Codec(
            lambda field: list(field.bytes_list.value),
            lambda field, values: field.bytes_list.value.extend(_listed(values)),
        )
    if type(feature) in (kinds.Tensor, kinds.Scalar, kinds.ClassLabel, kinds.BBoxFeature):
        shape, dtype = feature.shape, np.dtype(feature.np_dtype)
        if None not in shape and dtype.kind in "fiub":
            return _numbers(shape, dtype)
    return None


def _numbers(shape: tuple[int, ...], dtype: np.dtype) -> _Codec:
    def read(field: Any) -> list:
        stored = field.int64_list.value or field.float_list.value
        return list(np.array(stored, dtype).reshape(-1, *shape))

    def write(field: Any, values: Any) -> None:
        is_float = dtype.kind == "f"
        target, kind = (field.float_list, dtype) if is_float else (field.int64_list, np.int64)
        for value in _listed(values):
            array = np.asarray(value)
            if array.shape != shape or array.dtype.kind not in "fiub":
                size = f"{'x'.join(map(str, shape))} numbers" if shape else "a number"
                raise ValueError(f"{_short(value)} is not {size}")
            with np.errstate(invalid="ignore"):
                stored = array.astype(dtype)
            if dtype.kind in "iu" and not np.array_equal(array, stored):
                raise ValueError(f"{_short(value)} is not a whole number")
            target.value.extend(stored.astype(kind).ravel().tolist())

    return _Codec(read, write)


def _listed(values: Any) -> Any:
    """The values, if they are several: not the letters of one text."""
    if not isinstance(values, list | tuple | np.ndarray):
        raise ValueError(f"{_short(values)} is not a list")
    return values


def _encode(text: Any) -> bytes:
    if not isinstance(text, str):
        raise ValueError(f"{_short(text)} is not a text")
    try:
        return text.encode()
    except UnicodeEncodeError:  # Half of a surrogate pair, as '\ud83d' in JSON.
        raise ValueError(f"{_short(text)} is not Unicode") from None


def _short(value: Any) -> str:
    return ascii(value)[:60]
