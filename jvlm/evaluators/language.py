# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a language model answers to a data set's prompts, freely or among candidates."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jvlm import progress
from jvlm.config import construct
from jvlm.data.pipeline import collate
from jvlm.errors import UserError, did_you_mean
from jvlm.evaluators.predictions import Predictions, Predictor, plain, read_entry
from jvlm.evaluators.templates import read_names
from jvlm.generation import ranking
from jvlm.generation.options import Options, make_options
from jvlm.generation.tasks import NO_TOKENIZER, Speaker
from jvlm.metrics.tasks import TASKS, check_fields, find_task

_FILES = (".json", ".txt")
_OWN = {"prompt", "prediction", "candidates", "scores"}  # Fields that no data can give.


class _Asked(Predictor):
    """Prompts, and the fields of a data set that its task scores answers by."""

    def __init__(
        self,
        model,
        tokenizer,
        batches,
        mesh,
        generation,
        task,
        prompt,
        fields,
        name,
        inputs,
        count,
        results,
    ):
        needs = find_task(task).needs
        if count is not None and count < 1:
            raise UserError(f"{name or task}: count: {count} examples: give 1 or more, or none")
        if tokenizer is None:
            raise UserError(NO_TOKENIZER)
        self.task, self.name = task, name or TASKS[task].name or task
        self._classes = getattr(batches, "class_names", None)
        self._batches, self._prompt, self._inputs = batches, prompt, tuple(inputs)
        self._fields = dict(fields)
        self._count = len(batches) if count is None else min(count, len(batches))
        self._speaker = Speaker(model, tokenizer, mesh, generation)
        # Before the training: a mistake must not wait for its end.
        missing = [f for f in needs if f not in self._fields and f != "prediction"]
        if missing:
            raise UserError(f"{self.name}: fields: the task {task} needs {', '.join(missing)} too")
        taken = sorted(_OWN & set(self._fields))
        if taken:
            raise UserError(
                f"{self.name}: fields: {', '.join(taken)}: what the model says, not data"
            )
        example = batches.examples([0])[0]
        self._results = None if results is None else dict(results)
        known = _OWN | {"id", *self._fields}
        unknown = next((f for f in (self._results or {}).values() if f not in known), None)
        if unknown is not None:
            hint = did_you_mean(unknown, known)
            raise UserError(f"{self.name}: results: rows have no field {unknown!r}.{hint}")
        self._fill(prompt, example)
        where = lambda: f"{self.name}: fields: the first example's"
        check_fields(find_task(task), self._references(example), where)
        if hasattr(model.cfg, "vision") and "image" not in self._inputs:
            raise UserError(f"{self.name}: inputs: the model sees images: add 'image'")
        for key in self._inputs:
            read_entry(example, key)

    def predict(self, params) -> Predictions:
        """The answers, with their prompts and references."""
        self._speaker.params, rows = params, []
        try:
            for first, count, examples in self._chunks():
                prompts = [self._fill(self._prompt, example) for example in examples]
                batch = self._speaker.prompt_ids(prompts)
                read = [{key: read_entry(one, key) for key in self._inputs} for one in examples]
                batch |= collate(read)
                answers = self._answer(batch, examples, first)
                for place, answer in enumerate(answers[:count]):
                    row = {"id": first + place, "prompt": prompts[place], **answer}
                    rows.append(row | self._references(examples[place]))
        finally:
            self._speaker.params = {}
        return Predictions(rows)

    def results(self, rows):
        if self._results is None:
            return None
        # Imported ids are texts; servers have numbers. A prediction stays a text.
        is_number = lambda field, value: field != "prediction" and str(value).isdecimal()
        return [
            {
                key: int(row[field]) if is_number(field, row[field]) else row[field]
                for key, field in self._results.items()
            }
            for row in rows
        ]

    def settings(self):
        return {
            "data": getattr(self._batches, "fingerprint", None),
            "count": self._count,
            "prompt": self._prompt,
        }

    def _chunks(self) -> Iterator[tuple[int, int, list[dict]]]:
        """(number of the first, how many count, examples); the last chunk is filled up."""
        size = min(self._batches.batch_size, self._count)
        for first in progress.bar(range(0, self._count, size), unit="batch"):
            places = np.minimum(np.arange(first, first + size), self._count - 1).tolist()
            yield first, min(size, self._count - first), self._batches.examples(places)

    def _answer(self, batch, examples, first: int) -> list[dict[str, Any]]:
        raise NotImplementedError

    def _references(self, example: Mapping) -> dict[str, Any]:
        fields, kinds = {}, TASKS[self.task].may | TASKS[self.task].needs
        for name, key in self._fields.items():
            value = plain(read_entry(example, key))
            kind = kinds.get(name, "")
            if name == key == "label" and kind == "a text or a number" and self._classes:
                value = self._classes[value] if value in range(len(self._classes)) else value
            if kind.startswith("a list") and not isinstance(value, list):
                value = [value]
            elif kind in ("text", "a text or a number") and isinstance(value, list) and value:
                value = value[0]
            fields[name] = value
        return fields

    def _fill(self, template: str, example: Mapping) -> str:
        try:
            return template.format_map(example)
        except KeyError as error:
            raise UserError(f"{self.name}: prompt: no {error} in {sorted(example)}") from None
        except (ValueError, IndexError, AttributeError, TypeError) as error:
            raise UserError(f"{self.name}: prompt {template!r}: {error}") from None


