# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""CCPC, the corpus of Chinese quatrains that Image2Poem learns."""

from collections.abc import Iterator

from jvlm.data.importers.annotations import BadEntry, Entry, convert
from jvlm.data.importers.files import Files, read_lines, split_of
from jvlm.data.importers.records import Dropped, Kind, Record


def ccpc(files: Files) -> Iterator[Record | Dropped]:
    """THUNLP's JSON lines: dynasty, author, content 'line|line|line|line', title, keywords."""
    for path in files.need("ccpc*.json", "*.jsonl"):
        yield from convert(read_lines(path), _poem, split_of(path.stem))


def _poem(entry: Entry, split: str) -> Iterator[Record]:
    lines = [line for line in entry.text("content").split("|") if line]
    if not lines:
        raise BadEntry("no content")
    values = {key: entry.text(key, "") for key in ("title", "author", "dynasty")}
    keywords = entry.text("keywords", "").split()
    yield Record(split, entry.name, {"lines": lines, "keywords": keywords, **values})


POEMS = {"ccpc": Kind(ccpc, "poems", "ccpc_{train,valid,test}_*.json: JSON lines")}
