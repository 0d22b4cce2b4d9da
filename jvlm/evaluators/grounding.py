# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Grounding without boxes in training: Grad-CAM of a phrase, held against the box it names."""

from collections.abc import Iterator, Mapping

import jax
import numpy as np

from jvlm import gradcam, heat, progress, sharding
from jvlm.data.frame import Frame, find_frame
from jvlm.data.pipeline import collate
from jvlm.errors import UserError, did_you_mean
from jvlm.evaluators.common import jit_on_mesh
from jvlm.evaluators.predictions import Predictions, Predictor, plain, read_entry

RULES = ("pointing", "proposals", "region")
_INPUTS = ("image", "text", "text_mask")


class Grounding(Predictor):
    """Whether a model looks at what a phrase names.

    Rows need `image`, `text` int32[T] or several int32[C, T] of the same object (each counts), with
    `text_mask`, and `box` float[4], x0, y0, x1, y1. With `size`, the width and height before the
    image was resized (the step `image_size`), boxes are in those pixels; without, in the pixels of
    the model's image.

    Metrics: grounding/pointing; or grounding/acc_iou50 and grounding/mean_iou.

    Args:
      rule: 'pointing': the hottest place lies in the box. 'proposals': of the row's boxes
        `proposals` the hottest has an IoU of at least one half (RefCOCO+ in ALBEF, with
        MAttNet's detections). 'region': so has the box of the map's largest hot region.
      mode, layer: of the map, see `gradcam.phrase_maps` and `gradcam.choose_layer`.
      proposals: entry with boxes float[N, 4], 'a/b' for entry b of entry a.
      threshold: of the hot region, see `heat.find_box`.
      fields: field of the predictions -> entry of the example, 'a/b' for entry b of entry a, of
        what else is of use, such as `id`, `phrase`, or `category`, by which accuracy is told too;
        of as many strings as there are texts each gets its own.
      name: first part of the metrics' names.
      count: only the first examples.
    """

    def __init__(
        self,
        model,
        batches,
        mesh,
        rule: str = "pointing",
        mode: str = "itm",
        layer: int | None = None,
        proposals: str = "proposals/box",
        threshold: float = 0.2,
        fields: Mapping[str, str] | None = None,
        name: str = "grounding",
        count: int | None = None,
    ):
        if rule not in RULES:
            raise UserError(f"{name}: rule {rule!r} is unknown.{did_you_mean(rule, RULES)}")
        if not 0 < threshold <= 1:
            raise UserError(f"{name}: threshold {threshold!r}: give 0 < x <= 1")
        if count is not None and count < 1:
            raise UserError(f"{name}: count: {count} examples: give 1 or more, or none")
        if taken := sorted({"prediction", "box"} & set(fields or {})):
            raise UserError(f"{name}: fields: {taken[0]!r} is the evaluator's own: take another")
        layer = gradcam.choose_layer(model, mode, layer)
        self.task = "pointing" if rule == "pointing" else "grounding"
        self.name, self._rule, self._threshold = name, rule, threshold
        self._batches, self._mesh, self._fields = batches, mesh, dict(fields or {})
        self._proposals = proposals
        names = [name for name, _ in batches.steps]
        measured = names.index("image_size") + 1 if "image_size" in names else 0
        self._steps = batches.steps[measured:]
        self._count = len(batches) if count is None else min(count, len(batches))
        self._chosen = {"mode": mode, "layer": layer}
        maps = lambda params, batch: gradcam.phrase_maps(model, params, batch, mode, layer)
        self._maps = jit_on_mesh(maps, mesh)
        list(self._pairs(batches.examples([0])[0]))  # Before the training, not at its end.

    def predict(self, params) -> Predictions:
        """The place or the box of every phrase."""
        rows = []
        for pairs in self._chunks():
            size = self._batches.batch_size
            filled = pairs + pairs[-1:] * (size - len(pairs))
            batch = collate([{key: pair[key] for key in _INPUTS} for pair in filled])
            maps = self._maps(params, sharding.put_whole_batch(batch, self._mesh))
            for pair, values in zip(pairs, jax.device_get(maps)):
                if not np.isfinite(values).all():
                    raise UserError(f"{self.name}: maps are not finite, nor are the weights then")
                found = self._find(values, pair)
                row = {"id": len(rows), "prediction": found.tolist(), "box": pair["box"]}
                rows.append(row | pair["fields"])
        return Predictions(rows)

    def settings(self):
        chosen = {"rule": self._rule, **self._chosen}
        if self._rule == "region":
            chosen["threshold"] = self._threshold
        return {"data": getattr(self._batches, "fingerprint", None), **chosen}

    def _chunks(self) -> Iterator[list[dict]]:
        """Pairs of an image and a phrase, as many as a batch has rows."""
        size, waiting = self._batches.batch_size, []
        for first in progress.bar(range(0, self._count, size), unit="batch"):
            places = range(first, min(first + size, self._count))
            for example in self._batches.examples(list(places)):
                waiting += self._pairs(example)
            while len(waiting) >= size:
                yield waiting[:size]
                del waiting[:size]
        if waiting:
            yield waiting

    def _pairs(self, example: Mapping) -> Iterator[dict]:
        missing = [key for key in (*_INPUTS, "box") if key not in example]
        if missing:
            raise UserError(f"{self.name}: rows have no {missing[0]!r}, only {sorted(example)}")
        pair = {"image": example["image"], "box": plain(example["box"])}
        pair["frame"] = self._frame(example)
        if self._rule == "proposals":
            found = read_entry(example, self._proposals)
            pair["proposals"] = np.array(found, np.float64).reshape(-1, 4)
        texts, masks = np.atleast_2d(example["text"]), np.atleast_2d(example["text_mask"])
        for place, (text, mask) in enumerate(zip(texts, masks)):
            fields = {}
            for name, key in self._fields.items():
                value = plain(read_entry(example, key))
                own = isinstance(value, list) and all(isinstance(one, str) for one in value)
                fields[name] = value[place] if own and len(value) == len(texts) else value
            yield {**pair, "text": text, "text_mask": mask, "fields": fields}

    def _frame(self, example: Mapping) -> Frame:
        if "size" in example:
            return find_frame(self._steps, *map(int, example["size"]))
        height, width = example["image"].shape[:2]
        return find_frame((), width, height)

    def _find(self, values: np.ndarray, pair: Mapping) -> np.ndarray:
        frame = pair["frame"]
        if self._rule == "pointing":
            return heat.place(values, frame)
        if self._rule == "region":
            return heat.find_box(values, frame, self._threshold)
        boxes = pair["proposals"]
        if not len(boxes):  # Nothing was detected, so nothing can be right.
            return np.zeros(4)
        return boxes[heat.score_boxes(values, frame, boxes).argmax()]
