# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The files of a downloaded data set, found wherever its owner unpacked them."""

import dataclasses
import fnmatch
import functools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jvlm.data.importers.records import Blob, Dropped
from jvlm.errors import UserError

PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
VIDEOS = (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")

_SPLITS = {
    "train": r"train(ing|val)?",
    "testdev": r"test[-_]?dev",
    "test": r"test(ing|std)?",
    "validation": r"(mini)?val(id|idation)?|dev",
}
_MARKS = [
    (split, re.compile(f"(?<![a-z])({mark})(set|split)?(?![a-z])"))
    for split, mark in _SPLITS.items()
]


@dataclasses.dataclass(frozen=True)
class Files:
    """SRC of `jvlm data import`.

    Attributes:
      root: folder of the annotations; of a single annotation file, that file.
      images: folder of the pictures; default the root, or the file's folder.
      asked: the patterns that were looked for.
    """

    root: Path
    images: Path
    asked: set[tuple[str, ...]] = dataclasses.field(default_factory=set, compare=False)

    @property
    def folder(self) -> Path:
        """The folder of the annotations."""
        return self.root.parent if self.root.is_file() else self.root

    @functools.cached_property
    def names(self) -> list[str]:
        """All files below the root, relative to it, sorted; of a file its name."""
        if self.root.is_file():
            return [self.root.name]
        found = []
        for place, folders, names in os.walk(self.root, followlinks=True):
            # What imports made may be below SRC, half-done or whole.
            if "dataset_info.json" in names:
                folders.clear()
                continue
            folders[:] = sorted(f for f in folders if not f.startswith(".") and f[-5:] != ".part")
            found += [os.path.relpath(os.path.join(place, name), self.root) for name in names]
        return sorted(found)

    def find(self, *patterns: str) -> list[Path]:
        """Files whose name or relative path fits a pattern ('*train*.json'), in sorted order."""
        self.asked.add(patterns)
        return [
            self.folder / name
            for name in self.names
            if any(
                fnmatch.fnmatch(candidate, pattern)
                for candidate in (name, os.path.basename(name))
                for pattern in patterns
            )
        ]

    def need(self, *patterns: str) -> list[Path]:
        """Like `find`.

        Raises:
          UserError: there is none; says what is looked for.
        """
        found = self.find(*patterns)
        if not found:
            raise UserError(f"{self.root}: no file {' or '.join(patterns)}")
        return found

    def relative(self, path: Path) -> str:
        """A file's path below the root."""
        return os.path.relpath(path, self.folder)

    def split(self, path: Path) -> str:
        """The split that a file's name tells, or else the folders it is in, below the root."""
        folders = Path(self.relative(path)).parent.parts
        return split_of(path.stem, *folders[::-1])

    def image(self, *names: str, anywhere: bool = True) -> Blob:
        """The picture of the first name that is there, below the image folder.

        Looked for as a path, then in the image folder's folders: archives unpack as train2014/...,
        images/train2014/... or flat, so a file is the picture if its path is the end of the name,
        or the name the end of its path. Of several such files none is: which is not known. Of a
        missing picture, where it should be: it is missed when it is opened.

        Args:
          *names: paths, relative to the image folder; a bare file name is found in any folder.
          anywhere: False looks for paths only: names such as image.png, that many folders have.
        """
        for name in names:
            path = os.path.join(self.images, name)
            if os.path.isfile(path):
                return Blob(path)
        for name in names if anywhere else ():
            places = self._places.get(os.path.basename(name), ())
            found = [os.path.join(self.images, p) for p in places if _is_end(p, name)]
            if len(found) == 1 or len(set(map(os.path.realpath, found))) == 1:
                return Blob(found[0])
        return Blob(str(self.images / names[0]))

    def video(self, *names: str) -> tuple[Blob, ...]:
        """The video of the first name that is there: a file, or the folder of its frames.

        Args:
          *names: paths relative to the image folder, or file names, without their endings.
        """
        for name in names:
            place = self._videos.get(name) or self._videos.get(os.path.basename(name))
            if place is not None:
                return (Blob(place),)
        for name in names:
            folder = self.images / name
            if folder.is_dir():
                return (Blob(str(folder)),)
        return (Blob(str(self.images / names[0])),)

    @functools.cached_property
    def _places(self) -> dict[str, list[str]]:
        """File name -> paths, relative to the image folder, of all files below it, in order."""
        places: dict[str, list[str]] = {}
        for place, folders, names in os.walk(self.images, followlinks=True):
            folders.sort()
            folder = os.path.relpath(place, self.images)
            for name in sorted(names):
                places.setdefault(name, []).append(os.path.normpath(os.path.join(folder, name)))
        return places

    @functools.cached_property
    def _videos(self) -> dict[str, str]:
        """File name without ending -> path, of all videos below the image folder."""
        return {
            os.path.splitext(name)[0]: os.path.join(self.images, places[0])
            for name, places in self._places.items()
            if os.path.splitext(name)[1].lower() in VIDEOS
        }


def _is_end(path: str, name: str) -> bool:
    """Whether one of two paths is the other's end, in whole parts."""
    path, name = f"/{path}", f"/{os.path.normpath(name).lstrip('/')}"
    return path.endswith(name) or name.endswith(path)


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
      UserError: unreadable, or not JSON; names the file and the place.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}") from None


def read_lines(path: Path) -> Iterator[tuple[str, Any] | Dropped]:
    """JSON lines: ('file:line', value) each; what is not JSON as Dropped; empty ones skipped."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                name = f"{path.name}:{number}"
                try:
                    yield name, json.loads(line)
                except ValueError:
                    yield Dropped(name, "not JSON")


def split_of(*names: str) -> str:
    """The split that the first of some names tells: 'ccpc_valid_v1.0' is validation.

    By whole words: 'latest' tells of no test, 'retrieval' of no validation. Default train.
    """
    for name in names:
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()  # testA.
        for split, mark in _MARKS:
            if mark.search(words):
                return split
    return "train"
