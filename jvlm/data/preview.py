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
from jvlm.data.describe import pictures_of
from jvlm.errors import UserError

Line = tuple[str, str]
"""(text, colour)."""

_BOXES = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#f032e6")
_TEXT, _QUIET, _RIGHT = "#000000", "#606060", "#1a7f37"
_MOST_LINES = 16
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


def cell_of(example: Mapping[str, Any], class_names: Sequence[str] | None = None) -> Cell:
    """How an example looks: any of `importers.schemas`, or similar.

    Args:
      example: raw, from a source.
      class_names: of `label`.

    Raises:
      BadRecord: a picture that cannot be read.
    """
    pixels = [images.decode(data) for data in pictures_of(example)]
    boxes = _boxes(example)
    pictures = [Picture(p, () if number else boxes) for number, p in enumerate(pixels)]
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
        pen.rectangle((x0, y0, x1 - 1, y1 - 1), outline=ink, width=2)
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


def _boxes(example: Mapping[str, Any]) -> list[tuple[Sequence[float], str]]:
    """The boxes of an example, each with what is said of it."""
    found = []
    if "box" in example:
        said = example.get("phrase") or _first(example.get("expressions"))
        found.append((example["box"], said or ""))
    for group in example.values():
        if not isinstance(group, Mapping) or "box" not in group:
            continue
        others = {k: v for k, v in group.items() if k not in ("box", "start", "end")}
        others = {"phrase": group["phrase"]} if "phrase" in group else others
        for number, box in enumerate(group["box"]):
            said = " ".join(str(values[number]) for values in others.values())
            found.append((box, said or chr(65 + number)))  # Boxes to choose from have letters.
    return found


def _lines(key: str, example: Mapping[str, Any], class_names: Sequence[str] | None) -> list[Line]:
    """The lines of an entry; none where another entry shows it, or it is not for people."""
    value = example[key]
    if key in ("caption", "text", "title") and value:
        return [(str(value), _TEXT)]
    if key in ("captions", "expressions", "lines", "explanations") and len(value):
        if isinstance(value, str):
            return [(value, _TEXT)]
        return [(text if key == "lines" else f"- {text}", _TEXT) for text in value]
    if key in ("author", "dynasty", "keywords", "context", "category") and len(value):
        return [(f"{key}: {value if isinstance(value, str) else ', '.join(value)}", _QUIET)]
    if key == "question":
        return [(f"Q: {value}", _TEXT), *_answers(example)]
    if key == "questions" and isinstance(value, Mapping):
        pairs = zip(value.get("question", ()), value.get("answer", ()))
        return [(f"Q: {question}  A: {answer}", _TEXT) for question, answer in pairs]
    if key == "prompt":
        return [(str(value), _TEXT), *_answers(example)]
    if key in ("turns", "conversations"):
        return [(f"{who}: {said}", _TEXT) for who, said in _turns(value)]
    if key == "phrase" and "box" not in example:
        return [(str(value), _TEXT)]
    if key == "label" and not len(example.get("choices", ())) and int(value) >= 0:
        name = class_names[int(value)] if class_names and int(value) < len(class_names) else value
        return [(f"label: {name}", _RIGHT)]
    return []


def _answers(example: Mapping[str, Any]) -> list[Line]:
    """Choices with the right one marked, or what annotators answered and how many of them."""
    choices = example.get("choices", ())
    if len(choices):
        right = int(example.get("label", -1))
        marks = [
            ("x", _RIGHT) if number == right else (" ", _TEXT) for number in range(len(choices))
        ]
        return [
            (f"[{mark}] ({chr(65 + number)}) {text}", ink)
            for number, (text, (mark, ink)) in enumerate(zip(choices, marks))
        ]
    answers = example.get("answers", example.get("answer"))
    if answers is None or not len(answers):
        return []
    if isinstance(answers, str):
        return [(f"A: {answers}", _RIGHT)]
    counted = collections.Counter(answers).most_common()
    shown = (f"{text} x{count}" if count > 1 else text for text, count in counted)
    return [(f"A: {', '.join(shown)}", _RIGHT)]


def _turns(value: Any) -> list[tuple[str, str]]:
    """(who, what) of a conversation: a group of lists, or LLaVA's list of {from, value}."""
    if isinstance(value, Mapping):
        return list(zip(value.get("role", ()), value.get("text", ())))
    return [
        (str(turn.get("from", turn.get("role", "?"))), str(turn.get("value", turn.get("text", ""))))
        for turn in value
        if isinstance(turn, Mapping)
    ]


def _first(values: Any) -> Any:
    return values[0] if values is not None and len(values) else None


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
