# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Contact sheets: pictures with what belongs to them, for looking at data and results."""

import collections
import dataclasses
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jvlm.data import images
from jvlm.data.describe import as_group, box_of, listed, pictures_of
from jvlm.errors import UserError

Line = tuple[str, str]
"""(text, colour)."""

_BOXES = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#f032e6")
_TEXT, _QUIET, _RIGHT = "#000000", "#606060", "#1a7f37"
_MOST_LINES = 16
_LARGEST = 600  # Pixels of a picture's longer side.
_FONT_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
    "~/Library/Fonts",
    "C:/Windows/Fonts",
)
# Chinese, Japanese and Korean have no spaces to break lines at.
_WIDE = "\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef"


@dataclasses.dataclass(frozen=True)
class Picture:
    """Pixels uint8[H, W, 3], and boxes (x0, y0, x1, y1 in pixels, what they hold)."""

    pixels: np.ndarray
    boxes: Sequence[tuple[Sequence[float], str]] = ()


@dataclasses.dataclass(frozen=True)
class Cell:
    """A place on the sheet: pictures, and lines below them."""

    pictures: Sequence[Picture]
    lines: Sequence[Line]


def contact_sheet(
    images: Sequence[np.ndarray], captions: Sequence[str], *, columns: int = 6, side: int = 160
) -> Image.Image:
    """Arranges images in a grid.

    Args:
      images: uint8[H, W, 3] each; scaled to fit a square.
      captions: one text each; wrapped.
      columns: images a row.
      side: of the square, pixels.
    """
    cells = [
        Cell([Picture(pixels)], [(caption, _TEXT)])
        for pixels, caption in zip(images, captions, strict=True)
    ]
    return draw(cells, columns=columns, side=side, font=font_for(captions)[0])


def draw(cells: Sequence[Cell], *, columns: int, side: int, font: Any) -> Image.Image:
    """Draws cells in rows.

    Args:
      cells: of each, the pictures are scaled to fit into a square.
      columns: cells a row.
      side: of the square, pixels.
      font: see `font_for`.
    """
    margin, line = 8, round(1.25 * font.size)
    columns = min(columns, len(cells))
    drawn = []
    for cell in cells:
        pictures = _join([_scale(p, side, len(cell.pictures), font) for p in cell.pictures], side)
        lines = [(part, ink) for text, ink in cell.lines for part in wrap(text, side, font)]
        if len(lines) > _MOST_LINES:
            lines = [*lines[: _MOST_LINES - 1], ("...", _QUIET)]
        drawn.append((pictures, lines))
    rows = [drawn[start : start + columns] for start in range(0, len(drawn), columns)]
    heights = [
        max((p.height if p else 0) + line * len(lines) + 2 * margin for p, lines in row)
        for row in rows
    ]
    sheet = Image.new("RGB", (columns * (side + margin) + margin, sum(heights)), "white")
    pen = ImageDraw.Draw(sheet)
    top = 0
    for row, height in zip(rows, heights):
        for column, (pictures, lines) in enumerate(row):
            x, y = margin + column * (side + margin), top + margin
            if pictures:
                sheet.paste(pictures, (x, y))
                y += pictures.height + 3
            for text, ink in lines:
                pen.text((x, y), text, fill=ink, font=font)
                y += line
        top += height
    return sheet


def save(picture: Image.Image, out: str | os.PathLike) -> None:
    """Writes a picture; the ending of the name says how. Raises UserError if that fails."""
    try:
        picture.save(Path(out))
    except (OSError, ValueError) as error:
        raise UserError(f"--out {out}: cannot be written: {error}") from None


def cell_of(example: Mapping[str, Any], class_names: Sequence[str] | None = None) -> Cell:
    """How an example looks: any of `importers.schemas`, or similar.

    Args:
      example: raw, from a source.
      class_names: of `label`.

    Raises:
      BadRecord: a picture that cannot be read.
    """
    boxes = _boxes(example)
    pictures = [
        _shrink(images.decode(data), () if number else boxes)
        for number, data in enumerate(pictures_of(example))
    ]
    keys = sorted(example, key=lambda key: key != "title")
    lines = [line for key in keys for line in _lines(key, example, class_names)]
    lines.sort(key=lambda line: line[1] == _QUIET)
    if not lines:
        shown = {k: v for k, v in example.items() if isinstance(v, str | int | float | np.number)}
        if "path" in shown:
            shown["path"] = os.path.basename(shown["path"])
        lines = [(f"{key}: {value}", _QUIET) for key, value in shown.items()]
    return Cell(pictures, lines)


