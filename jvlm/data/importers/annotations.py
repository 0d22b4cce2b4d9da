# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What readers of annotation formats share: checked fields, splits, joins, names of pictures."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from jvlm.data.importers.files import Files, read_json, read_lines, split_of
from jvlm.data.importers.json_entries import read_entries
from jvlm.data.importers.records import Blob, Dropped, Record
from jvlm.errors import UserError

T = TypeVar("T")
Named = tuple[str, Any]
"""An annotation with a name for reports."""


class BadEntry(ValueError):
    """An annotation is not as its format has it; the message says how, in a few words.

    Equal mistakes have equal messages, without the value: reports count them.
    """


class Entry:
    """An annotation, a JSON object, whose fields are checked as they are read.

    Every method raises BadEntry for a field that is of another kind, or that is missing, null or
    empty and has no default.

    Attributes:
      name: names it in reports.
      fields: key -> value.
    """

    def __init__(self, name: str, fields: Any):
        if not isinstance(fields, Mapping):
            raise BadEntry("not an object")
        self.name = name
        self.fields = fields

    def _get(self, key: str, default: Any) -> Any:
        value = self.fields.get(key)
        value = default if value is None else value
        empty = value in (None, []) or (isinstance(value, str) and not value.strip())
        if empty and default is None:
            raise BadEntry(f"no {key}")
        return value

    def text(self, key: str, default: str | None = None, *, blank: bool = False) -> str:
        """A text, or a number as one; an empty one only if `blank`."""
        if blank and self.fields.get(key) == "":
            return ""
        return _text(self._get(key, default), key)

    def texts(self, key: str, default: list[str] | None = None) -> list[str]:
        """A list of texts; a text alone is a list of one."""
        value = self._get(key, default)
        return [_text(item, key) for item in (value if isinstance(value, list) else [value])]

    def number(self, key: str) -> int:
        """A whole number."""
        value = self._get(key, None)
        if type(value) is not int:
            raise BadEntry(f"{key} is not a number")
        return value

    def numbers(self, *keys: str) -> list[float]:
        """The numbers under several keys."""
        return numbers([self._get(key, None) for key in keys], ", ".join(keys))

    def entries(self, key: str, default: list | None = None) -> list["Entry"]:
        """A list of objects, named by this one's name and their place."""
        return [Entry(name, value) for name, value in self.items(key, default)]

    def items(self, key: str, default: list | None = None) -> list[Named]:
        """Like `entries`, for `convert`: what is no object is not an error yet."""
        value = self._get(key, default)
        if not isinstance(value, list):
            raise BadEntry(f"{key} is not a list")
        return [(f"{self.name}:{place}", item) for place, item in enumerate(value)]


