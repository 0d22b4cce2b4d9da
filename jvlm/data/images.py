# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Image files and pixels on the host: uint8[H, W, 3] in, uint8[H, W, 3] out."""

import io
import math
import os
from collections.abc import Sequence

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from jvlm.errors import UserError, did_you_mean

try:
    import cykooz_resizer as resizer
except ImportError:  # Of Linux on ARM there is no build: Pillow does it, ten times slower.
    resizer = None

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class BadRecord(ValueError):
    """An example that cannot be used; the pipeline replaces and counts it."""


def decode(data: bytes) -> np.ndarray:
    """Decodes an image file's bytes into RGB uint8[H, W, 3].

    Raises:
      BadRecord: not an image, or a damaged one.
    """
    try:
        if data[:3] == b"\xff\xd8\xff":
            try:
                return simplejpeg.decode_jpeg(data, "RGB")
            except ValueError:
                pass  # CMYK and other rarities: Pillow knows them.
        with Image.open(io.BytesIO(data)) as image:
            return _rgb(image)
    except UnidentifiedImageError:  # Its message has an address in memory.
        raise BadRecord("not a readable image (of no known format)") from None
    except Exception as error:  # Pillow raises half a dozen kinds for damaged files.
        raise BadRecord(f"not a readable image ({error})") from error


def read(path: str | os.PathLike) -> np.ndarray:
    """Reads an image file.

    Raises:
      UserError: missing or not an image; names the file.
    """
    try:
        with open(path, "rb") as file:
            return decode(file.read())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except BadRecord as error:
        raise UserError(f"{path}: {error}") from None


def to_array(image: "np.ndarray | Image.Image | str | os.PathLike") -> np.ndarray:
    """Takes a path, a Pillow image or an array; returns RGB uint8[H, W, 3]."""
    if isinstance(image, str | os.PathLike):
        return read(image)
    if isinstance(image, Image.Image):
        return _rgb(image)
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise UserError(f"image array {image.dtype}{list(image.shape)}: give uint8[H, W, 3]")
    return image


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):  # Pillow makes white of all that is above 255.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.asarray(image.convert("RGB"))


def resize(image: np.ndarray, height: int, width: int, resample: str = "bicubic") -> np.ndarray:
    """Resizes with antialiasing, as Pillow does it (and every official pipeline).

    Args:
      image: uint8[H, W, 3].
      height, width: in pixels.
      resample: Pillow's name of a filter in lower case.
    """
    if image.shape[:2] == (height, width):
        return image
    if resample.upper() not in Image.Resampling.__members__:
        hint = did_you_mean(resample, map(str.lower, Image.Resampling.__members__))
        raise UserError(f"resample {resample!r} is unknown.{hint}")
    filter_ = Image.Resampling[resample.upper()]
    return np.asarray(Image.fromarray(image).resize((width, height), filter_))


