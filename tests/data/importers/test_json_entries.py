# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from jvlm.data.importers import json_entries
from jvlm.data.importers.json_entries import read_entries
from jvlm.errors import UserError

CONTENT = {
    "info": {"year": 2014, "none": None, "deep": [[1.5e3, {}], {"a": []}]},
    "count": -12345,
    "images": [{"id": 1, "name": 'a "b" \\ [{é\n}]'}, 1234567, [], "text", True, {"x": [{}]}],
    "empty": [],
    "by id": {"7": {"q": "?"}, "8": 12},
}


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_equals_json(tmp_path, monkeypatch, chunk, indent):
    monkeypatch.setattr(json_entries, "_CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_text("\ufeff \n" + json.dumps(CONTENT, indent=indent, ensure_ascii=False) + "\n ")
    assert dict(read_entries(path)) == CONTENT
    assert list(read_entries(path, "images")) == list(enumerate(CONTENT["images"]))
    assert list(read_entries(path, "by id")) == list(CONTENT["by id"].items())
    assert list(read_entries(path, "empty")) == []
    assert dict(read_entries(path, "info", "deep")) == dict(enumerate(CONTENT["info"]["deep"]))
    for keys in (["count"], ["year"], ["info", "year"], ["images", "x"]):
        with pytest.raises(UserError, match=rf"a\.json: no list under '{':'.join(keys)}'"):
            list(read_entries(path, *keys))


@pytest.mark.parametrize(
    "text",
    ["", "  ", "[1, 2", "[1, 2}", "[1 2]", "[1,]", '{"a": [1]', '{"a" [1]}', "{1: 2}", "[1] [2]"]
    + ['{"a": [1], "b": nil}', '{"a": [1],, "b": 2}', '{"a": [tru]}', '["\ud800"'],
)
def test_what_is_no_json_is_said_with_its_place(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for keys in ((), ("a",)):
        with pytest.raises(UserError, match=r"a\.json: (cannot be read as JSON: |no list)"):
            list(read_entries(path, *keys))


def test_only_one_entry_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(json_entries, "_CHUNK", 1000)
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"skipped": ["x" * 50] * 1000, "images": ["y" * 50] * 1000}))
    held = []
    read_on = json_entries._Text._read_on
    monkeypatch.setattr(
        json_entries._Text, "_read_on", lambda text: held.append(len(text._text)) or read_on(text)
    )
    assert len(list(read_entries(path, "images"))) == 1000
    assert max(held) < 1200
