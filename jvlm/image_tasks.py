# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a loaded model does with images: embeds, classifies, matches and grounds them."""

import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from jvlm import gradcam, sharding
from jvlm.data.frame import Frame, find_frame
from jvlm.data.images import to_array
from jvlm.errors import UserError
from jvlm.evaluators.common import embed_all, embed_ids, jit_on_mesh
from jvlm.evaluators.templates import expand_templates
from jvlm.evaluators.zero_shot import (
    class_logits,
    class_prompts,
    encoders,
    inverse_temperature,
    prompt_embeddings,
)
from jvlm.heat import Heat, words_of

_ROWS = 64  # Images at a time,
_GRADIENT_ROWS = 16  # and where gradients are taken.


class ImageTasks:
    """Methods of `pretrained.Pretrained`, whose model, weights, processor and mesh they use.

    Texts are cleaned before the tokenizer as they were in training, see `Processor`.
    """

    def embed_images(self, images: Sequence) -> np.ndarray:
        """Images (paths, Pillow images or arrays) -> float32[B, E], unit norm."""
        if isinstance(images, str) or not len(images):
            raise UserError("give a list of images, at least one")
        make = lambda part: self.processor(images=[images[i] for i in part])
        return self._rows(self._encoders[0], make, len(images), _ROWS)

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """Strings -> float32[B, E], unit norm."""
        if isinstance(texts, str) or not len(texts):
            raise UserError("give a list of texts, at least one")
        with jax.set_mesh(self.mesh):
            return embed_ids(self._encoders[1], self.params, self._tokenize(texts), self.mesh)

    def classify(
        self,
        images: Sequence,
        labels: Sequence[str],
        templates: str | Sequence[str] = ("{}",),
        fill: Mapping[str, Sequence[str]] | None = None,
        ensemble: str = "embeddings",
    ) -> np.ndarray:
        """Zero-shot class probabilities.

        Args:
          images: B paths, Pillow images or arrays.
          labels: C class names.
          templates, fill: prompts, see `evaluators.templates.expand_templates`.
          ensemble: how several prompts count, see `evaluators.zero_shot.class_logits`.

        Returns:
          float32[B, C].
        """
        templates = expand_templates(templates, fill)
        ids = self._tokenize(class_prompts(labels, templates))
        with jax.set_mesh(self.mesh):
            embed = lambda part: embed_ids(self._encoders[1], self.params, part, self.mesh)
            prompts = prompt_embeddings(embed, ids, len(templates), ensemble)
        scale = inverse_temperature(self.model, self.params)
        logits = class_logits(self.embed_images(images), prompts, scale, ensemble)
        return np.asarray(jax.nn.softmax(logits, axis=-1))

    def match(self, images: Sequence, texts: Sequence[str]) -> np.ndarray:
        """How likely image i and text i belong together, by a model that looks at both at once.

        Args:
          images: B paths, Pillow images or arrays.
          texts: B strings.

        Returns:
          float32[B], in [0, 1].
        """
        return np.asarray(jax.nn.softmax(self.match_logits(images, texts), axis=-1)[:, 1])

    def match_logits(self, images: Sequence, texts: Sequence[str]) -> np.ndarray:
        """The same as logits, float32[B, 2]: (no match, match); by the second ALBEF ranks again."""
        self.check_match()
        ids, mask = self._pair_ids(images, texts, "match")

        def make(part):
            batch = self.processor(images=[images[i] for i in part])
            return {**batch, "text": ids[part], "text_mask": mask[part]}

        return self._rows(self._pairs, make, len(images), _ROWS)

    def check_match(self) -> None:
        """Raises UserError where the model cannot `match`."""
        if not hasattr(self.model, "pair_logits"):
            raise UserError(f"{self.name} has no head that matches an image with a text")

    def gradcam(
        self,
        images: Sequence,
        texts: Sequence[str],
        *,
        mode: str = "itm",
        layer: int | None = None,
    ) -> list[Heat]:
        """Where the model looks when it says that image i and text i belong together.

        Args:
          images: B paths, Pillow images or arrays.
          texts: B strings.
          mode, layer: see `gradcam.phrase_maps` and `gradcam.choose_layer`.

        Returns:
          B heat maps, of the text and, with 'itm', of each of its words.

        Raises:
          UserError: the model has no such maps, or its image transforms cannot be followed back.
        """
        layer = gradcam.choose_layer(self.model, mode, layer)
        ids, mask = self._pair_ids(images, texts, "gradcam")
        frames: dict[int, Frame] = {}

        def make(part):
            arrays = [to_array(images[i]) for i in part]
            for place, pixels in zip(part.tolist(), arrays):
                height, width = pixels.shape[:2]
                frames[place] = find_frame(self.processor.steps or (), width, height)
            batch = self.processor(images=arrays)
            return {**batch, "text": ids[part], "text_mask": mask[part]}

        fn = functools.partial(self._maps, mode=mode, layer=layer)
        maps = self._rows(fn, make, len(images), _GRADIENT_ROWS)
        if mode == "itc":
            return [Heat(phrase, (), frames[place]) for place, phrase in enumerate(maps)]
        heats = []
        for place, tokens in enumerate(maps):
            words = words_of(self.processor.tokenizer, ids[place][mask[place]])
            of_words = tuple((word, tokens[list(places)].mean(0)) for word, places in words)
            heats.append(Heat(tokens.mean(0), of_words, frames[place]))
        return heats

    def ground(
        self,
        images: Sequence,
        phrases: Sequence[str],
        *,
        threshold: float = 0.2,
        mode: str = "itm",
        layer: int | None = None,
    ) -> np.ndarray:
        """Where in image i is what phrase i names: the box of the largest hot region.

        Args:
          images: B paths, Pillow images or arrays.
          phrases: B strings.
          threshold: see `heat.find_box`.
          mode, layer: see `gradcam`.

        Returns:
          float32[B, 4], x0, y0, x1, y1 in the pixels of the images as they are given.

        Raises:
          UserError: as `gradcam`.
        """
        heats = self.gradcam(images, phrases, mode=mode, layer=layer)
        return np.stack([heat.box(threshold) for heat in heats]).astype(np.float32)

    def _rows(self, fn, make, count: int, batch_size: int) -> np.ndarray:
        with jax.set_mesh(self.mesh):
            return embed_all(fn, self.params, make, count, self.mesh, batch_size)

    def _pair_ids(
        self, images: Sequence, texts: Sequence[str], what: str
    ) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(images, str) or isinstance(texts, str) or len(images) != len(texts):
            raise UserError(f"{what}: give as many images as texts")
        if not len(images):
            raise UserError(f"{what}: give at least one image")
        return self._tokenize(texts)

    def _tokenize(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        batch = self.processor(text=texts)
        return batch["text"], batch["text_mask"]

    @functools.cached_property
    def _pairs(self):
        def logits(params, batch):
            apply = functools.partial(self.model.apply, {"params": params})
            states = apply(batch["image"], method="image_states")
            return apply(states, batch["text"], batch["text_mask"], method="pair_logits")

        return jit_on_mesh(logits, self.mesh)

    @functools.cached_property
    def _maps(self):
        def maps(params, batch, mode, layer):
            if mode == "itm":
                return gradcam.token_maps(self.model, params, batch, layer)
            return gradcam.phrase_maps(self.model, params, batch, mode, layer)

        place = sharding.replicated(self.mesh)
        return jax.jit(maps, static_argnames=("mode", "layer"), out_shardings=place)

    @functools.cached_property
    def _encoders(self):
        if not hasattr(self.model, "encode_image"):
            raise UserError(f"{self.name} embeds nothing")
        return encoders(self.model, self.mesh)