def _text(value: Any, key: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadEntry(f"{key} is not text")
    return str(value)


def numbers(values: Any, what: str, count: int | None = None) -> list[float]:
    """Numbers as of pixels, `count` of them if that is given.

    Raises:
      BadEntry: something else; says `what`.
    """
    is_list = isinstance(values, list) and count in (None, len(values))
    if not is_list or not all(isinstance(v, int | float) and abs(v) < _MAX_PIXEL for v in values):
        raise BadEntry(f"{what}: not {count} numbers" if count else f"{what}: not numbers")
    return [float(value) for value in values]


_MAX_PIXEL = 1e9  # Neither infinite nor NaN, too.


def corners(values: Any) -> list[float]:
    """A box x, y, width, height (COCO, Visual Genome) as x0, y0, x1, y1, the last two exclusive.

    Raises:
      BadEntry: not four numbers.
    """
    x, y, width, height = numbers(values, "box", 4)
    return [x, y, x + width, y + height]


def convert(
    entries: Iterable[Named | Dropped],
    make: Callable[..., Iterable[Record | Dropped]],
    *args: Any,
) -> Iterator[Record | Dropped]:
    """The records of annotations; what is not as the format has it is dropped, with the reason.

    Args:
      entries: (name, JSON value) each.
      make: (Entry, *args) -> the records of an annotation; raises BadEntry.
      *args: for `make`.
    """
    for entry in entries:
        if isinstance(entry, Dropped):
            yield entry
            continue
        name, fields = entry
        try:
            yield from make(Entry(name, fields), *args)
        except BadEntry as error:
            yield Dropped(name, str(error))


def rows(path: Path, *keys: str) -> Iterator[Named]:
    """The annotations of a JSON file: of a list, named by file and place, or of an object, by key.

    Args:
      path: the file.
      *keys: where in the file's object they are; default the whole file.

    Raises:
      UserError: not JSON, or nothing of that kind.
    """
    return _named(path, keys, read_entries(path, *keys))


def rows_of(path: Path, content: Any, key: str | None = None) -> Iterator[Named]:
    """`rows` of a file that has been read."""
    found = content
    if key is not None:
        found = content.get(key) if isinstance(content, dict) else None
    if isinstance(found, dict | list):
        return _named(
            path,
            (key,) if key else (),
            found.items() if isinstance(found, dict) else enumerate(found),
        )
    raise UserError(f"{path}: no list" + (f" under {key!r}" if key else ""))


def _named(path: Path, keys: tuple[str, ...], entries: Iterable[tuple]) -> Iterator[Named]:
    name = ":".join([path.name, *keys])
    return ((p if isinstance(p, str) else f"{name}:{p}", value) for p, value in entries)


class Table(Generic[T]):
    """What a join needs of annotations, by one of their fields, a text or a number as one.

    Args:
      annotations: those that have no such field are left out.
      key: the field.
      take: what is kept of an entry; may raise BadEntry.
    """

    def __init__(self, annotations: Iterable[Named], key: str, take: Callable[[Entry], T]):
        self._found: dict[str, T | BadEntry] = {}
        for name, fields in annotations:
            if isinstance(fields, Mapping) and isinstance(fields.get(key), str | int):
                try:
                    self._found[str(fields[key])] = take(Entry(name, fields))
                except BadEntry as error:
                    self._found[str(fields[key])] = BadEntry(*error.args)  # Without its traceback.

    def get(self, key: str, default: T | None = None) -> T | None:
        """What is kept of the entry of that key.

        Raises:
          BadEntry: it is not as `take` has it.
        """
        found = self._found.get(key, default)
        if isinstance(found, BadEntry):
            raise BadEntry(*found.args)
        return found


def list_or_lines(path: Path) -> Iterator[Named | Dropped]:
    """The annotations of a file that is a JSON list, JSON lines, or one indented object."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        start = file.read(4096).lstrip()
    if start.startswith("["):
        return rows(path)
    if start.partition("\n")[0].strip() == "{":
        return iter([(path.name, read_json(path))])
    return read_lines(path)


def by_split(
    paths: Iterable[Path], split: Callable[[str], str] = split_of, what: str = "split"
) -> dict[str, Path]:
    """Split -> file, in the order of the files.

    Args:
      split: a file's name without its ending -> what it is a file of; default `split_of`.
      what: names that in the error.

    Raises:
      UserError: two files are of the same split.
    """
    files: dict[str, Path] = {}
    for path in paths:
        name = split(path.stem)
        if name in files:
            raise UserError(
                f"{files[name]} and {path} are both of the {what} {name}: give one file, or one "
                "folder, as SRC (and the pictures with --images)"
            )
        files[name] = path
    return files


def companion(files: Files, path: Path, name: str) -> Path:
    """The file of another name that belongs to `path`: beside it, else anywhere below SRC.

    Raises:
      UserError: there is none.
    """
    return (beside(files, path.parent, name) or files.need(name))[0]


def beside(files: Files, folder: Path, *names: str) -> list[Path]:
    """Those of the files that are in a folder, else anywhere below SRC, which may be one file."""
    anywhere = files.find(*names)
    return [folder / name for name in names if (folder / name).is_file()] or anywhere


def coco_names(image_id: int, *subsets: str) -> list[str]:
    """File names that a picture of COCO can have.

    Args:
      image_id: of the picture, the same number in all releases.
      subsets: where it can be: 'train2014', 'val2014', 'test2015', ...: years before 2017 have
        names with the subset. The names of 2017 come last.
    """
    old = [f"COCO_{subset}_{image_id:012}.jpg" for subset in subsets]
    names = [f"{subset}/{name}" for subset, name in zip(subsets, old)]
    new = [f"{split}2017/{image_id:012}.jpg" for split in ("train", "val", "test")]
    return [*names, *new, *old]


def visual_genome_image(entry: Entry, files: Files) -> tuple[str, Blob]:
    """The number and the picture of an entry of Visual Genome.

    Releases differ in the number's key; the pictures are in two folders.
    """
    image_id = entry.text("id", "") or entry.text("image_id")
    return image_id, files.image(f"VG_100K/{image_id}.jpg", f"VG_100K_2/{image_id}.jpg")


def textvqa_image(files: Files, image_id: str) -> Blob:
    """A picture of TextVQA and TextCaps: those of validation are in the folder of train."""
    name = f"{image_id}.jpg"
    return files.image(f"train_images/{name}", f"test_images/{name}", name)