def resize_fast(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The bicubic `resize` in a tenth of the time, for augmentation: no one's pixels are matched.

    The same antialiasing filter, rounded to 8 bits between columns and rows and not, as Pillow
    does, between rows and columns: less than 0.3 levels away on average.

    Args:
      image: uint8[H, W, 3], contiguous or a crop.
      height, width: in pixels.
    """
    if resizer is None or image.shape[:2] == (height, width):
        return resize(image, height, width)
    rgb = resizer.PixelType.U8x3
    source = resizer.ImageData(image.shape[1], image.shape[0], rgb, image.tobytes())
    result = resizer.ImageData(width, height, rgb)
    bicubic = resizer.ResizeAlg.convolution(resizer.FilterType.catmull_rom)
    resizer.Resizer().resize(source, result, resizer.ResizeOptions(bicubic))
    return np.frombuffer(result.get_buffer(), np.uint8).reshape(height, width, 3)


def resize_shortest(image: np.ndarray, size: int, resample: str = "bicubic") -> np.ndarray:
    """Resizes so that the shorter side is `size`; the longer one is cut down to an integer."""
    return resize(image, *shortest_size(*image.shape[:2], size), resample)


def shortest_size(height: int, width: int, size: int) -> tuple[int, int]:
    """(height, width) that `resize_shortest` makes of an image."""
    if height <= width:
        return size, int(size * width / height)
    return int(size * height / width), size


def resize_cover(
    image: np.ndarray, height: int, width: int, resample: str = "bicubic"
) -> np.ndarray:
    """Resizes, ratio kept, so that height x width just fits in (timm's ResizeKeepRatio)."""
    return resize(image, *cover_size(*image.shape[:2], height, width), resample)


def cover_size(height: int, width: int, least_height: int, least_width: int) -> tuple[int, int]:
    """(height, width) that `resize_cover` makes of an image."""
    ratio = min(height / least_height, width / least_width)
    return round(height / ratio), round(width / ratio)


def center_crop(
    image: np.ndarray, height: int, width: int | None = None, rounding: str = "even"
) -> np.ndarray:
    """Cuts the middle; `width` is `height` by default.

    Args:
      image: uint8[H, W, 3].
      height, width: in pixels.
      rounding: where the border is an odd number of pixels, the half goes 'even' (torchvision,
        open_clip) or 'down' (transformers).
    """
    width = height if width is None else width
    top, left = crop_place(*image.shape[:2], height, width, rounding)
    missing = [max(0, side - size) for side, size in zip((height, width), image.shape)]
    if any(missing):  # Black borders, as torchvision and transformers add them.
        borders = [(pixels // 2, pixels - pixels // 2) for pixels in missing]
        image = np.pad(image, (*borders, (0, 0)))
    top, left = max(0, top), max(0, left)
    return image[top : top + height, left : left + width]


def crop_place(
    height: int, width: int, new_height: int, new_width: int, rounding: str = "even"
) -> tuple[int, int]:
    """(top, left) of `center_crop` in an image; negative where it adds a border."""
    if rounding not in ("even", "down"):
        raise UserError(f"rounding {rounding!r} is unknown, choose 'even' or 'down'")
    half = round if rounding == "even" else math.floor
    sides = ((height, new_height), (width, new_width))
    top, left = (half((old - new) / 2) if old >= new else -((new - old) // 2) for old, new in sides)
    return top, left


def pad_square(image: np.ndarray, color: Sequence[int]) -> np.ndarray:
    """Adds borders of a colour that make a square; an odd pixel goes to the right or below."""
    height, width = image.shape[:2]
    size = max(height, width)
    square = np.full((size, size, 3), color, np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = image
    return square


def mirror(image: np.ndarray) -> np.ndarray:
    """Left to right; numpy's copy of a view with a negative stride takes three times as long."""
    return np.asarray(Image.fromarray(image).transpose(Image.Transpose.FLIP_LEFT_RIGHT))


def affine(
    image: np.ndarray, *, rotate: float, shear: float, scale: float, shift: tuple[float, float]
) -> np.ndarray:
    """Rotates, shears, scales and shifts about the middle; bare corners get the mean colour.

    Args:
      image: uint8[H, W, 3].
      rotate, shear: degrees.
      scale: above 1 enlarges.
      shift: (right, down) in pixels.
    """
    height, width = image.shape[:2]
    angle, slant = np.radians(rotate), np.tan(np.radians(shear))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # Pillow asks where each pixel of the result comes from: the inverse map.
    back = np.linalg.inv(scale * turn @ np.array([[1.0, slant], [0.0, 1.0]]))
    middle = np.array([width / 2, height / 2])
    offset = middle - back @ (middle + np.asarray(shift))
    matrix = (*back[0], offset[0], *back[1], offset[1])
    result = Image.fromarray(image).transform(
        (width, height),
        Image.Transform.AFFINE,
        matrix,
        Image.Resampling.BICUBIC,
        fillcolor=tuple(int(c) for c in image.mean((0, 1))),
    )
    return np.asarray(result)


def random_resized_crop(
    image: np.ndarray,
    size: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Crops a random part and resizes it to size x size (torchvision's RandomResizedCrop).

    Args:
      image: uint8[H, W, 3].
      size: side of the result in pixels.
      scale: range of the crop's share of the area.
      ratio: range of its width / height, drawn log-uniformly.
      rng: random numbers.
    """
    height, width = image.shape[:2]
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = np.exp(rng.uniform(np.log(ratio[0]), np.log(ratio[1])))
        w, h = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            return resize_fast(image[top : top + h, left : left + w], size, size)
    # No crop of that shape fits: the largest one in the middle with the nearest allowed ratio.
    aspect = np.clip(width / height, *ratio)
    w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
    top, left = (height - h) // 2, (width - w) // 2
    return resize_fast(image[top : top + h, left : left + w], size, size)
