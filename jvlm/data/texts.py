# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""How ALBEF and BLIP clean captions and questions; steps, see `data.transforms`.

LAVIS's blip_caption and blip_question are BLIP's functions; its ALBEF models are trained with them.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from jvlm.data.examples import entry
from jvlm.data.images import BadRecord
from jvlm.errors import UserError, did_you_mean

# Variant -> what is deleted, what becomes a space (ALBEF dataset/utils.py, BLIP data/utils.py).
_CAPTION = {"albef": (",.'!?\"()*#:;~", "-/"), "blip": ("", '.!"()*#:;~')}
_QUESTION = {"albef": (",.'!?\"()*#:;~", "-/"), "blip": ('.!"()*#:;~', "")}
_SIDES = {"left": "right", "right": "left"}
_MIRRORED = {
    form(side): form(other)
    for side, other in _SIDES.items()
    for form in (str.lower, str.capitalize, str.upper)
}
_SIDE = re.compile(rf"\b({'|'.join(_MIRRORED)})\b")


def clean_caption(text: str, variant: str, max_words: int = 30) -> str:
    """A caption as ALBEF or BLIP reads it: `pre_caption`.

    Args:
      text: the caption.
      variant: 'albef' deletes punctuation and reads '<person>' (SBU, CC) as person; 'blip' puts
        spaces and keeps , ' ? - /.
      max_words: words, as spaces separate them. Both papers' data sets take 30, BLIP's function
        alone 50, NLVR2 40.

    Raises:
      UserError: unknown variant.
    """
    text = text.lower().translate(_table(_CAPTION, variant))
    if variant == "albef":
        text = text.replace("<person>", "person")
    text = re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ")
    return _first_words(text, max_words)


def clean_question(text: str, variant: str, max_words: int = 50) -> str:
    """A question as ALBEF or BLIP reads it: `pre_question`.

    Args:
      text: the question.
      variant: 'albef' or 'blip', which keeps , ' ? - /. Both delete: doubled spaces stay.
      max_words: words, as spaces separate them; ALBEF takes 30 in training.

    Raises:
      UserError: unknown variant.
    """
    text = text.lower().translate(_table(_QUESTION, variant)).rstrip(" ")
    return _first_words(text, max_words)


def swap_sides(text: str) -> str:
    """As `mirror_sides`, but only of lower case and between spaces, as BLIP does it."""
    return " ".join(_SIDES.get(word, word) for word in text.split(" "))


def mirror_sides(text: str) -> str:
    """'left' for 'right' and the other way round, as words of any case beside any sign."""
    return _SIDE.sub(lambda match: _MIRRORED[match[0]], text)


def each(change: Callable[[str], str], value: str | Sequence[str]) -> str | list[str]:
    """A text changed, or each of several."""
    return change(value) if isinstance(value, str) else [change(text) for text in value]


def pre_caption(
    example, rng, *, key: str, variant: str, max_words: int = 30, out: str = ""
) -> dict[str, Any]:
    """`clean_caption` of a text or of a list of texts."""
    return {
        out or key: each(lambda text: clean_caption(text, variant, max_words), entry(example, key))
    }


def pre_question(
    example, rng, *, key: str, variant: str, max_words: int = 50, out: str = ""
) -> dict[str, Any]:
    """`clean_question` of a text or of a list of texts."""
    return {
        out or key: each(lambda text: clean_question(text, variant, max_words), entry(example, key))
    }


def straight_quotes(example, rng, *, key: str, out: str = "") -> dict[str, Any]:
    """“ and ” as ", which Chinese BERT's vocabulary has (cn_clip training/data.py)."""
    table = str.maketrans("“”", '""')
    return {out or key: each(lambda text: text.translate(table), example[key])}


def random_swap_pair(example, rng, *, images: str = "images", text: str = "text") -> dict[str, Any]:
    """Every other pair of images in the other order, 'left' and 'right' in its sentence too.

    BLIP's NLVR2 (data/nlvr_dataset.py), which does this in evaluation as well; LAVIS does not, and
    swaps inside words, too.

    Raises:
      BadRecord: not two images.
    """
    pair = example[images]
    if len(pair) != 2:
        raise BadRecord(f"{example.get('id', '')}: {len(pair)} images where a pair is needed")
    if rng.random() < 0.5:
        return {}
    return {images: [pair[1], pair[0]], text: swap_sides(example[text])}


def _table(tables: dict, variant: str) -> dict[int, str | None]:
    if variant not in tables:
        hint = did_you_mean(variant, tables)
        raise UserError(f"data: variant {variant!r} of a text is unknown.{hint}")
    deleted, spaced = tables[variant]
    return str.maketrans(dict.fromkeys(deleted) | dict.fromkeys(spaced, " "))


def _first_words(text: str, count: int) -> str:
    return " ".join(text.split(" ")[:count])
