# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""digit_scenes: scikit-learn's handwritten digits, inked in colour on textured backgrounds.

One small dataset that exercises every task: captions, retrieval, questions, grounding, labels. It
needs no download and is the same on every machine: each scene is a pure function of (config, split,
index), its random numbers come from `np.random.RandomState`, whose streams are frozen, and its
pixels from integer arithmetic. Read top to bottom: handwriting, picture, words, TFDS.
"""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import io
import itertools
import json
import math
import os
import sys
from typing import ClassVar, NamedTuple

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds
import tqdm
from absl import logging

from jvlm import errors

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
INKS = {
    "red": (205, 25, 30),
    "green": (20, 135, 40),
    "blue": (25, 55, 210),
    "yellow": (237, 216, 20),
    "purple": (140, 30, 165),
}
COLOURS = tuple(INKS)
SPLITS = {"train": 20_000, "validation": 2_000, "test": 2_000}  # Scenes.

# Axis of a box -> what its lower and its higher end are called: in a phrase, and in a relation.
SIDES = (("left", "right"), ("upper", "lower"))
RELATIONS = (("to the left of", "to the right of"), ("above", "below"))
PHRASINGS = (  # Of the three captions: how they start, and what they call a digit.
    ("", "a {0.name}"),
    ("", "the digit {0.word} in {0.colour} ink"),
    ("a picture of ", "a {0.name}"),
)


@dataclasses.dataclass(eq=False)
class SceneConfig(tfds.core.BuilderConfig):
    """What the scenes of one builder config look like."""

    side: int = 0  # Height and width of the picture, px.
    max_digits: int = 0  # A scene has 1 to this many, each count equally often.
    sizes: tuple[int, int] = (0, 0)  # Of the square into which a digit was written, px.
    axes: tuple[int, ...] = (0,)  # Along which words relate digits: 0 is x, 1 is y.
    limit: int | None = None  # Scenes per split, where fewer than in SPLITS.

    @property
    def splits(self) -> dict[str, int]:
        """Split -> number of scenes."""
        return {split: min(size, self.limit or size) for split, size in SPLITS.items()}


CONFIGS = {
    "small": SceneConfig("small", side=48, max_digits=2, sizes=(20, 28)),
    "full": SceneConfig("full", side=96, max_digits=4, sizes=(20, 36), axes=(0, 1)),
    # The first scenes of `small`, for smoke tests: made in a second.
    "tiny": SceneConfig("tiny", side=48, max_digits=2, sizes=(20, 28), limit=128),
}


class Item(NamedTuple):
    """One digit of a scene."""

    digit: int
    colour: str
    box: list[int]  # x0, y0, x1, y1 in pixels, x1 and y1 exclusive: exactly the inked pixels.

    @property
    def word(self) -> str:
        return DIGITS[self.digit]

    @property
    def name(self) -> str:
        return f"{self.colour} {self.word}"


def compose(config: str, split: str, index: int) -> dict:
    """Makes one scene.

    Args:
      config: a key of CONFIGS.
      split: a key of SPLITS.
      index: the scene's number in its split.

    Returns:
      The example as in `DigitScenes`, but `image` is uint8[side, side, 3] and boxes are integers.

    Raises:
      KeyError: no such config or split.
      IndexError: no such scene in the split.
    """
    cfg = CONFIGS[config]
    if not 0 <= index < cfg.splits[split]:
        raise IndexError(f"{split} has scenes 0 to {cfg.splits[split] - 1}, not {index}.")
    rng = np.random.RandomState([cfg.side, list(SPLITS).index(split), index])
    image = _background(rng, cfg.side)
    phrases = []
    while not phrases:  # Two red sevens, neither clearly left or above: draw again.
        items, covers = _arrange(rng, cfg, split)
        phrases = _phrases(items, cfg.axes)
    for item, cover in zip(items, covers, strict=True):
        x0, y0, x1, y1 = item.box
        patch = image[y0:y1, x0:x1]
        ink = INKS[item.colour] + rng.randint(-16, 17, size=3)
        patch += (ink - patch) * cover[..., None] >> 8
    phrase, box = _pick(rng, phrases)
    captions, meaning = _captions(rng, items, cfg.axes)
    return {
        "image": image.astype(np.uint8),
        "captions": captions,
        "objects": [item._asdict() for item in items],
        "questions": _questions(rng, items, cfg.axes),
        "phrase": phrase,
        "box": box,
        "label": items[0].digit if len(items) == 1 else -1,
        "meaning": meaning,
        "id": index,
    }


# ---- Handwriting ----

_CELLS = 12  # Side of a field in cells of the 8x8 original: itself and a margin of 2.
_DETAIL = 4  # Field samples per cell.


@functools.cache
def _cubic(cells: int, detail: int) -> tuple[np.ndarray, int]:
    """Catmull-Rom interpolation, `detail` samples per cell, as (int64[samples, cells], divisor)."""
    unit = 2 * detail  # Sample and cell centres are whole multiples of 1 / unit cells.
    centres = (2 * np.arange(cells) + 1) * detail
    d = abs(2 * np.arange(cells * detail)[:, None] + 1 - centres)
    near = 2 * unit**3 - 5 * unit * d**2 + 3 * d**3
    far = 4 * unit**3 - 8 * unit**2 * d + 5 * unit * d**2 - d**3
    return np.where(d < unit, near, np.where(d < 2 * unit, far, 0)), 2 * unit**3


@functools.cache
def handwriting() -> tuple[np.ndarray, dict[str, list[np.ndarray]]]:
    """The 1,797 digits, and which of them each split may use.

    A field is the smooth surface through the 8x8 grey levels; its level line is the pen stroke. So
    a digit enlarges like a font, without steps or blur (`_cover`).

    Returns:
      (fields int64[1797, 48, 48] of 16 x grey level, {split: ten arrays of sample numbers}).
    """
    import sklearn.datasets  # Takes a second; only who composes scenes pays for it.

    pixels, labels = sklearn.datasets.load_digits(return_X_y=True)
    cells = np.pad(pixels.reshape(-1, 8, 8).astype(np.int64), ((0, 0), (2, 2), (2, 2)))
    weights, divisor = _cubic(_CELLS, _DETAIL)
    fields = weights @ cells @ weights.T * 16 // divisor**2
    rng = np.random.RandomState(0)
    pools = {split: [] for split in SPLITS}
    for digit in range(10):
        samples = rng.permutation(np.flatnonzero(labels == digit))
        tenth = len(samples) // 10
        parts = np.split(samples, [len(samples) - 2 * tenth, len(samples) - tenth])
        for split, part in zip(SPLITS, parts, strict=True):
            pools[split].append(part)
    return fields, pools


_UNIT = 8 * _DETAIL * 128  # 1/256 field samples per half pixel, of a digit 1 px large.
_TURNS = [
    (round(_UNIT * math.cos(a)), round(_UNIT * math.sin(a))) for a in np.radians(range(-15, 16))
]


def _cover(field: np.ndarray, size: int, degrees: int, level: int) -> np.ndarray:
    """One digit's ink: how much of each pixel it covers, cropped to the inked pixels.

    Args:
      field: int64[48, 48], see `handwriting`.
      size: side of the square into which the digit was written, px.
      degrees: rotation, -15 to 15.
      level: 16 x the grey level at which the stroke ends; higher is thinner.

    Returns:
      int64[height, width], 256 = all of the pixel.
    """
    samples = _CELLS * _DETAIL
    side = size + size // 3  # Holds the square at 15 degrees; its corners are never inked.
    cos, sin = _TURNS[degrees + 15]
    at = 2 * np.arange(side) + 1 - side  # Pixel centres, half pixels from the middle.
    x = (cos * at + sin * at[:, None]) // size + 128 * (samples - 1)
    y = (cos * at[:, None] - sin * at) // size + 128 * (samples - 1)
    x, y = (v.clip(0, 256 * (samples - 1) - 1) for v in (x, y))  # The field's rim is empty.
    flat, corner, fx, fy = field.ravel(), (y >> 8) * samples + (x >> 8), x & 255, y & 255
    upper = flat[corner] * (256 - fx) + flat[corner + 1] * fx
    lower = flat[corner + samples] * (256 - fx) + flat[corner + samples + 1] * fx
    value = (upper * (256 - fy) + lower * fy) >> 16
    # An edge rises by about 256 a cell, a cell is size / 8 px: a ramp of some 1.5 px at any size.
    cover = (128 + (value - level) * size // 12).clip(0, 256)
    cover[cover < 32] = 0  # Ink that nobody sees shall not widen the box.
    rows, columns = (np.flatnonzero(cover.any(axis)) for axis in (1, 0))
    return cover[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


# ---- Picture ----


def _pick(rng: np.random.RandomState, options):
    return options[rng.randint(len(options))]


def _background(rng: np.random.RandomState, side: int) -> np.ndarray:
    """A greyish tint, a gradient, soft blotches and fine grain, as int64[side, side, 3]."""
    weights, divisor = _cubic(8, side // 6)
    weights = weights[side // 6 : -side // 6]  # The outer blotches lie outside the picture.
    blotches = rng.randint(-32, 33, size=(1, 8, 8)) + rng.randint(-10, 11, size=(3, 8, 8))
    image = (weights @ blotches @ weights.T // divisor**2).transpose(1, 2, 0)
    at = 2 * np.arange(side) + 1 - side
    rise = rng.randint(-36, 37, size=2)  # Across the picture, down and to the right.
    image += ((rise[0] * at[:, None] + rise[1] * at) // (2 * side))[..., None]
    image += rng.randint(100, 161) + rng.randint(-12, 13, size=3)
    grain = np.frombuffer(rng.bytes(side * side), np.uint8).reshape(side, side, 1)
    return image + (grain & 7).astype(np.int64) * 2 - 7


def _place(rng: np.random.RandomState, shapes: np.ndarray, side: int) -> list | None:
    """Random boxes of the given shapes int[n, (height, width)] that stay a pixel apart, or None."""
    extent = shapes[:, ::-1]
    corner = rng.randint(0, side + 1 - extent, size=(128, len(shapes), 2))  # 128 tries at once.
    boxes = np.concatenate([corner, corner + extent], axis=-1)
    free = np.ones(len(boxes), bool)
    for i, j in itertools.combinations(range(len(shapes)), 2):
        one, two = boxes[:, i], boxes[:, j]
        free &= ((one[:, 2:] < two[:, :2]) | (two[:, 2:] < one[:, :2])).any(axis=-1)
    return boxes[free.argmax()].tolist() if free.any() else None


def _arrange(rng: np.random.RandomState, cfg: SceneConfig, split: str) -> tuple[list[Item], list]:
    """Draws a scene's items and the cover of each."""
    fields, pools = handwriting()
    count = rng.randint(1, cfg.max_digits + 1)
    boxes = None
    while boxes is None:  # Too large to fit: draw other digits, but as many.
        inks, covers = [], []
        for _ in range(count):
            digit = rng.randint(10)
            inks.append((digit, _pick(rng, COLOURS)))
            field = fields[_pick(rng, pools[split][digit])]
            size = rng.randint(cfg.sizes[0], cfg.sizes[1] + 1)
            covers.append(_cover(field, size, rng.randint(-15, 16), rng.randint(100, 133)))
        boxes = _place(rng, np.array([cover.shape for cover in covers]), cfg.side)
    return [Item(*ink, box) for ink, box in zip(inks, boxes, strict=True)], covers


