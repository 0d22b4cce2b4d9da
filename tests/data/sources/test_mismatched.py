# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""A share of wrong captions: so many, of another meaning, the same every time."""

import json
import pickle

import numpy as np
import pytest

from jvlm.data.sources import build_source
from jvlm.errors import UserError

SIZE = 2000


@pytest.fixture
def section(tmp_path):
    rows = [{"path": f"{i}", "caption": f"says {i % 7}", "meaning": i % 7} for i in range(SIZE)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = dict(kind="jsonl", path=str(tmp_path / "rows.jsonl"))
    return dict(
        kind="mismatched", source=plain, share=0.3, keys=("caption", "meaning"), differ="meaning"
    )


def test_a_share_is_wrong(section):
    source, plain = build_source(section), build_source(section["source"])
    found = [source[i] for i in range(SIZE)]
    wrong = np.array([example["mismatched"] for example in found])
    assert abs(wrong.mean() - 0.3) < 0.03 and len(source) == SIZE
    for i, example in enumerate(found):
        assert (example["meaning"] != plain[i]["meaning"]) == example["mismatched"]
        assert example["caption"] == f"says {example['meaning']}"  # What goes together stays so.
        assert example["path"] == plain[i]["path"]
    assert len({example["meaning"] for example in found if example["mismatched"]}) == 7
    assert pickle.loads(pickle.dumps(source))[5] == found[5]
    other = build_source({**section, "seed": 1})
    assert [other[i] for i in range(SIZE)] != found and other.fingerprint != source.fingerprint


def test_bad_options(section, tmp_path):
    for change, message in (
        (dict(share=1.5), "share 1.5"),
        (dict(differ="path"), "differ 'path' is none of keys"),
        (dict(source=dict(kind="jsonl", path=str(tmp_path / "no.jsonl"))), "no.jsonl"),
        (dict(source=dict(kind="jsnl")), r"data.source.source.kind 'jsnl'"),
    ):
        with pytest.raises(UserError, match=message):
            build_source({**section, **change})
    source = build_source({**section, "share": 1.0, "keys": ("captoin", "meaning")})
    with pytest.raises(UserError, match=r"no \['captoin'\] in an example"):
        source[0]
    section.pop("source")
    with pytest.raises(UserError, match="missing source"):
        build_source(section)
    (tmp_path / "same.jsonl").write_text('{"caption": "x", "meaning": 1}\n' * 3)
    same = dict(kind="jsonl", path=str(tmp_path / "same.jsonl"))
    source = build_source(
        dict(kind="mismatched", source=same, share=1.0, keys=("meaning",), differ="meaning")
    )
    with pytest.raises(UserError, match="no other example found whose 'meaning' differs"):
        source[0]
