# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches of prompts as the loop takes them: few shapes, every prompt's end in the last column."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jvlm import sharding
from jvlm.errors import UserError

# What stands beside the text token by token, and what pads it.
_BY_TOKEN = {"text": 0, "text_mask": False, "positions": 0}


@dataclasses.dataclass(frozen=True)
class Prompts:
    """Attributes:
    batch: what `prefill` reads.
    tokens: int32[B, P], the ids that the answer goes on from, padded on the left.
    begin: int32[B], the first column of each.
    slots: of the cache, that `prefill` fills.
    rows: before padding to what the devices share evenly.
    """

    batch: Mapping[str, Any]
    tokens: np.ndarray
    begin: np.ndarray
    slots: int
    rows: int


def bucket(length: int) -> int:
    """The next of 1, 16, 32, ... 128, 160, ... 256, 320, ...: four sizes an octave from 64 on.

    Of the tokens of lengths 1 to 1024 it adds 8 %, with 21 sizes; powers of two add 33 %.
    """
    step = max(16, 1 << max(0, (length - 1).bit_length() - 3))
    return length if length <= 1 else -(-length // step) * step


def check_prompts(
    model: Any, batch: Mapping[str, Any], new: int, numbers: Sequence[int] | None = None
) -> dict[str, Any]:
    """Checks a batch.

    Args:
      model: a language model; see `models.towers.decoder`.
      batch: numpy or JAX arrays; `text` and `text_mask` padded on either side.
      new: tokens to come.
      numbers: the prompts' names in messages; default 0, 1, 2, ...

    Returns:
      The batch with masks and what the decoder begins with.

    Raises:
      UserError: an empty prompt, or one that leaves no room for `new` tokens.
    """
    if "text" not in batch:
        raise UserError("generate: the batch has no text")
    batch = dict(batch)
    text = np.asarray(batch["text"], np.int32)
    mask = batch.get("text_mask")
    mask = np.ones(text.shape, bool) if mask is None else np.asarray(mask, bool)
    if not len(text):
        raise UserError("generate: the batch has no prompt")
    numbers = range(len(text)) if numbers is None else numbers
    if text.ndim != 2 or mask.shape != text.shape:
        raise UserError(
            f"generate: text has shape {text.shape} and text_mask {mask.shape}: give both [B, T]"
        )
    soft = np.zeros(len(text), int)
    if "prefix" in batch:
        soft += batch["prefix"].shape[1]
        if "prefix_mask" in batch:
            soft = np.asarray(batch["prefix_mask"]).sum(1)
    lengths = mask.sum(1)
    if not (lengths + soft).all():
        empty = int(np.argmin(lengths + soft))
        raise UserError(f"generate: prompt {numbers[empty]} is empty: give at least one token")
    if mask.any() and not 0 <= text[mask].min() <= text[mask].max() < model.vocab_size:
        wrong = mask & ((text < 0) | (text >= model.vocab_size))
        row, column = np.argwhere(wrong)[0]
        raise UserError(
            f"generate: prompt {numbers[row]} has the id {text[row, column]}, the model has "
            f"{model.vocab_size} tokens: use its own tokenizer"
        )
    first = getattr(model.cfg, "first_id", None)
    if first is not None:  # What the model reads; penalties of what was there see it too.
        text = np.where(mask & (np.cumsum(mask, axis=1) == 1), first, text)
    batch |= {"text": text, "text_mask": mask}
    if model.encoder_decoder:
        if "decoder_text" not in batch:
            batch["decoder_text"] = np.full((len(text), 1), model.cfg.start_id, np.int32)
        decoder = np.asarray(batch["decoder_text"], np.int32)
        seen = np.asarray(batch.get("decoder_mask", np.ones(decoder.shape, bool)), bool)
        batch |= {"decoder_text": decoder, "decoder_mask": seen}
        _check_room(model, seen.sum(1), new, numbers)
    else:
        _check_room(model, lengths + soft, new, numbers)
    return batch


def make_prompts(
    model: Any,
    batch: Mapping[str, Any],
    new: int,
    mesh: jax.sharding.Mesh,
    numbers: Sequence[int] | None = None,
) -> Prompts:
    """Checks a batch and lays it out for the devices of `mesh`. See `check_prompts`."""
    batch = check_prompts(model, batch, new, numbers)
    text, mask = batch["text"], batch["text_mask"]
    columns = batch["prefix"].shape[1] if "prefix" in batch else 0
    if model.encoder_decoder:
        decoder, seen = batch["decoder_text"], batch["decoder_mask"]
        tokens, seen = (_align(x, seen, seen.sum(1).max()) for x in (decoder, seen))
        batch |= {"decoder_text": tokens, "decoder_mask": seen}
        columns = 0
        used = int(np.flatnonzero(mask.any(0)).max(initial=-1)) + 1
        size = max(used, min(bucket(used), getattr(model.cfg, "question_len", bucket(used))))
        for key in ("text", "text_mask"):
            batch[key] = np.pad(batch[key][:, :used], ((0, 0), (0, size - used)))
    else:
        longest = int(mask.sum(1).max())
        size = bucket(longest)
        if model.cfg.max_len is not None:
            # Where that is too short the model says so: it counts padding of the prefix.
            size = max(longest, min(size, model.cfg.max_len - columns))
        for key in _BY_TOKEN.keys() & batch.keys():
            value = np.asarray(batch[key])
            before = value[:, : value.shape[1] - text.shape[1]]  # Positions of a prefix.
            after = _align(value[:, before.shape[1] :], mask, size, _BY_TOKEN[key])
            batch[key] = np.concatenate([before, after], axis=1)
        tokens, seen = batch["text"], batch["text_mask"]
    rows = -len(text) % sharding.batch_shards(mesh)
    rows = np.minimum(np.arange(len(text) + rows), len(text) - 1)
    place = sharding.batch_sharding(mesh)
    batch = {key: jax.device_put(value[rows], place) for key, value in batch.items()}
    begin = tokens.shape[1] - seen.sum(1)
    return Prompts(
        batch=batch,
        tokens=tokens[rows],
        begin=begin[rows].astype(np.int32),
        slots=columns + tokens.shape[1],
        rows=len(text),
    )


def _check_room(model: Any, lengths: np.ndarray, new: int, numbers: Sequence[int]) -> None:
    limit = model.cfg.max_len
    longest = int(lengths.max())
    if limit is None or longest + new <= limit:
        return
    row = numbers[int(lengths.argmax())]
    where = f"generate: prompt {row} has {longest} tokens and {new} more are to come, the model has"
    advice = (
        f"max_new_tokens at most {limit - longest}" if longest < limit else "shorten the prompt"
    )
    raise UserError(f"{where} {limit} positions: {advice}")


def _align(x: np.ndarray, mask: np.ndarray, length: int, fill: Any = 0) -> np.ndarray:
    """The columns of x [B, T] where `mask` is True, at the end of `length` columns."""
    out = np.full((len(x), length), fill, x.dtype)
    for new, old, real in zip(out, x, mask):
        kept = old[real]
        new[length - len(kept) :] = kept
    return out