# ---- Words ----


def _in_order(one: Item, two: Item, axis: int) -> bool:
    """Whether `one` is clearly left of (axis 0) or above (1) `two`: by half a digit, at centre."""
    a, b = one.box, two.box
    size = max(a[2] - a[0], a[3] - a[1], b[2] - b[0], b[3] - b[1])
    return b[axis] + b[axis + 2] - a[axis] - a[axis + 2] >= size  # Twice the centres' distance.


def _pairs(items: list[Item], axis: int) -> list[tuple[Item, Item]]:
    """Pairs (left, right) or (upper, lower) that are clearly so, of items known by their name."""
    names = collections.Counter(item.name for item in items)
    known = [item for item in items if names[item.name] == 1]
    return [pair for pair in itertools.permutations(known, 2) if _in_order(*pair, axis)]


def _phrases(items: list[Item], axes: tuple[int, ...]) -> list[tuple[str, list[int]]]:
    """Every phrase that fits exactly one item, with that item's box."""
    fits = collections.defaultdict(list)
    for item in items:
        for name in ("digit", item.word, f"{item.colour} digit", item.name):
            fits[name].append(item)
    phrases = []
    for name, found in fits.items():
        if len(found) == 1 and name != "digit":
            phrases.append((f"the {name}", found[0].box))
        elif len(found) == 2:
            for axis, pair in itertools.product(axes, (found, found[::-1])):
                if _in_order(*pair, axis):
                    for side, item in zip(SIDES[axis], pair, strict=True):
                        phrases.append((f"the {side} {name}", item.box))
    return phrases


