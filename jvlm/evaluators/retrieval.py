# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Image-text retrieval, both ways."""

from collections.abc import Iterator

import jax
import numpy as np

from jvlm import sharding
from jvlm.errors import UserError, did_you_mean
from jvlm.evaluators.common import jit_on_mesh, run_rows
from jvlm.evaluators.predictions import Predictions, Predictor
from jvlm.metrics.retrieval import RERANK_RULES, reranked, top_ranked

_BLOCK = 1024
_KEPT = 10  # What recall looks at.


class Retrieval(Predictor):
    """Recall at 1, 5 and 10 of images for texts and of texts for images.

    Rows need `image` and `text` int32[T] or several int32[C, T] (with `text_mask`). With `image_id`
    any item of equal id is a hit, so that scenes that mean the same count as the same; without, an
    image's hits are its own texts.

    Metrics: retrieval/i2t_r1, t2i_r10 ..., their mean, and rsum, their sum in percent; after a
    second look the same with the ending _rerank.

    Args:
      rerank: how many of the best candidates are looked at a second time, by a model that has
        `image_states(image) -> float[B, P, D]` and `match(states, text, text_mask) -> float32[B]`,
        the logit that image and text belong together; 0 is none.
      rule: what becomes of the logit, see `metrics.retrieval.reranked`.
      name: first part of the metrics' names.
    """

    task = "retrieval"

    def __init__(
        self,
        model,
        batches,
        mesh,
        rerank: int = 0,
        rule: str = "replace",
        name: str = "retrieval",
    ):
        if rule not in RERANK_RULES:
            raise UserError(f"retrieval: rule {rule!r}.{did_you_mean(rule, RERANK_RULES)}")
        if rerank and not hasattr(model, "match"):
            raise UserError("retrieval: rerank needs a model that matches images with texts")
        self._batches, self._mesh, self._rerank, self._rule = batches, mesh, rerank, rule
        self.name = name

        def encode(params, batch):
            length = batch["text"].shape[-1]
            text, mask = (batch[key].reshape(-1, length) for key in ("text", "text_mask"))
            variables = {"params": params}
            image = model.apply(variables, batch["image"], method="encode_image")
            embeds = model.apply(variables, text, mask, method="encode_text")
            return image, embeds.reshape(image.shape[0], -1, embeds.shape[-1])

        def match(params, states, pairs):
            """Of pairs of a batch's image and any text: float32[N]."""
            args = (states[pairs["image"]], pairs["text"], pairs["text_mask"])
            return model.apply({"params": params}, *args, method="match")

        states = lambda params, image: model.apply({"params": params}, image, method="image_states")
        self._encode = jit_on_mesh(encode, mesh)
        self._states = jax.jit(states)
        self._match = jax.jit(match, out_shardings=sharding.replicated(mesh))

    def predict(self, params) -> Predictions:
        """Of each image and of each text the ids of the best on the other side."""
        keep = ("image_id", "text", "text_mask") if self._rerank else ("image_id",)
        results = list(run_rows(self._encode, params, self._batches, self._mesh, keep=keep))
        image = np.concatenate([out[0] for out, _ in results])
        text = np.concatenate([out[1] for out, _ in results])
        if "image_id" in results[0][1]:
            image_id = np.concatenate([batch["image_id"] for _, batch in results])
        else:
            image_id = np.arange(len(image))
        if not np.isfinite(image).all() or not np.isfinite(text).all():
            raise UserError(f"{self.name}: embeddings are not finite, nor are the weights then")
        text_id = np.repeat(image_id, text.shape[1])
        text = text.reshape(-1, text.shape[-1])
        sides = {"i2t": (image, image_id, text, text_id), "t2i": (text, text_id, image, image_id)}
        rows = []
        for direction, (query, query_id, key, key_id) in sides.items():
            best, scores = _best(query, key, _KEPT)
            rows += _rows(direction, query_id, key_id, best, scores)
        if self._rerank:
            tokens = [
                np.concatenate(
                    [batch[name].reshape(-1, batch[name].shape[-1]) for _, batch in results]
                )
                for name in ("text", "text_mask")
            ]
            rows += self._second_look(params, sides, tokens)
        return Predictions(rows)

    def settings(self):
        return {
            "data": getattr(self._batches, "fingerprint", None),
            "rerank": self._rerank,
            "rule": self._rule if self._rerank else None,
        }

    def _second_look(self, params, sides, tokens) -> list[dict]:
        """Rows of both directions, by matching logits of the best pairs."""
        best = {name: _best(side[0], side[2], self._rerank) for name, side in sides.items()}
        texts = len(sides["t2i"][0])
        wanted = {}  # Pairs as image * texts + text: millions of them on COCO.
        for direction, (places, _) in best.items():
            query = np.arange(len(places))[:, None]
            image, text = (query, places) if direction == "i2t" else (places, query)
            wanted[direction] = image * texts + text
        pairs = np.unique(np.concatenate([codes.ravel() for codes in wanted.values()]))
        logits = np.concatenate(list(self._matches(params, *divmod(pairs, texts), tokens)))
        rows = []
        for direction, (_, query_id, _, key_id) in sides.items():
            ranked, scores = best[direction]
            matches = logits[np.searchsorted(pairs, wanted[direction])]
            places = np.tile(np.arange(ranked.shape[1]), (len(ranked), 1))
            again = reranked(scores, places, matches, self._rule)
            order = top_ranked(again, _KEPT)
            keys = np.take_along_axis(ranked, order, axis=1)
            final = np.take_along_axis(again, order, axis=1)
            rows += _rows(direction, query_id, key_id, keys, final, stage="rerank")
        return rows

    def _matches(self, params, image, text, tokens) -> Iterator[np.ndarray]:
        """Logits of pairs in the order of their images, each encoded once for all its texts."""
        size, first = self._batches.batch_size, 0
        for batch in self._batches:
            pixels = sharding.put_batch({"image": batch["image"]}, self._mesh, size)["image"]
            states = self._states(params, pixels)
            begin, end = np.searchsorted(image, (first, first + size))
            for start in range(begin, end, size):
                part = np.minimum(np.arange(start, start + size), end - 1)
                arrays = {
                    "image": (image[part] - first).astype(np.int32),
                    "text": tokens[0][text[part]],
                    "text_mask": tokens[1][text[part]],
                }
                placed = sharding.put_whole_batch(arrays, self._mesh)
                yield jax.device_get(self._match(params, states, placed))[: end - start]
            first += size


def _best(query, key, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(places, scores) of each query's k best keys, by blocks: the whole matrix need not fit."""
    places, scores = [], []
    for start in range(0, len(query), _BLOCK):
        block = query[start : start + _BLOCK] @ key.T
        places.append(top_ranked(block, k))
        scores.append(np.take_along_axis(block, places[-1], axis=1))
    return np.concatenate(places), np.concatenate(scores)


def _rows(direction, query_id, key_id, best, scores, **more) -> list[dict]:
    return [
        {
            "id": f"{direction}{place}",
            "direction": direction,
            **more,
            "prediction": key_id[best[place]].tolist(),
            "answers": [int(query_id[place])],
            "places": best[place].tolist(),
            "scores": scores[place].tolist(),
        }
        for place in range(len(query_id))
    ]
