# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""AutoAugment's ImageNet policy (arXiv:1805.09501) as timm runs it for Chinese-CLIP's finetunes.

timm data/auto_augment.py, 'original': every operation is Pillow's.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from jvlm.errors import UserError, did_you_mean

# Two operations each: (name, probability, level of 10).
POLICY = (
    (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
    (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
    (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
    (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
    (("Equalize", 0.4, 4), ("Rotate", 0.8, 8)),
    (("Solarize", 0.6, 3), ("Equalize", 0.6, 7)),
    (("Posterize", 0.8, 5), ("Equalize", 1.0, 2)),
    (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
    (("Equalize", 0.6, 8), ("Posterize", 0.4, 6)),
    (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
    (("Rotate", 0.4, 9), ("Equalize", 0.6, 2)),
    (("Equalize", 0.0, 7), ("Equalize", 0.8, 8)),
    (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
    (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
    (("Sharpness", 0.4, 7), ("Invert", 0.6, 8)),
    (("ShearX", 0.6, 5), ("Equalize", 1.0, 9)),
    (("Color", 0.4, 0), ("Equalize", 0.6, 3)),
    (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
    (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
)


def auto_augment(
    example, rng, *, fill: Sequence[int] = (123, 117, 104), key: str = "image"
) -> dict[str, np.ndarray]:
    """Draws one of the policy's 25 pairs and does each operation with its probability.

    Args:
      fill: colour of what an image does not cover; default CLIP's mean, rounded as timm does.
    """
    image = example[key]
    for name, probability, level in POLICY[int(rng.integers(len(POLICY)))]:
        if rng.random() < probability:
            image = augment(image, name, level if rng.random() < 0.5 else -level, fill)
    return {key: image}


def augment(image: np.ndarray, name: str, level: float, fill: Sequence[int]) -> np.ndarray:
    """One operation.

    Args:
      image: uint8[H, W, 3].
      name: key of `OPERATIONS`.
      level: up to 10; its sign is the direction of Rotate (30 degrees) and ShearX (.3). Of Color,
        Contrast and Sharpness, 5 changes nothing; Posterize and Solarize change less with more.
      fill: see `auto_augment`.

    Raises:
      UserError: unknown operation.
    """
    if name not in OPERATIONS:
        hint = did_you_mean(name, OPERATIONS)
        raise UserError(f"data: auto_augment: operation {name!r} is unknown.{hint}")
    return np.asarray(OPERATIONS[name](Image.fromarray(image), level / 10, tuple(fill)))


def _rotate(image, level, fill):
    return image.rotate(30 * level, Image.Resampling.BICUBIC, fillcolor=fill)


def _shear(image, level, fill):
    matrix = (1, 0.3 * level, 0, 0, 1, 0)
    affine, bicubic = Image.Transform.AFFINE, Image.Resampling.BICUBIC
    return image.transform(image.size, affine, matrix, bicubic, fillcolor=fill)


def _posterize(image, level, fill):
    bits = 4 + int(abs(level) * 4)
    return image if bits == 8 else ImageOps.posterize(image, bits)


def _enhance(kind):
    return lambda image, level, fill: kind(image).enhance(0.1 + 1.8 * abs(level))


# Name -> operation(Pillow image, level / 10, fill).
OPERATIONS = {
    "AutoContrast": lambda image, level, fill: ImageOps.autocontrast(image),
    "Color": _enhance(ImageEnhance.Color),
    "Contrast": _enhance(ImageEnhance.Contrast),
    "Equalize": lambda image, level, fill: ImageOps.equalize(image),
    "Invert": lambda image, level, fill: ImageOps.invert(image),
    "Posterize": _posterize,
    "Rotate": _rotate,
    "Sharpness": _enhance(ImageEnhance.Sharpness),
    "ShearX": _shear,
    "Solarize": lambda image, level, fill: ImageOps.solarize(image, int(abs(level) * 256)),
}
