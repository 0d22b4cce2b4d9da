# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Image-text retrieval, both ways."""

import numpy as np

from jvlm.evaluators.common import jit_on_mesh, run_rows
from jvlm.metrics.retrieval import first_hits, recall_of_ranks

_BLOCK = 1024


class Retrieval:
    """Recall at 1, 5 and 10.

    Rows need `image` and `text` int32[T] or several int32[C, T] (with `text_mask`). With `image_id`
    any item of equal id is a hit, so that scenes that mean the same count as the same; without, an
    image's hits are its own texts.
    """

    def __init__(self, model, batches, mesh):
        self._batches, self._mesh = batches, mesh

        def encode(params, batch):
            length = batch["text"].shape[-1]
            text, mask = (batch[key].reshape(-1, length) for key in ("text", "text_mask"))
            variables = {"params": params}
            image = model.apply(variables, batch["image"], method="encode_image")
            embeds = model.apply(variables, text, mask, method="encode_text")
            return image, embeds.reshape(image.shape[0], -1, embeds.shape[-1])

        self._encode = jit_on_mesh(encode, mesh)

    def run(self, params) -> dict[str, float]:
        """{'retrieval/i2t_r1': ..., 'retrieval/t2i_r10': ...}."""
        results = list(
            run_rows(self._encode, params, self._batches, self._mesh, keep=("image_id",))
        )
        image = np.concatenate([out[0] for out, _ in results])
        text = np.concatenate([out[1] for out, _ in results])
        if "image_id" in results[0][1]:
            image_id = np.concatenate([batch["image_id"] for _, batch in results])
        else:
            image_id = np.arange(len(image))
        text_id = np.repeat(image_id, text.shape[1])
        text = text.reshape(-1, text.shape[-1])
        metrics = {}
        for name, query, query_id, key, key_id in (
            ("i2t", image, image_id, text, text_id),
            ("t2i", text, text_id, image, image_id),
        ):
            recalls = recall_of_ranks(_ranks(query, query_id, key, key_id), (1, 5, 10))
            metrics.update({f"retrieval/{name}_r{k}": value for k, value in recalls.items()})
        return metrics


def _ranks(query, query_id, key, key_id) -> np.ndarray:
    """`first_hits`, by blocks of queries: the whole similarity matrix need not fit."""
    starts = range(0, len(query), _BLOCK)
    blocks = [slice(start, start + _BLOCK) for start in starts]
    return np.concatenate([first_hits(query[b] @ key.T, query_id[b], key_id) for b in blocks])
