# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Image-text and video-text retrieval, both ways."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
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

    `image` may also be clips, uint8[B, I, H, W, 3]: a clip's embedding is made of the mean of its
    frames, and a second look sees the states of all of them (eval_retrieval_video.py of BLIP).

    Metrics: retrieval/i2t_r1, t2i_r10 ..., their mean, and rsum, their sum in percent;
    i2t_median_rank, t2i_median_rank; after a second look the same with the ending _rerank.

    Args:
      rerank: how many of the best candidates are looked at a second time, by a model that has
        `image_states(image) -> float[B, P, D]` and `match(states, text, text_mask) -> float32[B]`,
        the logit that image and text belong together; 0 is none.
      rule: what becomes of the logit, see `metrics.retrieval.reranked`; default the model's own.
      name: first part of the metrics' names.
    """

    task = "retrieval"

    def __init__(
        self,
        model,
        batches,
        mesh,
        rerank: int = 0,
        rule: str | None = None,
        name: str = "retrieval",
    ):
        rule = rule or getattr(model, "rerank_rule", "replace")
        if rule not in RERANK_RULES:
            raise UserError(f"retrieval: rule {rule!r}.{did_you_mean(rule, RERANK_RULES)}")
        if rerank and not hasattr(model, "match"):
            raise UserError("retrieval: rerank needs a model that matches images with texts")
        self._batches, self._mesh, self._rerank, self._rule = batches, mesh, rerank, rule
        self.name = name

        def encode(params, batch):
            apply = functools.partial(model.apply, {"params": params})
            image, length = batch["image"], batch["text"].shape[-1]
            text, mask = (batch[key].reshape(-1, length) for key in ("text", "text_mask"))
            if image.ndim == 4:
                embeds = apply(image, method="encode_image")
            else:  # The projection is linear: the mean of frames may as well be taken before it.
                mean = see(params, image).astype(jnp.float32).mean(1)
                embeds = apply(mean, method="embed_image")
            texts = apply(text, mask, method="encode_text")
            return embeds, texts.reshape(embeds.shape[0], -1, texts.shape[-1])

        def see(params, image):
            """[B, H, W, 3] -> [B, S, D]; of clips [B, I, H, W, 3] -> [B, I, S, D]."""
            frames = image.reshape(-1, *image.shape[-3:])
            states = model.apply({"params": params}, frames, method="image_states")
            return states.reshape(*image.shape[:-3], *states.shape[1:])

        def states(params, image):
            """What texts attend to, [B, S, D]: of a clip, the states of all its frames."""
            found = see(params, image)
            return found.reshape(found.shape[0], -1, found.shape[-1])

        def match(params, states, pairs):
            """Of pairs of a batch's image and any text: float32[N]."""
            args = (states[pairs["image"]], pairs["text"], pairs["text_mask"])
            return model.apply({"params": params}, *args, method="match")

        self._encode = jit_on_mesh(encode, mesh)
        self._states = jax.jit(states)
        self._match = jax.jit(match, out_shardings=sharding.replicated(mesh))

    def predict(self, params) -> Predictions:
        """Of each image and of each text the ids of the best on the other side."""
        keep = ("image_id", "image_valid", *(("text", "text_mask") if self._rerank else ()))
        results = list(run_rows(self._encode, params, self._batches, self._mesh, keep=keep))
        image = np.concatenate([out[0] for out, _ in results])
        text = np.concatenate([out[1] for out, _ in results])
        if "image_id" in results[0][1]:
            image_id = np.concatenate([batch["image_id"] for _, batch in results])
        else:
            image_id = np.arange(len(image))
        if not np.isfinite(image).all() or not np.isfinite(text).all():
            raise UserError(f"{self.name}: embeddings are not finite, nor are the weights then")
        if not all(batch.get("image_valid", np.True_).all() for _, batch in results):
            raise UserError(f"{self.name}: clips of fewer frames: set repeat=True in each_image")
        text_id = np.repeat(image_id, text.shape[1])
        text = text.reshape(-1, text.shape[-1])
        sides = {"i2t": (image, image_id, text, text_id), "t2i": (text, text_id, image, image_id)}
        rows = []
        for direction, (query, query_id, key, key_id) in sides.items():
            best, scores = _best(query, key, _KEPT)
            ranks = _ranks(query, query_id, key, key_id)
            rows += _rows(direction, query_id, key_id, best, scores, ranks)
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
            order = top_ranked(again, again.shape[1])
            keys = np.take_along_axis(ranked, order, axis=1)
            final = np.take_along_axis(again, order, axis=1)
            hits = key_id[keys] == query_id[:, None]
            ranks = np.where(hits.any(1), hits.argmax(1) + 1, 0)
            kept = keys[:, :_KEPT], final[:, :_KEPT]
            rows += _rows(direction, query_id, key_id, *kept, ranks, stage="rerank")
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


def _ranks(query, query_id, key, key_id) -> np.ndarray:
    """Of each query the rank of its best hit, from 1 on, equal scores as in `top_ranked`; 0: none.

    By blocks, as `_best`.
    """
    ranks = []
    for start in range(0, len(query), _BLOCK):
        block = query[start : start + _BLOCK] @ key.T
        hits = key_id == query_id[start : start + _BLOCK, None]
        place = np.where(hits, block, -np.inf).argmax(1)[:, None]
        score = np.take_along_axis(block, place, axis=1)
        before = (block > score) | ((block == score) & (np.arange(len(key)) < place))
        ranks.append(np.where(hits.any(1), before.sum(1) + 1, 0))
    return np.concatenate(ranks)


def _rows(direction, query_id, key_id, best, scores, ranks, **more) -> list[dict]:
    return [
        {
            "id": f"{direction}{place}",
            "direction": direction,
            **more,
            "prediction": key_id[best[place]].tolist(),
            "answers": [int(query_id[place])],
            **({"rank": int(ranks[place])} if ranks[place] else {}),
            "places": best[place].tolist(),
            "scores": scores[place].tolist(),
        }
        for place in range(len(query_id))
    ]
