# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Search by text or image: over what `jvlm embed` wrote, or a folder whose index is kept."""

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jvlm import progress, sharding
from jvlm.data.sources.folder import image_files
from jvlm.embeddings import Embedder, Embeddings, fingerprint, read_file, write_file
from jvlm.errors import UserError
from jvlm.topk import top_k

_KEYS = {"path": "image", "text": "text"}


def search(
    queries: np.ndarray, parts: Iterable[Embeddings], k: int, model: str | None = None
) -> list[list[dict[str, Any]]]:
    """The k best of all embeddings for each query, exactly, on all devices of this host.

    Args:
      queries: float[Q, E], unit norm.
      parts: from `embeddings.read` or `folder_index`.
      k: how many.
      model: `embeddings.fingerprint` of the queries' model, which must be the parts' own.

    Returns:
      For each query, best first: {'image' or 'text': name, 'score': cosine}.
    """
    if k < 1:
        raise UserError(f"top {k}: show at least 1")
    names: list[dict[str, str]] = []

    def vectors():
        for part in parts:
            if model not in (None, part.metadata["model"]):
                raise UserError("the index was made with another model: make it with this one")
            names.extend({_KEYS[part.kind]: name} for name in part.names)
            if len(part.names):
                yield part.vectors

    mesh = sharding.make_mesh(devices=jax.local_devices())
    scores, rows = top_k(queries, vectors(), k, mesh)
    return [
        [{**names[row], "score": float(score)} for row, score in zip(*pair)]
        for pair in zip(rows, scores)
    ]


def rerank(
    pretrained: Any, query: dict[str, str], found: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Looks at what was found a second time, together with the query.

    Args:
      pretrained: from `jvlm.load`, of a model with `match`.
      query: {'text': a text} or {'image': a path}.
      found: of one query, from `search`; an image is read again, where its name says.

    Returns:
      The same with 'match', which is their order now: the logit that image and text belong
      together, in place of the cosine or, by the model's `rerank_rule`, added to it. See
      `metrics.retrieval.reranked`.

    Raises:
      UserError: an image for an image or a text for a text; or no such model.
    """
    if any(set(query) & set(one) for one in found):
        kind = next(iter(query))
        raise UserError(f"rerank: an image is matched with a text, not one {kind} with another")
    pairs = [{**one, **query} for one in found]
    images, texts = ([pair[key] for pair in pairs] for key in ("image", "text"))
    logits = pretrained.match_logits(images, texts)[:, 1].tolist()
    add = pretrained.model.rerank_rule == "add"
    matched = [{**one, "match": logit + one["score"] * add} for one, logit in zip(found, logits)]
    return sorted(matched, key=lambda one: -one["match"])


def folder_index(
    pretrained: Any,
    folder: str,
    *,
    cache: str | Path | None = None,
) -> tuple[Embeddings, list[str]]:
    """The embeddings of a folder's images, of which only new and changed files are made anew.

    Args:
      pretrained: from `jvlm.load`.
      folder: searched with its subfolders.
      cache: where indexes are kept; default $XDG_CACHE_HOME/jvlm (~/.cache/jvlm).

    Returns:
      (embeddings in sorted order of paths, a line for each unreadable image).
    """
    files = image_files(folder)
    # A file that vanishes meanwhile becomes an unreadable image, not an error.
    stamps = {file: _stamp(file) for file in files}
    model = fingerprint(pretrained)
    key = hashlib.blake2b(f"{model} {os.path.realpath(folder)}".encode(), digest_size=16)
    place = Path(cache or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "jvlm")
    file = place.expanduser() / "index" / f"{key.hexdigest()}.parquet"
    relative = {name: os.path.relpath(name, folder) for name in files}

    known: dict[str, tuple[np.ndarray, str]] = {}
    if file.exists():
        with contextlib.suppress(UserError, KeyError):  # A damaged index is made anew.
            old = read_file(file)
            known = dict(zip(old.names, zip(old.vectors, old.metadata["stamps"])))
    new = [f for f in files if known.get(relative[f], (None, ""))[1] != stamps[f]]
    embedder = Embedder(pretrained)
    with progress.bar(total=len(new), unit="image") as bar:
        vectors, kept, bad = embedder.images(new, bar.update)
    known.update({relative[new[i]]: (v, stamps[new[i]]) for i, v in zip(kept, vectors)})
    failed = set(new) - {new[index] for index in kept}
    usable = [f for f in files if f not in failed]
    if not usable:
        raise UserError(f"{folder}: no readable image; the first: {bad[0]}")
    rows = [known[relative[f]] for f in usable]
    index = Embeddings(
        np.stack([vector for vector, _ in rows]),
        [relative[f] for f in usable],
        "path",
        {"model": model, "stamps": [stamp for _, stamp in rows]},
    )
    if kept or len(usable) != len(known):
        write_file(file, index)
    index.names = usable
    return index, bad


def _stamp(file: str) -> str:
    try:
        status = os.stat(file)
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"
