# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Parquet: rows in any order, memory bounded, pictures as in the data sets of Hugging Face."""

import json
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jvlm.data.images import BadRecord
from jvlm.data.sources import build_source
from jvlm.errors import UserError


def write(path, rows, group=3, metadata=None):
    table = pa.Table.from_pylist(rows)
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=group)
    return str(path)


@pytest.fixture
def parts(tmp_path):
    rows = [
        {"image": {"bytes": bytes([n]) * 9, "path": None}, "caption": f"诗 {n}", "label": n % 2}
        for n in range(20)
    ]
    names = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}}}
    metadata = {"huggingface": json.dumps(names)}
    (tmp_path / "data").mkdir()
    write(tmp_path / "data/train-00000.parquet", rows[:8], metadata=metadata)
    write(tmp_path / "data/train-00001.parquet", rows[8:], metadata=metadata)
    return tmp_path / "data"


@pytest.mark.parametrize("cached", [False, True])
def test_rows_in_any_order(parts, tmp_path, cached):
    options = dict(cache=str(tmp_path / "cache")) if cached else {}
    for _ in range(2):  # The second time the copies are there.
        source = build_source(dict(kind="parquet", path=str(parts), **options))
        assert len(source) == 20 and source.class_names == ["cat", "dog"]
        for n in (19, 0, 8, 7, 12, 2):
            want = {"image": bytes([n]) * 9, "caption": f"诗 {n}", "label": n % 2}
            assert source[n] == want
        copy = pickle.loads(pickle.dumps(source))
        assert copy[11] == source[11]
        with pytest.raises(IndexError):
            source[20]
    assert len(list((tmp_path / "cache").glob("*"))) == 2 * cached


def test_memory_is_bounded(parts):
    source = build_source(dict(kind="parquet", path=str(parts), memory=0))
    for n in range(20):
        source[n]
    assert len(source._kept) == 1
    source._memory = 400
    for n in range(20):
        source[n]
    assert 1 < len(source._kept) < 7


def test_columns_and_paths(parts, tmp_path):
    section = dict(kind="parquet", path=str(parts / "*.parquet"))
    assert build_source({**section, "columns": ("caption",)})[1] == {"caption": "诗 1"}
    cached = {**section, "columns": ("label", "caption"), "cache": str(tmp_path / "cache")}
    assert build_source(cached)[1] == {"label": 1, "caption": "诗 1"}
    with pytest.raises(UserError, match="no column 'titel'"):
        build_source({**section, "columns": ("titel",)})
    (tmp_path / "a.jpg").write_bytes(b"A")
    rows = [{"file": "a.jpg", "text": "a"}, {"file": "b.jpg", "text": "b"}]
    rows.append({"file": None, "text": None})
    path = write(tmp_path / "x.parquet", rows)
    source = build_source(dict(kind="parquet", path=path, image_key="file", need=("text",)))
    assert source[0]["image"] == b"A" and source[0]["text"] == "a"
    assert build_source(dict(kind="parquet", path=path, image_key="file"))[2] == {}
    with pytest.raises(BadRecord, match="b.jpg: No such file"):
        source[1]
    with pytest.raises(BadRecord, match="no 'text'"):
        source[2]


def test_what_is_no_parquet_is_named(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 but no more")
    with pytest.raises(UserError, match="x.parquet: cannot be read as Parquet"):
        build_source(dict(kind="parquet", path=str(path)))
    with pytest.raises(UserError, match="y.parquet: cannot be read"):
        build_source(dict(kind="parquet", path=str(tmp_path / "y.parquet")))
    with pytest.raises(UserError, match="no rows"):
        build_source(dict(kind="parquet", path=write(tmp_path / "z.parquet", [{"a": 1}][:0])))


def test_damage_is_named(tmp_path):
    """Of a page, its group's rows are unusable when it is their turn; a copy cannot be made."""
    rows = [{"caption": f"{n} " * 99} for n in range(40)]
    path = write(tmp_path / "x.parquet", rows, group=20)
    data = bytearray((tmp_path / "x.parquet").read_bytes())
    data[4:90] = b"?" * 86
    (tmp_path / "x.parquet").write_bytes(data)
    section = dict(kind="parquet", path=path)
    source = build_source(section)
    assert source[20] == rows[20]
    with pytest.raises(BadRecord, match="x.parquet: row group 0: .*") as caught:
        source[0]
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="x.parquet: row group 0: .*leave out cache"):
        build_source({**section, "cache": str(tmp_path / "cache")})
    assert not list((tmp_path / "cache").iterdir())


def test_texts_that_are_no_utf8(tmp_path):
    caption = pa.array([b"fine", b"\xff"]).view(pa.string())
    pq.write_table(pa.table({"caption": caption}), tmp_path / "x.parquet")
    source = build_source(dict(kind="parquet", path=str(tmp_path / "x.parquet")))
    assert source[0] == {"caption": "fine"}
    with pytest.raises(BadRecord, match="x.parquet: row 1 of all: 'utf-8' codec"):
        source[1]