def _captions(rng, items: list[Item], axes: tuple[int, ...]) -> tuple[list[str], str]:
    """Three captions of one meaning, and the meaning.

    Half of the two-digit scenes that have a clear relation state it. Otherwise the order of mention
    is random and says nothing.
    """
    meaning = ", ".join(sorted(item.name for item in items))
    relations = [(axis, *pair) for axis in axes for pair in _pairs(items, axis)]
    stated = len(items) == 2 and relations and rng.randint(2)
    if stated:
        axis, *pair = _pick(rng, relations)
        meaning += f"; {pair[0].name} {RELATIONS[axis][0]} {pair[1].name}"
    captions = []
    for start, phrasing in PHRASINGS:
        if stated:
            side = rng.randint(2)
            mentioned, link = (pair[side], pair[1 - side]), RELATIONS[axis][side]
        else:
            mentioned, link = (items[i] for i in rng.permutation(len(items))), "and"
        *others, last = (phrasing.format(item) for item in mentioned)
        captions.append(start + (f"{', '.join(others)} {link} {last}" if others else last))
    return captions, meaning


def _questions(rng, items: list[Item], axes: tuple[int, ...]) -> list[dict]:
    """Questions with exactly one right answer; half of the yes/no questions have the answer yes."""
    questions = []

    def ask(kind: str, question: str, answer: str):
        questions.append({"question": question + "?", "answer": answer, "kind": kind})

    names, words, colours = (
        collections.Counter(getattr(item, key) for item in items)
        for key in ("name", "word", "colour")
    )
    one = _pick(rng, items)
    if len(items) == 1:
        ask("digit", "what digit is this", one.word)
        ask("colour", "what colour is the digit", one.colour)
    if colours[one.colour] == 1:
        ask("digit", f"which digit is {one.colour}", one.word)
    if words[one.word] == 1:
        ask("colour", f"what colour is the {one.word}", one.colour)

    ask("count", "how many digits are there", DIGITS[len(items)])
    colour = _pick(rng, (one.colour, _pick(rng, COLOURS)))
    ask("count", f"how many {colour} digits are there", DIGITS[colours[colour]])

    # Names asked after in vain share the colour or the digit with something in the scene.
    near = [f"{c} {w}" for c in COLOURS for w in DIGITS if c in colours or w in words]
    for thing, known, present in (
        ("{}", near, names),
        ("{}", DIGITS, words),
        ("{} digit", COLOURS, colours),
    ):
        answer = rng.randint(2)
        asked = _pick(rng, [name for name in known if (name in present) == answer])
        article = "an" if asked == "eight" else "a"
        ask("yes_no", f"is there {article} {thing.format(asked)}", ("no", "yes")[answer])

    for axis in axes:
        if not (pairs := _pairs(items, axis)):
            continue
        pair, side, said = _pick(rng, pairs), rng.randint(2), rng.randint(2)
        item, other = pair[side], pair[1 - side]
        answer = ("no", "yes")[side == said]
        ask("yes_no", f"is the {item.name} {RELATIONS[axis][said]} the {other.name}", answer)
        if axis == 0:
            where, either = SIDES[0][side], " or ".join(RELATIONS[0])
            ask("position", f"is the {item.name} {either} the {other.name}", where)
            if len(items) == 2:
                ask("digit", f"which digit is on the {where}", item.word)
                ask("colour", f"what colour is the digit on the {where}", item.colour)
    return questions


