# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""RandomAugment of ALBEF and BLIP, to the bit as their OpenCV code runs it, without OpenCV.

From ALBEF dataset/randaugment.py, which BLIP and LAVIS share. Its affine maps are OpenCV 4's
`warpAffine` in fixed point (OpenCV 5 computes others, up to 4 levels away).
"""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageFilter

from jvlm.errors import UserError, did_you_mean

MAX_LEVEL = 10.0
GREY = 128  # Of what an image does not cover.
_LANES = np.uint64(1 | 1 << 21 | 1 << 42)
COMPAT = ("official", "fixed")


def random_augment(
    example,
    rng,
    *,
    magnitude: float,
    count: int = 2,
    probability: float = 0.5,
    operations: Sequence[str] = (),
    compat: str = "official",
    key: str = "image",
) -> dict[str, np.ndarray]:
    """Draws `count` operations, with replacement, and does each with `probability`.

    Args:
      magnitude: level of 10; ALBEF 7, BLIP 5. Shears, shifts and turns go either way.
      count: operations.
      probability: of each.
      operations: names of `OPERATIONS`; default all.
      compat: see `augment`.

    Raises:
      UserError: unknown operation or compat.
    """
    names = list(operations or OPERATIONS)
    image = example[key]
    for place in rng.integers(len(names), size=count):
        if rng.random() < probability:
            level = magnitude if rng.random() < 0.5 else -magnitude
            image = augment(image, names[place], level, compat)
    return {key: image}


def augment(image: np.ndarray, name: str, level: float, compat: str = "official") -> np.ndarray:
    """One operation.

    Args:
      image: uint8[H, W, 3].
      name: key of `OPERATIONS`.
      level: strength from 0 to 10. Of Brightness and Sharpness, 5 changes nothing. Its sign is the
        direction of shears (up to .3), shifts (10 pixels) and turns (30 degrees).
      compat: 'official' keeps two overflows of the published code, which its models were trained
        with: AutoContrast makes a channel without a 0 all 255, and Sharpness wraps around at 0 and
        255. 'fixed' is what was meant.

    Raises:
      UserError: unknown operation or compat.
    """
    if name not in OPERATIONS:
        hint = did_you_mean(name, OPERATIONS)
        raise UserError(f"data: random_augment: operation {name!r} is unknown.{hint}")
    if compat not in COMPAT:
        raise UserError(f"data: random_augment: compat {compat!r} is unknown, choose of {COMPAT}")
    return OPERATIONS[name](image, level / MAX_LEVEL, compat == "official")


def warp_affine(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Moves pixel (x, y) to `matrix @ (x, y, 1)`, bilinear; what is bare is grey.

    OpenCV 4's `warpAffine`: places in 1/32 pixel, weights in 1/1024.

    Args:
      image: uint8[H, W, 3].
      matrix: float[2, 3].
    """
    height, width = image.shape[:2]
    (a, b, c), (d, e, f) = np.asarray(matrix, np.float64)
    scale = 1 / (a * e - b * d)
    a, b, d, e = e * scale, -b * scale, -d * scale, a * scale
    c, f = -a * c - b * f, -d * c - e * f
    fixed = lambda value: np.rint(value * 1024).astype(np.int32)
    columns, rows = np.arange(width), np.arange(height)[:, None]
    x = (fixed(b * rows + c) + 16 + fixed(a * columns)) >> 5
    y = (fixed(e * rows + f) + 16 + fixed(d * columns)) >> 5
    # A border of grey takes all places outside; the three channels of a pixel are lanes of an
    # integer, wide enough for sums of 255 * 1024.
    stride = width + 4
    lanes = np.full((height + 4, stride), GREY * _LANES, np.uint64)
    inner = lanes[2:-2, 2:-2]
    np.copyto(inner, image[..., 2])
    for channel in (1, 0):
        inner <<= 21
        inner |= image[..., channel]
    place = (np.clip(y >> 5, -2, height) + 2) * stride + np.clip(x >> 5, -2, width) + 2
    right, down = (x & 31).astype(np.uint64), (y & 31).astype(np.uint64)
    total = _between(lanes, place, right) * (32 - down)
    total += _between(lanes, place + stride, right) * down + 512 * _LANES
    result = np.empty_like(image)
    for channel in range(3):
        result[..., channel] = total >> (21 * channel + 10)
    return result


