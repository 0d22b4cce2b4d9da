# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Embedding files: what they hold, resuming, guards against mixing, bad images."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jvlm import embeddings
from jvlm.embeddings import Embedder, embed, fingerprint, read
from jvlm.errors import UserError


@pytest.fixture
def files(tmp_path, rng):
    paths = [str(tmp_path / f"{index:02}.png") for index in range(20)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (4, 4, 3)).astype(np.uint8)).save(path)
    return paths


def expected(files):
    means = np.stack([np.asarray(Image.open(file)).mean((0, 1)) for file in files])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", ["x.npz", "x.parquet", "parts"])
def test_every_format_holds_names_and_vectors(tmp_path, colours, files, name, dtype):
    shard_size = 7 if name == "parts" else None
    out = tmp_path / "out" / name
    result = embed(colours, "images", files, out, dtype=dtype, shard_size=shard_size, batch_size=8)
    assert (result["count"], result["dim"], result["bad"]) == (20, 3, [])
    parts = list(read(out))
    assert [len(part.names) for part in parts] == ([7, 7, 6] if shard_size else [20])
    assert sum((part.names for part in parts), []) == files
    vectors = np.concatenate([part.vectors for part in parts])
    assert vectors.dtype == dtype and parts[0].kind == "path"
    np.testing.assert_allclose(vectors, expected(files), atol=1e-5 if dtype == "float32" else 1e-3)
    assert not list(tmp_path.rglob("*.part"))


def test_other_tools_read_the_files(tmp_path, colours):
    import pyarrow.parquet as pq

    embed(colours, "texts", ["red", "blue"], tmp_path / "x.npz")
    embed(colours, "texts", ["red", "blue"], tmp_path / "x.parquet")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as data:
        assert data["text"].tolist() == ["red", "blue"]
        np.testing.assert_array_equal(data["embedding"], np.eye(3)[[0, 2]])
    table = pq.read_table(tmp_path / "x.parquet").to_pydict()
    assert table == {"text": ["red", "blue"], "embedding": [[1, 0, 0], [0, 0, 1]]}


def test_resume_keeps_complete_parts(tmp_path, colours, files, monkeypatch):
    out = tmp_path / "parts"
    run = lambda: embed(colours, "images", files, out, shard_size=6)
    first = run()
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    (out / "part-00002-of-00004.parquet").unlink()
    with pytest.raises(UserError, match="3 of 4 parts: let jvlm embed finish"):
        read(out)
    made = []
    images = Embedder.images
    monkeypatch.setattr(
        Embedder, "images", lambda self, part, *rest: made.append(part) or images(self, part, *rest)
    )
    assert run() == first and made == [files[12:18]]
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_processes_share_the_parts(tmp_path, colours, files, monkeypatch):
    """Each writes its own; what they leave is what one process writes."""
    embed(colours, "images", files, tmp_path / "one", shard_size=3)
    monkeypatch.setattr("jax.process_count", lambda: 2)
    counts = []
    for index in (1, 0):
        monkeypatch.setattr("jax.process_index", lambda index=index: index)
        counts.append(embed(colours, "images", files, tmp_path / "two", shard_size=3)["count"])
    assert counts == [9, 11]
    for file in (tmp_path / "one").iterdir():
        assert (tmp_path / "two" / file.name).read_bytes() == file.read_bytes()
    with pytest.raises(UserError, match="several processes, need a folder"):
        embed(colours, "images", files, tmp_path / "x.npz")


def test_other_embeddings_are_not_mixed(tmp_path, colours, files):
    out = tmp_path / "parts"
    embed(colours, "images", files, out, shard_size=11)
    for change in (
        dict(dtype="float16"),
        dict(inputs=files[:-1]),
        dict(shard_size=10),  # As many parts.
        dict(shard_size=4),
        dict(inputs=["red"] * 20, kind="texts"),
    ):
        options = {"kind": "images", "inputs": files, "out": out, "shard_size": 11, **change}
        with pytest.raises(UserError, match="another model, input list or setting"):
            embed(colours, **options)
    colours.params = {"gain": jnp.array([1.0, 2.0, 1.0])}
    with pytest.raises(UserError, match="another model, input list or setting"):
        embed(colours, "images", files, out, shard_size=11)


