# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0


def test_ccpc(read, lines):
    poem = {
        "dynasty": "Tang",
        "author": "某",
        "content": "春眠|夏雨|",
        "title": "四季",
        "keywords": "雨 春",
    }
    contents = {"ccpc_valid_v1.0.json": lines(poem, 3, {**poem, "content": "|"}) + "{\n"}
    records, dropped = read("ccpc", contents)
    values = {"lines": ["春眠", "夏雨"], "keywords": ["雨", "春"]}
    values |= {"title": "四季", "author": "某", "dynasty": "Tang"}
    assert records == [("validation", "ccpc_valid_v1.0.json:1", values, [])]
    assert [reason for _, reason in dropped] == ["not an object", "no content", "not JSON"]