# ---- TFDS ----


class DigitScenes(tfds.core.GeneratorBasedBuilder):
    """Scenes of handwritten digits; record i of a split is scene i."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar = list(CONFIGS.values())

    tick = staticmethod(lambda: None)  # Called after each scene.

    def _info(self) -> tfds.core.DatasetInfo:
        side, text = self.builder_config.side, tfds.features.Text()
        box = tfds.features.Tensor(shape=(4,), dtype=np.float32)  # As in `Item`.
        features = {
            "image": tfds.features.Image(shape=(side, side, 3), encoding_format="png"),
            "captions": tfds.features.Sequence(text),  # Three, of one meaning.
            "objects": tfds.features.Sequence({"digit": np.int32, "colour": text, "box": box}),
            "questions": tfds.features.Sequence({"question": text, "answer": text, "kind": text}),
            "phrase": text,  # Fits exactly one object,
            "box": box,  # which is here.
            "label": np.int32,  # The digit of a one-digit scene, else -1.
            "meaning": text,  # Equal for two scenes iff their captions say the same.
            "id": np.int32,  # The scene's number in its split.
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits, inked in colour on textured backgrounds.",
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,  # Scenes are independent, so that record i can be scene i.
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split):
        for index in range(self.builder_config.splits[split]):
            scene = compose(self.builder_config.name, split, index)
            # TFDS would need TensorFlow to encode an array. Grain compresses no better at level 9.
            png = io.BytesIO()
            PIL.Image.fromarray(scene["image"]).save(png, "png", compress_level=1)
            scene["image"] = png.getvalue()
            self.tick()
            yield index, scene


@contextlib.contextmanager
def _one_bar(builder: DigitScenes, total: int):
    """One progress bar, instead of TFDS's banner, log lines and three nested bars."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with (
            tqdm.tqdm(
                total=total,
                desc=builder.info.full_name,
                unit="scene",
                mininterval=0.1 if sys.stderr.isatty() else 10.0,
            ) as bar,
            contextlib.redirect_stdout(io.StringIO()),
        ):
            builder.tick = bar.update
            yield
    finally:
        tfds.enable_progress_bar()
        logging.set_verbosity(verbosity)


