# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Text cleaning before tokenization, by open_clip's names."""

import html
import re
import string
from collections.abc import Callable

import ftfy

from jvlm.errors import UserError, did_you_mean

# ASCII without '&' and control characters holds nothing to repair or unescape; skipping ftfy for
# it makes captions several times faster.
_PLAIN = re.compile(r"[\t\n\f\r -%'-~]*")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def whitespace(text: str) -> str:
    """Mojibake repaired, HTML entities resolved (doubly escaped ones too), whitespace collapsed."""
    if not _PLAIN.fullmatch(text):
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split())


def lower(text: str) -> str:
    """`whitespace` and lower case: what OpenAI's CLIP reads (clip/simple_tokenizer.py)."""
    return whitespace(text).lower()


def canonicalize(text: str) -> str:
    """`lower` without ASCII punctuation, '_' as a space (open_clip's CLIPA and SigLIP)."""
    text = whitespace(text).replace("_", " ").translate(_NO_PUNCTUATION).lower()
    return " ".join(text.split())


def siglip(text: str) -> str:
    """Lower case, ASCII punctuation deleted, whitespace collapsed (HF SiglipTokenizer)."""
    return siglip_cased(text.lower())


def siglip_cased(text: str) -> str:
    """`siglip` with do_lower_case off."""
    return re.sub(r"\s+", " ", text.translate(_NO_PUNCTUATION)).strip()


CLEAN = {
    "none": lambda text: text,
    "lower": lower,
    "whitespace": whitespace,
    "canonicalize": canonicalize,
}


def choose(name: str, kinds: dict[str, Callable[[str], str]] = CLEAN) -> Callable[[str], str]:
    """The cleaning function of this name.

    Raises:
      UserError: no such kind.
    """
    if name not in kinds:
        raise UserError(f"tokenizer.clean {name!r} is unknown.{did_you_mean(name, kinds)}")
    return kinds[name]
