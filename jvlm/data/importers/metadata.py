# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The features of a schema in TFDS's terms, and the files that make a folder a TFDS data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jvlm.data.importers.schemas import SCHEMAS, Feature

VERSION = "1.0.0"
LINKED = {"image": "file", "images": "files"}
"""Features that hold paths, where pictures stay outside."""


def make_features(schema: str, labels: Sequence[str], link: bool) -> Any:
    """A schema as a TFDS FeaturesDict.

    Args:
      schema: key of SCHEMAS.
      labels: names of the feature `label`; none make it a plain int.
      link: paths in place of pictures.
    """
    from tensorflow_datasets import features as kinds

    def make(kind: Feature) -> Any:
        if isinstance(kind, Mapping):
            return kinds.Sequence({name: make(inner) for name, inner in kind.items()})
        if kind == "image":
            return kinds.Image(shape=(None, None, 3))
        if kind == "images":
            return kinds.Sequence(kinds.Image(shape=(None, None, 3)))
        if kind == "texts":
            return kinds.Sequence(kinds.Text())
        if kind == "box":
            return kinds.Tensor(shape=(4,), dtype=np.float32)
        if kind == "label" and labels:
            return kinds.ClassLabel(names=list(labels))
        return kinds.Text() if kind == "text" else kinds.Scalar(np.int64)

    features: dict[str, Any] = {"id": kinds.Text()}
    for key, kind in SCHEMAS[schema].items():
        if link and kind in ("image", "images"):
            features[LINKED[kind]] = make("text" if kind == "image" else "texts")
        else:
            features[key] = make(kind)
    return kinds.FeaturesDict(features)


def shard_name(name: str, split: str, index: int, count: int) -> str:
    """TFDS's name of a shard's file."""
    return f"{name}-{split}.array_record-{index:05}-of-{count:05}"


def write_metadata(
    folder: Path,
    name: str,
    features: Any,
    splits: Mapping[str, Sequence[tuple[int, int]]],
    description: str,
) -> None:
    """Writes dataset_info.json and features.json beside the shards.

    Args:
      folder: of the shards.
      name: of the data set.
      features: a TFDS FeaturesDict.
      splits: split -> (records, bytes) of each shard, in order.
      description: one line.
    """
    import tensorflow_datasets as tfds

    infos = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=[records for records, _ in shards],
            num_bytes=sum(size for _, size in shards),
            filename_template=tfds.core.ShardedFileTemplate(
                data_dir=folder, dataset_name=name, split=split, filetype_suffix="array_record"
            ),
        )
        for split, shards in splits.items()
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=features,
        version=VERSION,
        split_infos=infos,
        description=description,
        disable_shuffling=True,  # The order of the annotation is kept.
        check_data=False,  # It would need TensorFlow.
    )
