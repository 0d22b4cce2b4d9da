# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Image files below a folder."""

import os
from pathlib import Path
from typing import Any

from jvlm.data import images
from jvlm.data.sources.files import files_below
from jvlm.errors import UserError


class FolderSource:
    """All images below a folder, in sorted order. Each example has `image` bytes and `path`.

    Args:
      path: the folder.
      labels: the sub-folders are classes, in sorted order, and examples have `label` too.
    """

    class_names: list[str] | None = None

    def __init__(self, path: str, labels: bool = False):
        root = os.path.expanduser(path)
        self.files, self._labels = image_files(root), None
        if labels:
            # Of a file, the first folder below `path` is its class; what has none is no example.
            below = {file: Path(file).relative_to(root).parts for file in self.files}
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
    """Paths of all images below a folder, in sorted order; see `files_below`.

    Raises:
      UserError: no such folder, or no image in it.
    """
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder")
    files = files_below(Path(folder), images.SUFFIXES)
    if not files:
        raise UserError(f"{folder}: no image files ({', '.join(images.SUFFIXES)})")
    return files