def font_for(texts: Sequence[str], path: str | None = None, size: int = 14) -> tuple[Any, str]:
    """A font of this machine that has the letters of texts.

    Args:
      texts: what will be drawn.
      path: the font file to take.
      size: in pixels.

    Returns:
      (font, some letters that it lacks, '' if none).

    Raises:
      UserError: `path` is no font.
    """
    letters = {letter for text in texts for letter in text if not letter.isspace()}
    try:
        best = ImageFont.load_default(size) if path is None else ImageFont.truetype(path, size)
    except OSError as error:
        raise UserError(f"--font {path}: {error}") from None
    lacking = _lacking(best, letters)
    if path is None and lacking:
        for file in _font_files():
            try:
                font = ImageFont.truetype(file, size)
                lacks = _lacking(font, letters, among=lacking)
            except OSError:
                continue
            if not lacks and not (lacks := _lacking(font, letters)):
                return font, ""
            if len(lacks) < len(lacking):
                best, lacking = font, lacks
    return best, "".join(sorted(lacking)[:10])


def wrap(text: str, width: int, font: Any) -> list[str]:
    """Breaks a text into lines of at most so many pixels; at least one line."""
    lines, line = [], ""
    for paragraph in text.splitlines() or [""]:
        for piece in re.findall(rf"[{_WIDE}]|[^\s{_WIDE}]+|\s+", paragraph):
            if line and font.getlength((line + piece).rstrip()) > width:
                lines.append(line.rstrip())
                line = ""
            while font.getlength(piece) > width and len(piece) > 1:
                fits = max(1, int(len(piece) * width / font.getlength(piece)))
                lines.append(piece[:fits])
                piece = piece[fits:]
            line += piece if line or not piece.isspace() else ""
        lines.append(line.rstrip())
        line = ""
    return lines


def _shrink(pixels: np.ndarray, boxes: Sequence[tuple[np.ndarray, str]]) -> Picture:
    """A photograph as large as a sheet needs it, which may have hundreds."""
    image = Image.fromarray(pixels)
    image.thumbnail((_LARGEST, _LARGEST))
    scale = np.tile([image.width / pixels.shape[1], image.height / pixels.shape[0]], 2)
    return Picture(np.asarray(image), [(box * scale, label) for box, label in boxes])


def _scale(picture: Picture, side: int, count: int, font: Any) -> Image.Image:
    """A picture with its boxes, in its share of the square."""
    side = side // math.ceil(math.sqrt(count))
    image = Image.fromarray(picture.pixels)
    scale = side / max(image.size)
    image = image.resize([max(1, round(length * scale)) for length in image.size])
    pen = ImageDraw.Draw(image)
    small, taken = font.font_variant(size=11), []
    for number, (box, label) in enumerate(picture.boxes):
        ink = _BOXES[number % len(_BOXES)]
        x0, y0, x1, y1 = (float(value) * scale for value in box)
        x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
        pen.rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), outline=ink, width=2)
        if label:
            label = label if len(label) < 40 else f"{label[:37]}..."
            width, height = round(small.getlength(label)) + 4, 14
            left = max(min(round(x0), image.width - width), 0)
            # Above the box, below it or inside, wherever no other label is.
            tops = [max(round(top), 0) for top in (y0 - height, y1, y0 + 2, y1 - height - 2)]
            places = [(left, top, left + width, top + height) for top in tops]
            is_free = lambda place: (
                place[3] <= image.height
                and not any(
                    place[0] < x1 and x0 < place[2] and place[1] < y1 and y0 < place[3]
                    for x0, y0, x1, y1 in taken
                )
            )
            place = next(filter(is_free, places), places[0])
            taken.append(place)
            pen.rectangle((*place[:2], place[2] - 1, place[3] - 1), fill=ink)
            pen.text((place[0] + 2, place[1]), label, fill="white", font=small)
    return image


