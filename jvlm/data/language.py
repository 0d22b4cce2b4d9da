# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Steps that make rows for language models; see `data.transforms`."""

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np

from jvlm.data.examples import entry
from jvlm.data.images import BadRecord
from jvlm.errors import UserError

IGNORED = -1


def language(
    example,
    rng,
    *,
    tokenizer,
    text: str | Sequence[str],
    prompt: str | None | Sequence[str | None] = None,
    encoder_decoder: bool = False,
    max_len: int | None = None,
    target_len: int | None = None,
) -> dict[str, np.ndarray]:
    """A text to learn, behind a prompt or not -> ids, mask, and labels that are -1 elsewhere.

    A decoder reads prompt and text as one sequence, which the end token ends. It learns all of the
    text, and nothing of the prompt. An encoder-decoder reads the prompt in the encoder and learns
    the text and its end token; its decoder's input follows from the labels.

    What is too long is cut at its end, so a text that is cut does not end. An encoder's prompt
    keeps its end token.

    Args:
      text: template of the text, filled from the example: '{caption}', '{qa[answer]}'. Of several,
        one is drawn.
      prompt: template of the prompt; None is no prompt. As many as there are texts.
      encoder_decoder: see above.
      max_len: T of `text`; default the tokenizer's.
      target_len: T of an encoder-decoder's labels; default `max_len`.

    Returns:
      text int32[T], text_mask bool[T], labels int32[T].

    Raises:
      BadRecord: nothing of the text is left to learn.
      UserError: as many prompts as texts are needed; an encoder without a prompt.
    """
    texts = [text] if isinstance(text, str) else list(text)
    prompts = list(prompt) if isinstance(prompt, Sequence) and not isinstance(prompt, str) else None
    prompts = [prompt] * len(texts) if prompts is None else prompts
    if len(prompts) != len(texts):
        raise UserError(f"data: language: {len(texts)} texts and {len(prompts)} prompts")
    place = rng.integers(len(texts)) if len(texts) > 1 else 0
    said = texts[place].format_map(example)
    asked = None if prompts[place] is None else prompts[place].format_map(example)
    max_len = max_len or tokenizer.max_len
    target_len = target_len or max_len
    if encoder_decoder:
        if asked is None:
            raise UserError(
                "data: language: an encoder-decoder needs a prompt, '' for an empty one"
            )
        ids = tokenizer.encode(asked, max_len=max_len)
        labels = tokenizer.encode(said, start=False, end=True)
    else:
        before = [] if asked is None else tokenizer.encode(asked, end=False)
        behind = tokenizer.encode(said, start=asked is None, end=True)
        ids, target_len = before + behind, max_len
        labels = [IGNORED] * len(before) + behind
    labels = fit(labels, target_len, IGNORED)
    if not (labels != IGNORED).any():
        raise BadRecord(f"{max_len} tokens hold the prompt {asked!r} and nothing of {said!r}")
    mask = np.arange(max_len) < len(ids)
    return {"text": fit(ids, max_len, tokenizer.pad_id), "text_mask": mask, "labels": labels}


def answers(
    example,
    rng,
    *,
    tokenizer,
    key: str,
    count: int = 10,
    max_len: int | None = None,
    weight: float = 1.0,
) -> dict[str, np.ndarray]:
    """The distinct answers to a question, each with the share of annotators who gave it.

    In the order in which they come first, as salesforce/ALBEF dataset/vqa_dataset.py has them. Of
    more than `count`, the most frequent stay, and shares are still those of all annotators.

    Args:
      key: entry of the example: one answer or a list, 'a/b' for entry b of entry a.
      count: C; ten annotators give at most ten.
      max_len: T, end token included; default the tokenizer's.
      weight: of the question (0.5 for Visual Genome's in ALBEF).

    Returns:
      candidates int32[C, T], candidates_mask bool[C, T], answer_weight float32[C].

    Raises:
      BadRecord: no answer.
    """
    given = entry(example, key)
    given = [given] if isinstance(given, str) else list(given)
    if not given:
        raise BadRecord(f"no answer in {key!r}")
    times = collections.Counter(given)  # Ties keep their order.
    kept = {answer for answer, _ in times.most_common(count)}
    max_len = max_len or tokenizer.max_len
    ids, shares = np.full((count, max_len), tokenizer.pad_id, np.int32), np.zeros(count, np.float32)
    mask = np.zeros(ids.shape, bool)
    for place, answer in enumerate(answer for answer in times if answer in kept):
        row = tokenizer.encode(answer, start=False, end=True, max_len=max_len)
        ids[place, : len(row)], mask[place, : len(row)] = row, True
        shares[place] = weight * times[answer] / len(given)
    return {"candidates": ids, "candidates_mask": mask, "answer_weight": shares}


def split_text(example, rng, *, key: str, before: str, behind: str) -> dict[str, Any]:
    """A text cut before a word at random, the first included: a prefix and what follows it."""
    words = example[key].split()
    cut = rng.integers(len(words)) if words else 0
    return {before: " ".join(words[:cut]), behind: " ".join(words[cut:])}


def join(example, rng, *, key: str, separator: str, out: str) -> dict[str, str]:
    """Several texts as one: the lines of a poem, its keywords."""
    return {out: separator.join(example[key])}


def fit(ids: Sequence[int], length: int, fill: int) -> np.ndarray:
    """int32[length]: ids, cut or filled up."""
    row = np.full(length, fill, np.int32)
    row[: len(ids)] = ids[:length]
    return row
