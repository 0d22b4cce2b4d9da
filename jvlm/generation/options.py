# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What may be asked of a generation, under transformers' names."""

import dataclasses
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jvlm.config import construct
from jvlm.errors import UserError

# Read from a checkpoint's generation_config.json only where samples are asked for.
_SAMPLING = ("temperature", "top_k", "top_p")
_OF_CHECKPOINT = (
    *_SAMPLING,
    "num_beams",
    "num_return_sequences",
    "max_new_tokens",
    "min_new_tokens",
    "length_penalty",
    "early_stopping",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "bad_words_ids",
    "eos_token_id",
    "pad_token_id",
)


@dataclasses.dataclass(frozen=True)
class Options:
    """How tokens are chosen. Greedy by default.

    Attributes:
      num_beams: width of beam search; 1 is none.
      num_return_sequences: sequences per prompt: so many samples, or the n best beams.
      max_new_tokens, min_new_tokens: tokens after the prompt, the end token among them; before
        `min_new_tokens` no end token is taken.
      do_sample: draw tokens; default where a temperature above 0 is given.
      temperature: divides the logits. 0 is greedy; default 1 with `do_sample=True`, else 0.
      top_k: draw from the k likeliest tokens; 0 is all.
      top_p: draw from the fewest likeliest tokens whose probability reaches p (arXiv:1904.09751).
      length_penalty: a beam's score is its log-probability / (new tokens ** length_penalty).
      early_stopping: of beam search: True ends a prompt when `num_beams` sequences have ended,
        False when the best running beam would not get among them if it ended now, 'never' when it
        could not get there at any length.
      beam_search: 'new', or 'early', as transformers did before 4.36: a beam's length counts the
        prompt and not the end token (and see `generation.beam`). BLIP's and LAVIS's captions were
        chosen so.
      repetition_penalty: divides positive and multiplies negative logits of tokens that are in the
        prompt (of an encoder-decoder: the decoder's) or in the answer (arXiv:1909.05858); in beam
        search it acts on log-probabilities.
      no_repeat_ngram_size: no n tokens in a row twice, prompt included; 0 is off.
      bad_words_ids: sequences of ids that must not come.
      allowed_ids: only these tokens and the end tokens.
      allowed_sequences: only these sequences of ids, each with an end token behind it.
      eos_token_id: one or several end tokens; default the checkpoint's, () for none.
      pad_token_id: what follows an end token; default the checkpoint's, or the first end token.
      seed: of samples, below 2 ** 32. A prompt's samples depend on it and the prompt's number, not
        on the batch.
    """

    num_beams: int = 1
    num_return_sequences: int = 1
    max_new_tokens: int = 64
    min_new_tokens: int = 0
    do_sample: bool | None = None
    temperature: float | None = None
    top_k: int = 0
    top_p: float = 1.0
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    beam_search: str = "new"
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    bad_words_ids: Sequence[Sequence[int]] = ()
    allowed_ids: Sequence[int] = ()
    allowed_sequences: Sequence[Sequence[int]] = ()
    eos_token_id: int | Sequence[int] | None = None
    pad_token_id: int | None = None
    seed: int = 0

    def __post_init__(self):
        for name in ("num_beams", "num_return_sequences", "max_new_tokens"):
            self._number(name, int, 1)
        for name in ("min_new_tokens", "top_k", "no_repeat_ngram_size", "seed"):
            self._number(name, int, 0)
        self._number("length_penalty", float)
        self._number("top_p", float, 0.0)
        self._number("repetition_penalty", float, 0.0)
        if self.temperature is not None:
            self._number("temperature", float, 0.0)
        self._ids("allowed_ids")
        for name in ("bad_words_ids", "allowed_sequences"):
            self._ids(name, what="a list of lists of ids")
        if not isinstance(self.eos_token_id, numbers.Integral | None):
            self._ids("eos_token_id", what="an id or a list of ids")
        if self.seed >= 2**32:
            raise _error(f"seed {self.seed}: below {2**32}")
        if self.top_p > 1:
            raise _error(f"top_p {self.top_p}: a probability, at most 1")
        if self.repetition_penalty == 0:
            raise _error("repetition_penalty 0: above 0; 1 is none")
        if self.early_stopping not in (True, False, "never"):
            raise _error(f"early_stopping {self.early_stopping!r}: choose True, False or 'never'")
        if self.beam_search not in ("new", "early"):
            raise _error(f"beam_search {self.beam_search!r}: choose 'new' or 'early'")
        if self.min_new_tokens > self.max_new_tokens:
            raise _error(
                f"min_new_tokens {self.min_new_tokens} is more than max_new_tokens "
                f"{self.max_new_tokens}"
            )
        if self.do_sample and self.temperature == 0:
            raise _error("do_sample=True with temperature 0: give a temperature above 0")
        if self.do_sample is False and self.temperature:
            raise _error(f"do_sample=False with temperature {self.temperature}: drop one of them")
        if not self.samples and (self.top_k or self.top_p < 1):
            raise _error("top_k and top_p are for samples: give do_sample=True or a temperature")
        if self.num_beams > 1 and self.num_return_sequences > self.num_beams:
            raise _error(
                f"num_return_sequences {self.num_return_sequences} is more than num_beams "
                f"{self.num_beams}: raise num_beams"
            )
        if self.num_beams == 1 and self.num_return_sequences > 1 and not self.samples:
            raise _error(
                f"num_return_sequences {self.num_return_sequences} of greedy search would be "
                "alike: give do_sample=True or num_beams"
            )

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn."""
        return bool(self.temperature) if self.do_sample is None else self.do_sample

    @property
    def width(self) -> int:
        """Sequences per prompt that are followed."""
        return self.num_beams if self.num_beams > 1 else self.num_return_sequences

    def _number(self, name: str, kind: type, least: float = -math.inf) -> None:
        value = getattr(self, name)
        kinds = (int, float) if kind is float else (int,)
        whole = "a number" if kind is float else "a whole number"
        if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
            raise _error(f"{name} {value!r}: give {whole}")
        if value < least:
            raise _error(f"{name} {value}: at least {least:g}")

    def _ids(self, name: str, what: str = "a list of ids") -> None:
        value, nested = getattr(self, name), "lists" in what
        listed = lambda x: isinstance(x, Sequence | np.ndarray) and not isinstance(x, str)
        if not listed(value) or (nested and not all(map(listed, value))):
            raise _error(f"{name} {value!r}: give {what}")


def make_options(options: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> Options:
    """Options as asked for, the rest as the checkpoint says.

    A checkpoint's generation_config.json never makes generation sample: its `do_sample` is not
    read, its temperature, top_k and top_p only where samples are asked for.

    Args:
      options: what the user gives.
      defaults: content of generation_config.json.

    Raises:
      UserError: an unknown option, a wrong value, or options that contradict each other.
    """
    samples = options.get("do_sample") or options.get("temperature")
    known = {
        key: defaults[key]
        for key in _OF_CHECKPOINT
        if defaults and defaults.get(key) is not None and (samples or key not in _SAMPLING)
    }
    return construct(Options, {**known, **options}, where="generate")


def with_defaults(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Options as asked for, the rest as a model's paper has them.

    Samples are drawn without the paper's beams.
    """
    if options.get("do_sample") or options.get("temperature"):
        defaults = {name: value for name, value in defaults.items() if name != "num_beams"}
    return {**defaults, **options}


def _error(message: str) -> UserError:
    return UserError(f"generate: {message}")
