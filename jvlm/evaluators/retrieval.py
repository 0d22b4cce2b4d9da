# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Image-text retrieval, both ways."""

import numpy as np

from jvlm.evaluators.common import jit_on_mesh, run_rows
from jvlm.metrics.retrieval import recall_at_k


class Retrieval:
    """Recall at 1, 5 and 10.

    Rows need `image`, `text` int32[T] or several int32[C, T] (with `text_mask`), and `image_id`:
    any item of equal id is a hit, so that scenes that mean the same count as the same.
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
        image_id = np.concatenate([batch["image_id"] for _, batch in results])
        text_id = np.repeat(image_id, text.shape[1])
        similarity = image @ text.reshape(-1, text.shape[-1]).T
        metrics = {}
        for name, scores, query, key in (
            ("i2t", similarity, image_id, text_id),
            ("t2i", similarity.T, text_id, image_id),
        ):
            recalls = recall_at_k(scores, query, key, (1, 5, 10))
            metrics.update({f"retrieval/{name}_r{k}": value for k, value in recalls.items()})
        return metrics
