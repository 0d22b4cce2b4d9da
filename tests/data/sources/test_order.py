# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches of every kind of source: each host its share, from any step on, from any process."""

import csv
import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jvlm.data.pipeline import TrainBatches, eval_batches
from jvlm.data.sources import SOURCES, build_source
from jvlm.data.transforms import compose

COUNT = 11


@pytest.fixture(params=sorted(set(SOURCES) - {"tfds"}))
def section(request, tmp_path):
    """A source whose example n has n bytes in its picture; two files where it may have some."""
    pictures = [b"x" * (n + 1) for n in range(COUNT)]
    for number, data in enumerate(pictures):
        (tmp_path / f"{number:02d}.jpg").write_bytes(data)
    rows = [{"image": f"{n:02d}.jpg", "caption": str(n)} for n in range(COUNT)]
    for part, numbers in enumerate((range(4), range(4, COUNT))):
        chosen = [rows[n] for n in numbers]
        lines = "".join(json.dumps(row) + "\n" for row in chosen)
        (tmp_path / f"{part}.jsonl").write_text(lines)
        with open(tmp_path / f"{part}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, ["image", "caption"])
            writer.writeheader()
            writer.writerows(chosen)
        table = pa.Table.from_pylist([{"image": pictures[n]} for n in numbers])
        pq.write_table(table, tmp_path / f"{part}.parquet", row_group_size=2)
        with tarfile.open(tmp_path / f"{part}.tar", "w") as tar:
            for n in numbers:
                entry = tarfile.TarInfo(f"{n:02d}.jpg")
                entry.size = n + 1
                tar.addfile(entry, io.BytesIO(pictures[n]))
    if request.param == "mismatched":  # Has pictures of its own, and captions of others.
        lines = {"kind": "jsonl", "path": str(tmp_path)}
        swap = {"share": 0.5, "keys": ("caption",), "differ": "caption"}
        return {"kind": "mismatched", "source": lines, **swap}
    return {"kind": request.param, "path": str(tmp_path)}


def size_only(example, rng):
    return {"size": np.int32(len(example["image"])), "noise": rng.random()}


def test_any_host_any_step(section):
    source = build_source(section)
    assert len(source) == COUNT and [len(source[n]["image"]) for n in range(COUNT)] == [
        *range(1, COUNT + 1)
    ]
    whole = TrainBatches(source, size_only, 4, seed=1)
    seen = np.concatenate([whole[step]["size"] for step in range(COUNT)])
    assert sorted(seen[:COUNT].tolist()) == [*range(1, COUNT + 1)]
    for step in (0, 7):
        parts = [
            TrainBatches(build_source(section), size_only, 4, 1, rows=range(i, i + 2))[step]
            for i in (0, 2)
        ]
        for key in ("size", "noise"):
            joined = np.concatenate([part[key] for part in parts])
            np.testing.assert_array_equal(joined, whole[step][key])
    batches = list(eval_batches(source, size_only, 4))  # Threads share the source.
    assert np.concatenate([b["size"][b["_mask"]] for b in batches]).tolist() == [
        *range(1, COUNT + 1)
    ]


@pytest.mark.parametrize("section", ["parquet"], indirect=True)
def test_from_a_worker_process(section):
    """It gets the source pickled, opens files of its own, and serves the same."""
    transform = compose((("identity", dict(key="image")), ("keep", dict(keys=("image_id",)))))
    batches = TrainBatches(build_source(section), transform, 4, seed=1)
    iterator = batches.iterate(2, workers=1)
    for step in (2, 3):
        np.testing.assert_array_equal(next(iterator)["image_id"], batches[step]["image_id"])
    iterator.close()
