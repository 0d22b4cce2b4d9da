# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a loaded model does with text: continues it, streams it, ranks answers, captions images."""

import functools
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jvlm import paths, progress
from jvlm.errors import UserError
from jvlm.generation.generator import Generator
from jvlm.generation.options import with_defaults
from jvlm.generation.weights import is_unstacked, stack_all, unstack_all
from jvlm.tokenizers.stream import TextStream

ROWS = 64  # Prompts at a time.
NO_TOKENIZER = (
    "the model has no tokenizer: put its vocabulary files beside the checkpoint, or give "
    "load(tokenizer=...)"
)


class Candidates(NamedTuple):
    """Answers to rank, end tokens included.

    Attributes:
      ids: int32[C, T] for all prompts, or int32[B, C, T].
      mask: bool, as `ids`.
    """

    ids: np.ndarray
    mask: np.ndarray


class TextTasks:
    """Methods of `pretrained.Pretrained`, whose model, weights, processor and mesh they use.

    Prompts are cleaned before the tokenizer as they were in training, see `Processor`; answers stay
    as they are.
    """

    def generate(
        self,
        images: Sequence | None = None,
        prompts: Sequence[str] | None = None,
        *,
        allowed_texts: Sequence[str] = (),
        **options: Any,
    ) -> list[str]:
        """Continues prompts.

        Args:
          images: for models that see, one to a prompt: paths, Pillow images or arrays.
          prompts: strings.
          allowed_texts: answer with one of these only.
          **options: fields of `generation.Options`; greedy by default.

        Returns:
          New text only; with `num_return_sequences` n, n texts for each prompt.

        Raises:
          UserError: an unknown option, an empty prompt, or one that leaves no room for the answer.
        """
        batch = self._prompt_batch(images, prompts)
        return self.generate_batch(batch, allowed_texts=allowed_texts, **options)

    def caption(
        self,
        images: Sequence,
        prompt: str | None = None,
        *,
        allowed_texts: Sequence[str] = (),
        first: int = 0,
        **options: Any,
    ) -> list[str]:
        """Says what is in images.

        Args:
          images: paths, Pillow images or arrays, read a few at a time.
          prompt: what every caption begins with; default the model's own, '' for none.
          allowed_texts: see `generate`.
          first: number of the first image: samples depend on an image's number, not on the batch.
          **options: fields of `generation.Options`; the rest as the model's paper has them. Samples
            are drawn without beams, unless both are asked for.

        Returns:
          What follows the prompt; with `num_return_sequences` n, n captions for each image.

        Raises:
          UserError: the model writes no captions, or an unknown option.
        """
        how = getattr(self.model, "captioning", None)
        if how is None:
            raise UserError(f"{self.name} writes no captions")
        if isinstance(images, str) or not len(images):
            raise UserError("give a list of images, at least one")
        options = self._constrained(with_defaults(options, how), allowed_texts)
        prompt, captions = self.config.prompt if prompt is None else prompt, []
        for rows in _pieces(len(images)):
            own = images[rows[0] : rows[-1] + 1]
            batch = self._prompt_batch(own, [prompt] * len(own))
            batch = {key: value[rows - rows[0]] for key, value in batch.items()}
            texts = self._write(batch, rows + first, options)
            captions += texts[: len(texts) // len(rows) * len(own)]
        return captions

    def generate_batch(
        self,
        batch: Mapping[str, Any],
        *,
        allowed_texts: Sequence[str] = (),
        first: int = 0,
        **options: Any,
    ) -> list[str]:
        """The same from a batch of any size; `first` is the number of its first prompt."""
        options = self._constrained(options, allowed_texts)
        self._generator.check(batch, options)  # All prompts, before the first is answered.
        count, texts = len(batch["text"]), []
        for rows in _pieces(count):
            piece = {key: value[rows] for key, value in batch.items()}
            found = self._write(piece, rows + first, options)
            texts += found[: len(found) // len(rows) * min(len(rows), count - rows[0])]
        return texts

    def check_batch(
        self, batch: Mapping[str, Any], *, allowed_texts: Sequence[str] = (), **options: Any
    ) -> None:
        """Raises what `generate_batch` would raise, before it does anything."""
        self._generator.check(batch, self._constrained(options, allowed_texts))

    def generate_ids(
        self, batch: Mapping[str, Any], rows: Sequence[int] | None = None, **options: Any
    ) -> np.ndarray:
        """The same from a batch, to ids; see `generation.Generator.ids`.

        Returns:
          int32[B * n, T]: no prompt, no start token, the end token kept, padding behind it.
        """
        return self._generator.ids(self._decoding_params(), batch, options, rows)

    def stream(
        self, prompt: str, *, image: Any = None, allowed_texts: Sequence[str] = (), **options: Any
    ) -> Iterator[str]:
        """Continues one prompt and gives the text as it comes; joined it is that of `generate`.

        Args:
          prompt: a string.
          image: for models that see.
          allowed_texts, **options: as for `generate`, without beams.
        """
        batch = self._prompt_batch(None if image is None else [image], [prompt])
        options = self._constrained(options, allowed_texts)
        ends = self._generator.special_ids(options)[0]
        text = TextStream(self.processor.tokenizer)
        for part in self._generator.stream(self._decoding_params(), batch, options):
            ids = _before(part[0], ends)
            yield "".join(text.push(id) for id in ids)
            if len(ids) < part.shape[1]:
                break
        yield text.end()

    def rank(
        self,
        images: Sequence | None = None,
        prompts: Sequence[str] | None = None,
        candidates: Sequence[str] | Sequence[Sequence[str]] = (),
        **options: Any,
    ) -> np.ndarray:
        """Scores answers by their log-likelihood, end token included.

        Args:
          images: for models that see, one to a prompt: paths, Pillow images or arrays.
          prompts: B strings.
          candidates: C answers, or C for each prompt. They follow the prompt as they are: where
            the vocabulary has words with their space, begin them with it.
          **options: `length`, `label_smoothing`, `preselect` and `first_weight` of
            `generation.Generator.rank`.

        Returns:
          float32[B, C], higher is likelier.
        """
        return self.rank_batch(self._prompt_batch(images, prompts), candidates, **options)

    def rank_batch(
        self,
        batch: Mapping[str, Any],
        candidates: Sequence[str] | Sequence[Sequence[str]] | Candidates,
        **options: Any,
    ) -> np.ndarray:
        """The same from a batch of any size; `candidates` may be what `candidate_ids` gave."""
        count = len(batch["text"])
        given = candidates
        if not isinstance(given, Candidates):
            given = self.candidate_ids(candidates)
        if given.ids.ndim == 3 and len(given.ids) != count:
            raise UserError(f"rank: {len(given.ids)} lists of candidates, {count} prompts")
        scores = []
        for rows in _pieces(count):
            piece = {key: value[rows] for key, value in batch.items()}
            own = given if given.ids.ndim == 2 else Candidates(*(x[rows] for x in given))
            params = self._decoding_params()
            scores.append(self._generator.rank(params, piece, *own, rows=rows, **options))
        return np.concatenate(scores)[:count]

    def candidate_ids(self, candidates: Sequence[str] | Sequence[Sequence[str]]) -> Candidates:
        """Answers for `rank_batch`, read once for all of its calls."""
        if isinstance(candidates, str) or not len(candidates):
            raise UserError("rank: give a list of candidates, at least one")
        shared = isinstance(candidates[0], str)
        lists = [self._answers(x, "candidates") for x in ([candidates] if shared else candidates)]
        if len({len(answers) for answers in lists}) > 1:
            raise UserError("rank: give every prompt the same number of candidates")
        longest = max(len(ids) for answers in lists for ids in answers)
        ids = np.zeros((len(lists), len(lists[0]), longest), np.int32)
        mask = np.zeros(ids.shape, bool)
        for row, answers in enumerate(lists):
            for column, answer in enumerate(answers):
                ids[row, column, : len(answer)] = answer
                mask[row, column, : len(answer)] = True
        return Candidates(ids[0], mask[0]) if shared else Candidates(ids, mask)

    def _write(self, batch: Mapping[str, Any], rows: np.ndarray, options: Mapping) -> list[str]:
        """New text only, of a batch that goes at once."""
        decode, ends = self._need_tokenizer().decode, self._generator.special_ids(options)[0]
        return [decode(_before(row, ends)) for row in self.generate_ids(batch, rows, **options)]

    def _stacked_params(self) -> dict:
        """The weights as they are stored."""
        return stack_all(self.params) if is_unstacked(self.params) else self.params

    def _decoding_params(self) -> dict:
        """The weights unstacked; from the first call on the model keeps them so."""
        if not is_unstacked(self.params):
            params = paths.unflatten(paths.flatten(self.params))
            self.params = {}
            self.params = unstack_all(params)
        return self.params

    @functools.cached_property
    def _generator(self) -> Generator:
        if not hasattr(self.model, "prefill"):
            raise UserError(f"{self.name} is no language model: it does not generate")
        return Generator(self.model, self.mesh, self.generation)

    @property
    def _sees(self) -> bool:
        return hasattr(self._generator.model.cfg, "vision")

    def _prompt_batch(self, images: Sequence | None, prompts: Sequence[str] | None) -> dict:
        if images is not None and not self._sees:
            raise UserError(f"{self.name} is a language model: it sees no images, give prompts=")
        if images is None and self._sees:
            raise UserError(f"{self.name} speaks about images: give images= too")
        batch = self.prompt_ids(prompts)
        if images is not None:
            if isinstance(images, str) or len(images) != len(batch["text"]):
                raise UserError("give as many images as prompts")
            batch |= self.processor(images=images)
        return batch

    def prompt_ids(self, prompts: Sequence[str] | None) -> dict[str, np.ndarray]:
        """What the model reads of prompts: text int32[B, T], text_mask bool[B, T].

        Raises:
          UserError: something else than text, or an empty prompt of a model that sees nothing.
        """
        if prompts is None or isinstance(prompts, str) or not len(prompts):
            raise UserError("give a list of prompts, at least one")
        other = next((i for i, prompt in enumerate(prompts) if not isinstance(prompt, str)), None)
        if other is not None:
            raise UserError(f"prompt {other} is {type(prompts[other]).__name__}: give text")
        empty = next((i for i, prompt in enumerate(prompts) if not prompt), None)
        if empty is not None and not self._sees:
            raise UserError(f"prompt {empty} is empty: give it at least one character")
        # An encoder's text ends as its tokenizer ends texts; a prompt is left open.
        end = None if self._generator.model.encoder_decoder else False
        tokenizer = self._need_tokenizer()
        text, mask = tokenizer(self.processor.clean(prompts), end=end, truncate=False)
        return {"text": text, "text_mask": mask}

    def _constrained(self, options: dict, allowed_texts: Sequence[str]) -> dict:
        if not len(allowed_texts):
            return options
        return {**options, "allowed_sequences": self._answers(allowed_texts, "allowed_texts")}

    def _answers(self, texts: Sequence[str], name: str) -> list[list[int]]:
        """Ids of texts that follow a prompt, with the end token."""
        tokenizer = self._need_tokenizer()
        if isinstance(texts, str) or not all(isinstance(text, str) and text for text in texts):
            raise UserError(f"{name}: give a list of texts, none of them empty")
        return [tokenizer.encode(text, start=False, end=True) for text in texts]

    def _need_tokenizer(self) -> Any:
        if self.processor.tokenizer is None:
            raise UserError(NO_TOKENIZER)
        return self.processor.tokenizer


class Speaker(TextTasks):
    """The same of a model whose weights change, in training."""

    def __init__(self, model: Any, tokenizer: Any, mesh: Any, generation: Mapping | None = None):
        self.model, self.mesh, self.generation = model, mesh, generation or {}
        # The data's transforms have cleaned the prompts.
        self.processor = types.SimpleNamespace(tokenizer=tokenizer, clean=list)
        self.name = "the model"
        self.params: dict = {}


def _pieces(count: int) -> Iterator[np.ndarray]:
    """Row numbers, so many at a time; the last piece is filled up with the last row."""
    size = min(count, ROWS)
    starts = range(0, count, size)
    for start in progress.bar(starts, unit="batch") if len(starts) > 1 else starts:
        yield np.minimum(np.arange(start, start + size), count - 1)


def _before(ids: np.ndarray, ends: Sequence[int]) -> np.ndarray:
    """The ids before the first end token."""
    found = np.flatnonzero(np.isin(ids, list(ends)))
    return ids[: found[0]] if len(found) else ids
