# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Contact sheets: pictures with a line of text below, for looking at data and results."""

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont


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
    font = ImageFont.load_default(size=13)
    wrapped = [textwrap.wrap(caption, width=side // 7) or [""] for caption in captions]
    margin, line = 8, 16
    cell_height = side + line * max(len(lines) for lines in wrapped) + 2 * margin
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (side + margin) + margin, rows * cell_height), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (pixels, lines) in enumerate(zip(images, wrapped, strict=True)):
        x = margin + place % columns * (side + margin)
        y = margin + place // columns * cell_height
        picture = Image.fromarray(pixels)
        scale = side / max(picture.size)
        picture = picture.resize([max(1, round(n * scale)) for n in picture.size])
        sheet.paste(picture, (x, y))
        draw.multiline_text((x, y + side + 3), "\n".join(lines), fill="black", font=font, spacing=2)
    return sheet
