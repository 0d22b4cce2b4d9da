# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Search over files and folders: exact, and a folder's index is made once."""

import os

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jvlm import embeddings
from jvlm.embeddings import Embedder, Embeddings
from jvlm.errors import UserError
from jvlm.search import folder_index, search


def save(path, colour):
    Image.new("RGB", (4, 4), colour).save(path)
    return str(path)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    save(folder / "a.png", (250, 0, 0))
    save(folder / "b.png", (0, 250, 0))
    save(folder / "sub" / "c.png", (250, 20, 0))
    return folder


@pytest.fixture
def made(monkeypatch):
    """Names of the files that were embedded."""
    names, images = [], Embedder.images

    def spy(self, files, *rest):
        names.extend(os.path.basename(file) for file in files)
        return images(self, files, *rest)

    monkeypatch.setattr(Embedder, "images", spy)
    return names


def test_best_first_over_all_parts(rng):
    vectors = rng.normal(size=(50, 8)).astype(np.float32)
    parts = [
        Embeddings(vectors[a:b], [f"{i}.png" for i in range(a, b)], "path", {"model": "m"})
        for a, b in ((0, 20), (20, 20), (20, 50))
    ]
    queries = rng.normal(size=(2, 8)).astype(np.float32)
    results = search(queries, iter(parts), 4, "m")
    for query, found in zip(queries, results):
        want = np.argsort(-(vectors @ query))[:4]
        assert [hit["image"] for hit in found] == [f"{i}.png" for i in want]
        np.testing.assert_allclose([hit["score"] for hit in found], vectors[want] @ query, 1e-5)
    assert len(search(queries, iter(parts), 99)[0]) == 50
    with pytest.raises(UserError, match="made with another model"):
        search(queries, iter(parts), 4, "other")
    with pytest.raises(UserError, match="at least 1"):
        search(queries, iter(parts), 0)


def test_texts_are_found_too(tmp_path, colours):
    embeddings.embed(colours, "texts", ["red", "green"], tmp_path / "x.npz")
    found = search(np.array([[0.0, 1.0, 0.0]]), embeddings.read(tmp_path / "x.npz"), 1)
    assert found == [[{"text": "green", "score": 1.0}]]


def test_only_new_and_changed_files_are_embedded(tmp_path, colours, folder, made):
    index = lambda: folder_index(colours, str(folder), cache=tmp_path / "cache")[0]
    red = lambda: [hit["image"] for hit in search(np.eye(3)[:1], [index()], 2)[0]]
    assert red() == [str(folder / "a.png"), str(folder / "sub" / "c.png")]
    assert made == ["a.png", "b.png", "c.png"]
    made.clear()
    assert red()[0] == str(folder / "a.png") and made == []

    save(folder / "d.png", (255, 0, 0))
    save(folder / "a.png", (0, 0, 255))
    os.utime(folder / "a.png", ns=(1, 1))
    (folder / "b.png").unlink()
    assert red() == [str(folder / "d.png"), str(folder / "sub" / "c.png")]
    assert made == ["a.png", "d.png"]
    made.clear()
    assert [os.path.basename(name) for name in index().names] == ["a.png", "d.png", "c.png"]
    assert made == []

    colours.params = {"gain": jnp.array([1.0, 2.0, 1.0])}
    index()
    assert len(made) == 3  # Another model, another index.


def test_index_is_kept_in_the_cache_folder(tmp_path, colours, folder, monkeypatch, made):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    folder_index(colours, str(folder))
    assert len(list((tmp_path / "xdg" / "jvlm" / "index").glob("*.parquet"))) == 1
    # Another way to write the same folder; names come as the user writes them.
    monkeypatch.chdir(tmp_path)
    made.clear()
    index, _ = folder_index(colours, "images")
    assert made == [] and index.names[0] == os.path.join("images", "a.png")


def test_a_damaged_index_is_made_anew(tmp_path, colours, folder, made):
    want, _ = folder_index(colours, str(folder), cache=tmp_path / "cache")
    (file,) = (tmp_path / "cache").rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:50])
    got, _ = folder_index(colours, str(folder), cache=tmp_path / "cache")
    assert got.names == want.names and len(made) == 6


def test_unreadable_images_are_listed(tmp_path, colours, folder):
    (folder / "b.png").write_text("x")
    index, bad = folder_index(colours, str(folder), cache=tmp_path / "cache")
    assert len(index.names) == 2 and len(bad) == 1 and "b.png: not a readable image" in bad[0]
    for name in ("a.png", "sub/c.png"):
        (folder / name).write_text("x")
    with pytest.raises(UserError, match="no readable image"):
        folder_index(colours, str(folder), cache=tmp_path / "cache")
