# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Text cleaning: repair, entities, whitespace, and the short cut for plain text."""

import html
import random

import ftfy
import pytest

from jvlm.errors import UserError
from jvlm.tokenizers import clean


@pytest.mark.parametrize(
    "text, want",
    [
        ("  A\t Dog\r\n\u3000here ", "A Dog here"),
        ("it&amp;#39;s &lt;b&gt; &amp;amp;", "it's <b> &"),
        ("cafÃ© itâ€™s “so”", 'café it\'s "so"'),
        ("e\u0301 ﬂower \x00\x1b[31mred", "é flower red"),
        ("", ""),
    ],
)
def test_whitespace(text, want):
    assert clean.whitespace(text) == want
    assert clean.lower(text) == want.lower()


def test_canonicalize():
    assert clean.canonicalize("A_photo of the 'Dog's', (no. 1)!") == "a photo of the dogs no 1"


def test_siglip():
    assert clean.siglip(" A_photo,\n of\tÉa! ") == "aphoto of éa"
    assert clean.siglip_cased("A Photo.") == "A Photo"


def test_the_short_cut_changes_nothing():
    """Plain ASCII skips ftfy; on any ASCII the result is what ftfy gives."""
    rng = random.Random(0)
    for _ in range(2_000):
        text = "".join(rng.choices([*map(chr, range(128)), *"  \n&;<a#1"], k=rng.randrange(30)))
        slow = html.unescape(html.unescape(ftfy.fix_text(text)))
        assert clean.whitespace(text) == " ".join(slow.split()), repr(text)


def test_unknown_kind():
    with pytest.raises(UserError, match="Did you mean 'canonicalize'"):
        clean.choose("canonicalise")