def _join(pictures: Sequence[Image.Image], side: int) -> Image.Image | None:
    """Several pictures in a square, side by side."""
    if len(pictures) <= 1:
        return pictures[0] if pictures else None
    across = math.ceil(math.sqrt(len(pictures)))
    rows = [pictures[start : start + across] for start in range(0, len(pictures), across)]
    heights = [max(picture.height for picture in row) for row in rows]
    joined = Image.new("RGB", (side, sum(heights)), "white")
    for number, row in enumerate(rows):
        for column, picture in enumerate(row):
            joined.paste(picture, (column * (side // across), sum(heights[:number])))
    return joined


def _boxes(example: Mapping[str, Any]) -> list[tuple[np.ndarray, str]]:
    """The boxes of an example, each with what is said of it."""
    said = _texts(example.get("phrase")) or _texts(example.get("expressions"))
    found = [(example.get("box"), said[0] if said else "")]
    for group in filter(None, map(as_group, example.values())):
        others = {k: listed(v) for k, v in group.items() if k not in ("box", "start", "end")}
        others = {"phrase": others["phrase"]} if "phrase" in others else others
        for number, box in enumerate(listed(group.get("box"))):
            values = [values[number] for values in others.values() if number < len(values)]
            said = " ".join(str(value) for value in values if value is not None)
            found.append((box, said or chr(65 + number)))  # Boxes to choose from have letters.
    return [(box_of(box), said) for box, said in found if box_of(box) is not None]


def _lines(key: str, example: Mapping[str, Any], class_names: Sequence[str] | None) -> list[Line]:
    """The lines of an entry; none where another entry shows it, or it is not for people."""
    value = example[key]
    if group := as_group(value):
        if key == "questions":
            pairs = zip(_column(group, "question"), _column(group, "answer"))
            return [(f"Q: {question}  A: {answer}", _TEXT) for question, answer in pairs]
        if key in ("turns", "conversations"):
            turns = zip(_column(group, "from", "role"), _column(group, "value", "text", "content"))
            return [(f"{who}: {said}", _TEXT) for who, said in turns]
        return []
    texts = _texts(value)
    if key in ("caption", "text", "title", "captions", "expressions", "lines", "explanations"):
        mark = "" if isinstance(value, str) or key == "lines" else "- "
        return [(f"{mark}{text}", _TEXT) for text in texts]
    if key in ("author", "dynasty", "keywords", "context", "category") and texts:
        return [(f"{key}: {', '.join(texts)}", _QUIET)]
    if key == "question":
        return [*((f"Q: {text}", _TEXT) for text in texts), *_answers(example)]
    if key == "prompt":
        return [*((text, _TEXT) for text in texts), *_answers(example)]
    if key == "phrase" and "box" not in example:
        return [(text, _TEXT) for text in texts]
    if key == "label" and texts and not _texts(example.get("choices")) and texts != ["-1"]:
        number = _index(value)
        named = class_names and 0 <= number < len(class_names)
        return [(f"label: {class_names[number] if named else ', '.join(texts)}", _RIGHT)]
    return []


def _answers(example: Mapping[str, Any]) -> list[Line]:
    """Choices with the right one marked, or what annotators answered and how many of them."""
    choices = _texts(example.get("choices"))
    if choices:
        right = _index(example.get("label"))
        marks = [
            ("x", _RIGHT) if number == right else (" ", _TEXT) for number in range(len(choices))
        ]
        return [
            (f"[{mark}] ({chr(65 + number)}) {text}", ink)
            for number, (text, (mark, ink)) in enumerate(zip(choices, marks))
        ]
    answers = example.get("answers", example.get("answer"))
    if group := as_group(answers):  # VQAv2's own files: what each annotator said, and how sure.
        answers = group.get("answer")
    counted = collections.Counter(_texts(answers)).most_common()
    shown = ", ".join(f"{text} x{count}" if count > 1 else text for text, count in counted)
    return [(f"A: {shown}", _RIGHT)] if shown else []


def _texts(value: Any) -> list[str]:
    """The texts and numbers of an entry, one or several or none, as they are shown."""
    return [
        str(entry)
        for entry in listed(value)
        if isinstance(entry, str | int | float | np.number) and entry != ""
    ]


def _column(group: Mapping[str, Any], *names: str) -> list[str]:
    """The first of these entries that a group of lists has, a text in every place."""
    values = next((listed(group[name]) for name in names if name in group), [])
    return ["" if value is None else str(value) for value in values]


def _index(value: Any) -> int:
    """A whole number; -1 of anything else."""
    return int(value) if isinstance(value, int | np.integer) else -1


def _font_files() -> list[str]:
    """The fonts of this machine, upright ones first."""
    found = [
        os.path.join(place, name)
        for folder in _FONT_FOLDERS
        for place, _, names in os.walk(Path(folder).expanduser())
        for name in names
        if name.lower().endswith((".ttf", ".ttc", ".otf"))
    ]
    plain = lambda path: not re.search("Regular|-R|Sans[.]|W3", path)
    return sorted(found, key=lambda path: (plain(os.path.basename(path)), path))


def _lacking(font: Any, letters: set[str], among: set[str] | None = None) -> set[str]:
    """Letters that a font draws as it draws what does not exist; `among` few of them will do."""
    nothing = bytes(font.getmask("\U0010ffff"))
    some = sorted(letters)[:500] if among is None else sorted(among)[:20]
    return {letter for letter in some if bytes(font.getmask(letter)) == nothing}