def prepare(
    config: str = "small", data_dir: str | os.PathLike | None = None
) -> tfds.core.DatasetBuilder:
    """Makes the dataset, unless it is there already.

    Args:
      config: a key of CONFIGS.
      data_dir: TFDS data directory; TFDS's default if None.

    Returns:
      The builder, ready for `as_data_source`.

    Raises:
      UserError: no such config.
    """
    if config not in CONFIGS:
        raise errors.UserError(f"No digit_scenes {config!r}.{errors.did_you_mean(config, CONFIGS)}")
    make = functools.partial(
        DigitScenes, config=config, data_dir=data_dir, file_format="array_record"
    )
    builder = make()
    if not builder.data_path.exists():
        how = tfds.download.DownloadConfig(try_download_gcs=False)
        try:
            with _one_bar(builder, total=sum(CONFIGS[config].splits.values())):
                builder.download_and_prepare(download_config=how)
        except OSError:
            if not builder.data_path.exists():
                raise
            # Another process made the same data and was first; TFDS cannot rename over it.
        builder = make()
    return builder


def content_hash(config: str, split: str, count: int | None = None) -> str:
    """SHA-256 of the first `count` scenes (default all): pixels, then the rest as JSON."""
    digest = hashlib.sha256()
    for index in range(CONFIGS[config].splits[split] if count is None else count):
        scene = compose(config, split, index)
        digest.update(scene.pop("image").tobytes())
        digest.update(json.dumps(scene, sort_keys=True, separators=(",", ":")).encode())
    return digest.hexdigest()