def test_fingerprint_is_of_what_makes_embeddings(colours):
    same = fingerprint(colours)
    assert fingerprint(colours) == same
    for change in (
        lambda m: m.params.update(gain=jnp.array([1.0, 1.0, 1.5])),
        lambda m: setattr(m.processor, "steps", (("resize_square", dict(size=4)),)),
        lambda m: setattr(m, "model", m.model.clone(cfg="colors")),
        lambda m: setattr(m.processor.tokenizer, "max_len", 2),
    ):
        change(colours)
        assert fingerprint(colours) != same
        same = fingerprint(colours)


def test_bad_images_are_left_out_and_listed(tmp_path, colours, files):
    bad = [tmp_path / "05.png", tmp_path / "19.png"]
    bad[0].write_text("x")
    bad[1].unlink()
    result = embed(colours, "images", files, tmp_path / "parts", shard_size=5, batch_size=8)
    assert result["count"] == 18
    assert "05.png: not a readable image" in result["bad"][0]
    assert "19.png: No such file" in result["bad"][1]
    kept = [file for i, file in enumerate(files) if i not in (5, 19)]
    parts = list(read(tmp_path / "parts"))
    assert sum((part.names for part in parts), []) == kept
    np.testing.assert_allclose(
        np.concatenate([part.vectors for part in parts]), expected(kept), atol=1e-5
    )
    # Told again by a run that has nothing to do.
    again = embed(colours, "images", files, tmp_path / "parts", shard_size=5, batch_size=8)
    assert again == result


def test_too_many_bad_images_end_the_run(tmp_path, colours, files):
    for file in files[:11]:
        open(file, "w").close()
    with pytest.raises(UserError, match="11 of 20 images are unusable"):
        embed(colours, "images", files, tmp_path / "x.npz")
    with pytest.raises(UserError, match="3 of 3 images are unusable"):
        embed(colours, "images", files[:3], tmp_path / "x.npz")
    assert not (tmp_path / "x.npz").exists()
    embed(colours, "images", files, tmp_path / "x.npz", max_bad_share=0.6)


def test_a_part_without_a_usable_image(tmp_path, colours, files):
    for file in files[:2]:
        open(file, "w").close()
    embed(colours, "images", files[:4], tmp_path / "parts", shard_size=2)
    assert [part.vectors.shape for part in read(tmp_path / "parts")] == [(0, 3), (2, 3)]


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(dtype="bfloat16"), "Did you mean 'float16'"),
        (dict(inputs=[]), "no texts to embed"),
        (dict(out="x.npy"), "ending in .npz or .parquet, or a folder"),
        (dict(out="x.npz", shard_size=3), "need a folder"),
        (dict(out="x", shard_size=0), "at least 1"),
        (dict(out="/proc/x.npz"), "/proc/x.npz: cannot be written"),
    ],
)
def test_mistakes(colours, options, message):
    options = {"kind": "texts", "inputs": ["red"], "out": "x.npz", **options}
    with pytest.raises(UserError, match=message):
        embed(colours, **options)


def test_foreign_files(tmp_path):
    for name in ("x.npz", "x.parquet"):
        (tmp_path / name).write_text("x")
        with pytest.raises(UserError, match="not embeddings of jvlm embed"):
            list(read(tmp_path / name))
    np.savez(tmp_path / "y.npz", a=np.zeros(3))
    with pytest.raises(UserError, match="not embeddings of jvlm embed"):
        list(read(tmp_path / "y.npz"))
    with pytest.raises(UserError, match="no such file"):
        list(read(tmp_path / "none.npz"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no embeddings"):
        read(tmp_path / "empty")


def test_metadata_of_a_part_is_read_without_its_rows(tmp_path, colours, files, monkeypatch):
    embed(colours, "images", files, tmp_path / "parts", shard_size=5)
    monkeypatch.setattr(embeddings, "read_file", None)
    result = embed(colours, "images", files, tmp_path / "parts", shard_size=5)
    assert json.loads(json.dumps(result)) == result and result["count"] == 20
