# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""A published checkpoint that has been opened: whether all of it fits, and its numbers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jvlm import paths, quantise
from jvlm.config import from_dataclass
from jvlm.convert import blip, engine
from jvlm.convert.families import PICKLED
from jvlm.convert.opening import Published, open_published
from jvlm.errors import UserError
from jvlm.models import MODELS
from jvlm.models.towers.bert import BertConfig
from jvlm.tokenizers import Tokenizer, from_checkpoint, has_tokenizer

CHINESE_LENGTH = 52
ENDLESS = 512  # Tokens of a text for models without a limit; T5 was trained with as many.


def load(
    published: Published,
    abstract: Mapping,
    tokenizer: Tokenizer | None = None,
    quantised: quantise.Rules | None = None,
) -> tuple[dict, Tokenizer | None]:
    """Reads the weights, once everything has been found to fit.

    Args:
      published: the checkpoint.
      abstract: the parameters' shapes, dtypes and shardings.
      tokenizer: in place of the checkpoint's.
      quantised: which kernels to quantise, see `quantise.resolve`.

    Returns:
      (parameters, the tokenizer or None where the checkpoint has none).

    Raises:
      UserError: all that does not fit: weights, preprocessing, vocabulary.
    """
    tokenizer, problems = find_problems(published, abstract, tokenizer)
    if problems:
        raise UserError("; ".join(problems))
    kinds = quantise.resolve(quantised, paths.flatten(abstract))
    table = (published.rules, published.skip)
    return engine.load(published.tensors, *table, abstract, kinds), tokenizer


def load_momentum(published: Published, abstract: Mapping) -> tuple[dict | None, dict]:
    """What files of ALBEF and BLIP hold beside the weights.

    Args:
      published: the checkpoint.
      abstract: shapes, dtypes and shardings of the parameters.

    Returns:
      (the moving average of some of the parameters, or None; queues as the objectives have them, or
      nothing).
    """
    if published.model not in PICKLED:
        return None, {}
    family, cfg = PICKLED[published.model], published.config
    if not family.averaged(cfg):
        return None, {}
    tensors, flat = published.tensors, paths.flatten(abstract)
    table = family.rules(cfg, momentum=True)
    own, average = (engine.plan(rules, flat) for rules in (published.rules, table))
    kept = {
        path: leaf
        for path, leaf in flat.items()
        if average[path].keys != own[path].keys
        and all(key in tensors.shapes for key in average[path].keys)
    }
    names = family.queues(cfg)
    queues = {name: tensors.read(key).T for name, key in names.items() if key in tensors.shapes}
    if "image" in queues:
        queues["filled"] = np.int32(len(queues["image"]))  # Whoever trained it went through all.
    if not kept:
        return None, queues
    return engine.load(tensors, table, (".*",), paths.unflatten(kept)), queues


def find_problems(
    published: Published, params: Mapping, tokenizer: Tokenizer | None = None
) -> tuple[Tokenizer | None, list[str]]:
    """(the tokenizer or None, everything that does not fit together)."""
    problems: list[str] = []

    def trying(check: Callable[[], Any]) -> Any:
        try:
            return check()
        except UserError as error:
            problems.append(str(error))

    flat = paths.flatten(params)
    pieces = trying(lambda: engine.plan(published.rules, flat))
    if pieces is not None:
        trying(lambda: engine.check(published.tensors, pieces, published.skip, flat))
    trying(lambda: _check_size(published))
    if tokenizer is None:
        tokenizer = trying(lambda: find_tokenizer(published))
    if tokenizer is not None and published.reads_texts:
        trying(lambda: _check_vocabulary(published, tokenizer))
    return tokenizer, problems


def find_tokenizer(published: Published) -> Tokenizer | None:
    """The tokenizer whose files lie beside the weights; None where there are none."""
    if not published.reads_texts or not has_tokenizer(published.folder, published.code):
        return None
    if published.is_language_model:
        max_len = published.config.max_len or ENDLESS
    else:
        text = published.config.text
        # BERTs have more positions than the texts that they were trained with.
        max_len = text.max_len
        if isinstance(text, BertConfig):
            max_len = min(published.max_len or CHINESE_LENGTH, max_len)
    return from_checkpoint(published.folder, max_len=max_len, family=published.code)


def _check_vocabulary(published: Published, tokenizer: Tokenizer) -> None:
    where = published.folder
    text = published.config if published.is_language_model else published.config.text
    # Language models round the rows of their tables up (T5: 32,100 tokens, 32,128 rows); BLIP's two
    # own tokens are in no vocabulary.
    has_more = published.is_language_model or published.model in blip.KINDS
    fits = int.__le__ if has_more else int.__eq__
    if not fits(tokenizer.vocab_size, text.vocab_size):
        raise UserError(
            f"{where}: its tokenizer has {tokenizer.vocab_size} entries, its weights "
            f"{text.vocab_size}: the vocabulary files are another model's"
        )
    if published.is_language_model:
        return
    if isinstance(text, BertConfig) or text.pool not in ("argmax", "eos"):
        return
    last = text.vocab_size - 1 if text.pool == "argmax" else text.eos_id
    if tokenizer.eos_id != last:
        raise UserError(
            f"{where}: its tokenizer ends texts with {tokenizer.eos_id}, its text tower pools at "
            f"{last}: the vocabulary files or the config are another model's"
        )


def _check_size(published: Published) -> None:
    """The last image transform must give what the tower takes."""
    if published.is_language_model:
        return
    size = published.config.vision.image_size
    want = (size, size) if isinstance(size, int) else tuple(size)
    options = published.preprocess[-1][1] if published.preprocess else {}
    side = options.get("size")
    got = (options.get("height", side), options.get("width", side))
    if None not in got and got != want:
        raise UserError(
            f"{published.folder}: its preprocessing gives {got[0]} x {got[1]} px, its config says "
            f"{want[0]} x {want[1]}"
        )


def inspect(path: str | Path, family: str | None = None, variant: str | None = None) -> dict:
    """What a published checkpoint is, without reading its numbers.

    Returns:
      `model`, `code` (whose format), `parameters`, `config` (flat), `preprocess`, `cleaning` (of
      texts), `tensors` (key -> shape) and `problems`, one line or 'none'.
    """
    published = open_published(path, family, variant)
    module = MODELS[published.model][0](published.config)
    shapes = jax.eval_shape(module.init, jax.random.key(0), module.dummy_batch(1))["params"]
    _, problems = find_problems(published, shapes)
    return {
        "model": published.model,
        "code": published.code,
        "parameters": paths.count(shapes),
        "preprocess": published.preprocess,
        "cleaning": published.cleaning,
        "problems": "; ".join(problems) or "none",
        "config": paths.flatten(from_dataclass(published.config)),
        "tensors": {key: list(shape) for key, shape in sorted(published.tensors.shapes.items())},
    }
