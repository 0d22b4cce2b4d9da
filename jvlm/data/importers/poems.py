# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""CCPC, the corpus of Chinese quatrains that Image2Poem learns."""

from collections.abc import Iterator

from jvlm.data.importers.files import Files, read_lines, split_of
from jvlm.data.importers.records import Dropped, Kind, Record


def ccpc(files: Files) -> Iterator[Record | Dropped]:
    """THUNLP's JSON lines: dynasty, author, content 'line|line|line|line', title, keywords."""
    for path in files.need("ccpc*.json", "*.jsonl"):
        split = split_of(path.stem)
        for line in read_lines(path):
            if isinstance(line, Dropped):
                yield line
                continue
            name, poem = line
            lines = [part for part in poem.get("content", "").split("|") if part]
            if not lines:
                yield Dropped(name, "no content")
                continue
            values = {key: poem.get(key, "") for key in ("title", "author", "dynasty")}
            keywords = poem.get("keywords", "").split()
            yield Record(split, name, {"lines": lines, "keywords": keywords, **values})


POEMS = {"ccpc": Kind(ccpc, "poems", "ccpc_{train,valid,test}_*.json: JSON lines")}