def _between(lanes, place, right):
    """Of a pixel and its right neighbour, in 1/32."""
    return lanes.take(place) * (32 - right) + lanes.take(place + 1) * right


def _auto_contrast(image, level, official):
    tables, values = [], np.arange(256)
    for counts in _histograms(image):
        low, high = np.flatnonzero(counts)[[0, -1]]
        if high == low:
            tables.append(values)
            continue
        scale = 255 / (high - low)
        tables.append(values * scale + (256 - low if official and low else -low) * scale)
    return _lookup(image, tables)


def _equalize(image, level, official):
    tables = []
    for counts in _histograms(image):
        step = counts[: np.flatnonzero(counts)[-1]].sum() // 255
        before = np.concatenate([[step // 2], counts[:-1]]).cumsum()
        tables.append(before // step if step else np.arange(256))
    return _lookup(image, tables)


def _brightness(image, level, official):
    return _lookup(image, 3 * [np.arange(256, dtype=np.float32) * np.float32(_factor(level))])


def _sharpness(image, level, official):
    if _factor(level) == 1:
        return image
    smooth = np.asarray(Image.fromarray(image).filter(ImageFilter.SMOOTH))[1:-1, 1:-1]
    smooth, result = smooth.astype(np.float32), image.copy()
    sharp = smooth + np.float32(_factor(level)) * (image[1:-1, 1:-1] - smooth)
    # By way of int32, since what a float beyond uint8 becomes is the processor's choice.
    sharp = (sharp if official else sharp.clip(0, 255)).astype(np.int32)
    result[1:-1, 1:-1] = sharp.astype(np.uint8)
    return result


def _factor(level: float) -> float:
    """Of Brightness and Sharpness, which know no direction."""
    return abs(level) * 1.8 + 0.1


def _histograms(image) -> np.ndarray:
    """int[3, 256]."""
    return np.array(Image.fromarray(image).histogram()).reshape(3, 256)


def _lookup(image, tables) -> np.ndarray:
    """Each channel through its table, clipped and cut down to integers."""
    table = np.concatenate(tables).clip(0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(image).point(table.tolist()))


def _shift(right: float, down: float) -> Callable:
    def shift(image, level, official):
        matrix = [[1, 0, -right * level], [0, 1, -down * level]]
        return warp_affine(image, np.array(matrix, np.float32))

    return shift


def _shear(right: float, down: float) -> Callable:
    def shear(image, level, official):
        return warp_affine(
            image, np.array([[1, right * level, 0], [down * level, 1, 0]], np.float32)
        )

    return shear


def _rotate(image, level, official):
    """About the middle, counter-clockwise."""
    x, y = image.shape[1] / 2, image.shape[0] / 2
    angle = level * 30 * np.pi / 180
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = [[cos, sin, (1 - cos) * x - sin * y], [-sin, cos, sin * x + (1 - cos) * y]]
    return warp_affine(image, np.array(matrix))


# Name -> operation(image, level / 10, official).
OPERATIONS: dict[str, Callable] = {
    "Identity": lambda image, level, official: image,
    "AutoContrast": _auto_contrast,
    "Equalize": _equalize,
    "Brightness": _brightness,
    "Sharpness": _sharpness,
    "ShearX": _shear(0.3, 0),
    "ShearY": _shear(0, 0.3),
    "TranslateX": _shift(10, 0),
    "TranslateY": _shift(0, 10),
    "Rotate": _rotate,
}