class Generate(_Asked):
    """Answers that the model writes, scored by a task.

    The model gets its prompts as `generate` gets them, every example once, in order.

    Args:
      task: of `metrics.tasks.TASKS`: 'caption', 'vqa', 'exact', 'multiple_choice' ...
      prompt: template, filled from an example: '{question}', 'Question: {qa[question]} Answer:'.
      fields: field of the predictions -> entry of the example, 'a/b' for entry b of entry a: the
        references that the task needs, and what else is of use, such as `id`. A single value serves
        as a list of one where the task needs a list, and the first of a list where it needs one;
        `label` becomes its class name, where the data set has such.
      options: of generation, see `generation.Options`, and `allowed_texts`.
      name: first part of the metrics' names; default the task.
      inputs: entries of the example that the model reads too, such as `image`.
      count: only the first examples.
      results: key -> field of the predictions, for a file that a benchmark's server takes: NoCaps's
        {'image_id': 'image_id', 'caption': 'prediction'}; written beside the predictions.
    """

    def __init__(
        self,
        model,
        tokenizer,
        batches,
        mesh,
        task: str,
        prompt: str,
        fields: Mapping[str, str],
        options: Mapping[str, Any] | None = None,
        name: str | None = None,
        inputs: Sequence[str] = (),
        count: int | None = None,
        results: Mapping[str, str] | None = None,
        generation: Mapping[str, Any] | None = None,
    ):
        super().__init__(
            *(model, tokenizer, batches, mesh, generation),
            *(task, prompt, fields, name, inputs, count, results),
        )
        self._options = dict(options or {})
        self._allowed = tuple(self._options.pop("allowed_texts", ()))
        construct(Options, self._options, where=f"{self.name}: options")
        if self._options.get("num_return_sequences", 1) > 1:
            raise UserError(f"{self.name}: num_return_sequences: one answer is scored")

    def settings(self):
        resolved = make_options(self._options, self._speaker.generation)
        decoding = dataclasses.asdict(resolved) | {"allowed_texts": self._allowed}
        return super().settings() | {"decoding": decoding}

    def _answer(self, batch, examples, first):
        texts = self._speaker.generate_batch(
            batch, allowed_texts=self._allowed, first=first, **self._options
        )
        return [{"prediction": text.strip()} for text in texts]


