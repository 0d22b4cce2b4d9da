# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Prepared TensorFlow Datasets, read without TensorFlow."""

import functools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jvlm.data.examples import example_parser
from jvlm.data.sources.files import with_pictures
from jvlm.errors import UserError


class TFDSSource:
    """A prepared TensorFlow Datasets split in array_record files, read without TensorFlow.

    Images come as encoded bytes, texts as str.

    Args:
      name: 'digit_scenes/small', 'coco_captions/2014:1.1.0', or the data set's folder.
      split: 'train', 'test[:100]', ...
      data_dir: default $TFDS_DATA_DIR or ~/tensorflow_datasets.
      image_root: of a data set imported with --link, the folder that its paths of pictures are
        relative to; the files in `file`, `files` are read into `image`, `images`.
    """

    def __init__(
        self,
        name: str,
        split: str,
        data_dir: str | None = None,
        image_root: str | None = None,
    ):
        self._arguments, self._image_root = (name, split, data_dir), image_root
        size = len(self._opened[1])
        if not size:
            raise UserError(f"data set {name}, split {split}: empty")
        self.fingerprint = {"kind": "tfds", "name": name, "split": split, "size": size}

    def __len__(self) -> int:
        return self.fingerprint["size"]

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        parse, records = self._opened
        example = parse(records[index])
        if self._image_root is not None:
            for key in ("file", "files"):
                example = with_pictures(example, key, self._image_root, "")
        return example

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


def find_builder(name: str, data_dir: str | None = None):
    """Finds a prepared data set by its files; the code that made it is not needed.

    Args:
      name: 'coco_captions/2014:1.1.0', where the newest version and the only config may be left
        out; or the folder of a data set.
      data_dir: default $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Raises:
      UserError: it is not there; says how to prepare it.
    """
    import tensorflow_datasets as tfds
    from etils import epath

    place = epath.Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
    path, _, version = name.partition(":")
    candidates = [place / path / version, epath.Path(name).expanduser()]
    folder = next((found for found in map(_prepared, candidates) if found), None)
    if folder is None and (place / path).is_dir() and not version:
        configs = {child.name: _prepared(child) for child in (place / path).iterdir()}
        configs = {name: found for name, found in configs.items() if found}
        if len(configs) > 1:
            raise UserError(f"data set {name}: say which one: {', '.join(sorted(configs))}")
        folder = next(iter(configs.values()), None)
    if folder is None:
        raise UserError(
            f"data set {name} is not prepared in {place}: set data_dir, or prepare it (jvlm data "
            "import takes the usual formats, jvlm data prepare makes digit_scenes)"
        )
    return tfds.builder_from_directory(folder)


def _prepared(folder: Any) -> Any:
    """The data set in a folder, or its newest version there; None where there is none."""
    if (folder / "dataset_info.json").exists():
        return folder
    if not folder.is_dir():
        return None
    versions = [child for child in folder.iterdir() if re.fullmatch(r"\d+\.\d+\.\d+", child.name)]
    versions.sort(key=lambda child: [int(part) for part in child.name.split(".")])
    return next((v for v in versions[::-1] if (v / "dataset_info.json").exists()), None)


def _to_text(value: Any) -> Any:
    """TFDS gives texts as bytes, alone, in arrays or below dicts; everything else stays."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Mapping):
        return {key: _to_text(entry) for key, entry in value.items()}
    if isinstance(value, list) or (isinstance(value, np.ndarray) and value.dtype == object):
        return [_to_text(entry) for entry in value]
    return value
