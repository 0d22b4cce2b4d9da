# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Data sets by random access: `len(source)`, `source[i] -> raw example`, `source.fingerprint`."""

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jvlm.config import construct
from jvlm.data import images
from jvlm.errors import UserError, did_you_mean
from jvlm.paths import unflatten


class Source(Protocol):
    """What the pipeline needs of a data set. Must survive pickling (worker processes).

    A source whose examples have `label` may have `class_names`: the names in the labels' order.
    """

    fingerprint: dict[str, Any]
    """Name, split and size: a resumed run must find the same data."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


class TFDSSource:
    """A prepared TensorFlow Datasets split in array_record files, read without TensorFlow.

    Images come as encoded bytes, texts as str.

    Args:
      name: 'digit_scenes/small', or any builder name with its config.
      split: 'train', 'test[:100]', ...
      data_dir: default $TFDS_DATA_DIR or ~/tensorflow_datasets.
    """

    def __init__(self, name: str, split: str, data_dir: str | None = None):
        self._arguments = (name, split, data_dir)
        size = len(self._opened[1])
        if not size:
            raise UserError(f"data set {name}, split {split}: empty")
        self.fingerprint = {"kind": "tfds", "name": name, "split": split, "size": size}

    def __len__(self) -> int:
        return self.fingerprint["size"]

    def __getitem__(self, index: int) -> dict[str, Any]:
        parse, records = self._opened
        return parse(records[index])

    @property
    def class_names(self) -> list[str] | None:
        """Names of the feature `label`, where it has names and not only a number of classes."""
        from tensorflow_datasets import features as kinds

        name, _, data_dir = self._arguments
        label = dict(find_builder(name, data_dir).info.features).get("label")
        if not isinstance(label, kinds.ClassLabel) or label.num_classes is None:
            return None
        return list(label.names)

    def __getstate__(self):
        # Readers hold open files: every worker process opens its own.
        return {k: v for k, v in self.__dict__.items() if k != "_opened"}

    @functools.cached_property
    def _opened(self):
        """(record -> example, the records by random access)."""
        import tensorflow_datasets as tfds

        name, split, data_dir = self._arguments
        builder = find_builder(name, data_dir)
        features = builder.info.features
        parse = example_parser(features)
        options: dict[str, Any] = {"deserialize_method": tfds.decode.DeserializeMethod.RAW_BYTES}
        if parse is None:
            encoded = {k for k, v in features.items() if isinstance(v, tfds.features.Image)}
            options = {"decoders": {key: tfds.decode.SkipDecoding() for key in encoded}}
            parse = lambda record: {  # noqa: E731
                k: v if k in encoded else _to_text(v) for k, v in record.items()
            }
        try:
            return parse, builder.as_data_source(split, **options)
        except NotImplementedError:
            raise UserError(
                f"data set {name}: its files have no random access: prepare it anew with "
                "file_format='array_record'"
            ) from None
        except ValueError as error:
            splits = ", ".join(sorted(builder.info.splits))
            raise UserError(f"data set {name}, split {split}: {error} (splits: {splits})") from None


class FolderSource:
    """All images below a folder, in sorted order. Each example has `image` bytes and `path`.

    Args:
      path: the folder.
      labels: the sub-folders are classes, in sorted order, and examples have `label` too.
    """

    class_names: list[str] | None = None

    def __init__(self, path: str, labels: bool = False):
        self.files, self._labels = image_files(path), None
        if labels:
            # Of a file, the first folder below `path` is its class; what has none is no example.
            below = {file: Path(file).relative_to(path).parts for file in self.files}
            self.files = sorted(
                (file for file in self.files if len(below[file]) > 1), key=lambda f: below[f]
            )
            if not self.files:
                raise UserError(f"{path}: no sub-folders with images, one for each class")
            classes = [below[file][0] for file in self.files]
            self.class_names = sorted(set(classes))
            index = {name: number for number, name in enumerate(self.class_names)}
            self._labels = [index[name] for name in classes]
        self.fingerprint = {"kind": "folder", "path": str(path), "size": len(self.files)}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = self.files[index]
        try:
            with open(path, "rb") as file:
                example = {"image": file.read(), "path": path}
        except OSError as error:
            raise images.BadRecord(f"{path}: {error.strerror}") from None
        return example if self._labels is None else {**example, "label": self._labels[index]}


def image_files(folder: str) -> list[str]:
    """Paths of all images below a folder, in sorted order, hidden files left out.

    Raises:
      UserError: no such folder, or no image in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"{folder}: no such folder")
    files = sorted(
        os.path.join(place, name)
        for place, _, names in os.walk(root, followlinks=True)
        for name in names
        if os.path.splitext(name)[1].lower() in images.SUFFIXES and not name.startswith(".")
    )
    if not files:
        raise UserError(f"{folder}: no image files ({', '.join(images.SUFFIXES)})")
    return files


SOURCES = {"tfds": TFDSSource, "folder": FolderSource}


def build_source(section: Mapping, *, where: str = "data.source") -> Source:
    """Opens the data set of a config's `source` section: `kind` and that kind's arguments."""
    options = dict(section)
    kind = options.pop("kind", "")
    if kind not in SOURCES:
        raise UserError(f"{where}.kind {kind!r} is unknown.{did_you_mean(kind, SOURCES)}")
    return construct(SOURCES[kind], options, where=where)


def find_builder(name: str, data_dir: str | None = None):
    """Finds a prepared TFDS data set.

    Raises:
      UserError: it is not there; says how to prepare it.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
        prepared = bool(builder.info.splits)
    except (tfds.core.registered.DatasetNotFoundError, FileNotFoundError, ValueError):
        prepared = False
    if not prepared:
        place = data_dir or tfds.core.constants.DATA_DIR
        raise UserError(
            f"data set {name} is not prepared in {place}: set data_dir, or prepare it (jvlm data "
            "prepare makes digit_scenes)"
        )
    return builder


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


def _to_text(value: Any) -> Any:
    """TFDS gives texts as bytes, alone, in arrays or below dicts; everything else stays."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Mapping):
        return {key: _to_text(entry) for key, entry in value.items()}
    if isinstance(value, list) or (isinstance(value, np.ndarray) and value.dtype == object):
        return [_to_text(entry) for entry in value]
    return value