class Rank(_Asked):
    """The likeliest of given answers, scored by a task.

    A task of scores gets them instead: 'visdial' those of all candidates, 'auc' the probability of
    the first.

    Args:
      task, prompt, fields, name, inputs, count, results: see `Generate`.
      candidates: the same for all, or the file of a list of them, .json or a line each in .txt; or
        the example's entry that lists them, 'a/b' as for fields.
      length, label_smoothing, preselect, first_weight: see `generation.Generator.rank`. ALBEF's and
        BLIP's VQA have preselect=128 of 3,128 answers, ALBEF's first_weight=2 besides.
      before: what the candidates begin with, such as the space between words of some vocabularies.
      kept: of its candidates and their scores a row keeps the best so many, best first; default
        all, as they are given.
    """

    def __init__(
        self,
        model,
        tokenizer,
        batches,
        mesh,
        task: str,
        prompt: str,
        fields: Mapping[str, str],
        candidates: str | Sequence[str],
        before: str = "",
        length: str | float = "sum",
        label_smoothing: float = 0.0,
        preselect: int = 0,
        first_weight: float = 1.0,
        kept: int | None = None,
        name: str | None = None,
        inputs: Sequence[str] = (),
        count: int | None = None,
        results: Mapping[str, str] | None = None,
    ):
        super().__init__(
            *(model, tokenizer, batches, mesh, None),
            *(task, prompt, fields, name, inputs, count, results),
        )
        if kept is not None and kept < 1:
            raise UserError(f"{self.name}: kept: {kept} candidates: give 1 or more, or none")
        ranking.check(length, preselect)
        self._given, self._before, self._kept = candidates, before, kept
        self._how = dict(length=length, label_smoothing=label_smoothing, preselect=preselect)
        self._how["first_weight"] = first_weight
        # The same for all are read, and become ids, once.
        self._shared, self._ids = None, None
        if not isinstance(candidates, str) or candidates.endswith(_FILES):
            read = read_names(candidates) if isinstance(candidates, str) else list(candidates)
            if not isinstance(read, list) or not read:
                raise UserError(f"{self.name}: no candidates: give a list of texts, or its file")
            self._shared = [str(text) for text in read]
            self._ids = self._speaker.candidate_ids([before + text for text in self._shared])
        else:
            found = plain(read_entry(batches.examples([0])[0], candidates))
            if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
                raise UserError(
                    f"{self.name}: candidates: {candidates!r} of the first example is no list of "
                    "texts; files of them end in .json or .txt"
                )

    def settings(self):
        given = {"candidates": self._given, "before": self._before}
        return super().settings() | {"ranking": given | self._how}

    def _answer(self, batch, examples, first):
        if self._shared is not None:
            lists, given = [self._shared] * len(examples), self._ids
        else:
            lists = [plain(read_entry(example, self._given)) for example in examples]
            if not all(lists):
                raise UserError(f"{self.name}: an example has no candidates")
            most = max(map(len, lists))
            # Every prompt has as many: the last one again, which cannot win against itself.
            filled = [[*texts, *texts[-1:] * (most - len(texts))] for texts in lists]
            given = [[self._before + text for text in texts] for texts in filled]
        scores = self._speaker.rank_batch(batch, given, **self._how)
        if np.isnan(scores).any():
            raise UserError(f"{self.name}: scores are not numbers: the weights are not finite")
        answers = []
        for texts, row in zip(lists, scores):
            # What was not preselected is as good as impossible; JSON knows no infinity.
            values = np.maximum(row[: len(texts)].astype(np.float64), -1e9)
            shown = range(len(texts))
            if self._kept is not None:
                shown = np.argsort(-values, kind="stable")[: self._kept].tolist()
            answers.append(
                {
                    "candidates": [texts[place] for place in shown],
                    "scores": [float(values[place]) for place in shown],
                    "prediction": self._prediction(texts, values),
                }
            )
        return answers

    def _prediction(self, texts: Sequence[str], scores: np.ndarray) -> Any:
        kind = TASKS[self.task].needs["prediction"]
        if kind == "a number":
            odds = np.exp(scores - scores.max())
            return float(odds[0] / odds.sum())
        return scores.tolist() if kind == "a list of numbers" else texts[int(scores.argmax())]
