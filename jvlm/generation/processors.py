# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What changes the scores of the next token, before one is chosen.

Each processor is a small pytree: its values are traced, so other values compile nothing anew. They
mean what those of transformers 5.23 mean (generation/logits_process.py), in its order. Where that
counts a batch's padding as text, these do not: a prompt's answer is the same in any batch.
"""

from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jvlm.errors import UserError
from jvlm.generation import choose
from jvlm.generation.options import Options

Static = lambda: flax.struct.field(pytree_node=False)  # noqa: E731


@flax.struct.dataclass
class History:
    """What has been read and written so far.

        columns    0    start      prompt         length
        tokens     .    .   the prompt   the answer   |  free

    Attributes:
      tokens: int32[B, n, H].
      start: int32[B], the first column of a row's prompt.
      length: int32 scalar, columns in use.
      prompt: int32 scalar, columns of the prompts.
    """

    tokens: jax.Array
    start: jax.Array
    length: jax.Array
    prompt: jax.Array

    @property
    def real(self) -> jax.Array:
        """bool[B, 1, H], columns that hold a token."""
        columns = jnp.arange(self.tokens.shape[-1])
        return ((columns >= self.start[:, None]) & (columns < self.length))[:, None]

    @property
    def generated(self) -> jax.Array:
        """int32 scalar, tokens of the answer."""
        return self.length - self.prompt


@flax.struct.dataclass
class RepetitionPenalty:
    """See `Options.repetition_penalty`."""

    penalty: jax.Array

    def __call__(self, scores: jax.Array, history: History) -> jax.Array:
        seen = _mark(history.tokens, jnp.broadcast_to(history.real, history.tokens.shape), scores)
        changed = jnp.where(scores < 0, scores * self.penalty, scores / self.penalty)
        return jnp.where(seen, changed, scores)


@flax.struct.dataclass
class NoRepeatNGram:
    """See `Options.no_repeat_ngram_size`."""

    size: jax.Array

    def __call__(self, scores: jax.Array, history: History) -> jax.Array:
        tokens, before = history.tokens, self.size - 1
        # A token must not come again where what precedes it is what precedes the next one.
        first = history.start[:, None, None] + before
        same = history.real & (jnp.arange(tokens.shape[-1]) >= first)

        def compare(back, same):
            last = jax.lax.dynamic_slice_in_dim(tokens, history.length - back, 1, axis=-1)
            return same & (jnp.roll(tokens, back, axis=-1) == last)

        same = jnp.broadcast_to(same, tokens.shape)
        banned = jax.lax.fori_loop(1, before + 1, compare, same)
        return jnp.where(_mark(tokens, banned, scores), -jnp.inf, scores)


@flax.struct.dataclass
class NoBadWords:
    """See `Options.bad_words_ids`.

    Attributes:
      words: int32[W, L], padded with -1 on the left.
    """

    words: jax.Array

    def __call__(self, scores: jax.Array, history: History) -> jax.Array:
        before, last = self.words[:, :-1], self.words[:, -1]
        columns = history.length - before.shape[1] + jnp.arange(before.shape[1])
        tail = jnp.take(history.tokens, columns, axis=-1, mode="clip")
        tail = jnp.where(columns >= history.start[:, None, None], tail, -2)
        same = ((before == -1) | (before == tail[:, :, None])).all(-1) & (last >= 0)
        words = jnp.broadcast_to(last, same.shape)
        return jnp.where(_mark(words, same, scores), -jnp.inf, scores)


@flax.struct.dataclass
class MinNewTokens:
    """See `Options.min_new_tokens`."""

    count: jax.Array
    eos: jax.Array

    def __call__(self, scores: jax.Array, history: History) -> jax.Array:
        least = jnp.where(history.generated < self.count, -jnp.inf, jnp.inf)
        return scores.at[..., self.eos].min(least)


@flax.struct.dataclass
class Allowed:
    """See `Options.allowed_ids` and `Options.allowed_sequences`.

    Attributes:
      vocabulary: bool[V], or None.
      sequences: int32[C, L], end tokens included, padded with -1; or None.
      beams: sequences of a prompt are beams, of which some may have no way on.
    """

    vocabulary: jax.Array | None
    sequences: jax.Array | None
    beams: bool = Static()

    def __call__(self, scores: jax.Array, history: History) -> jax.Array:
        allowed = jnp.ones((1, 1, 1), bool) if self.vocabulary is None else self.vocabulary
        if self.sequences is not None:
            allowed = allowed & self._next(scores, history)
        kept = jnp.where(allowed, scores, -jnp.inf)
        # As in transformers: what other processors leave nothing of is allowed all the same.
        dead = kept.max(-1, keepdims=True) == -jnp.inf
        dead = dead.all(1, keepdims=True) if self.beams else dead
        return jnp.where(dead, jnp.where(allowed, 0.0, -jnp.inf), kept)

    def _next(self, scores: jax.Array, history: History) -> jax.Array:
        """bool[B, n, V], tokens by which some sequence goes on."""
        count, length = self.sequences.shape
        columns = jnp.arange(length)
        answer = jnp.take(history.tokens, history.prompt + columns, axis=-1, mode="clip")
        same = answer[:, :, None] == self.sequences
        same = (same | (columns >= history.generated)).all(-1)
        place = jnp.minimum(history.generated, length - 1)
        ids = jax.lax.dynamic_index_in_dim(self.sequences, place, axis=1, keepdims=False)
        same &= (ids >= 0) & (history.generated < length)
        return _mark(jnp.broadcast_to(ids, (*scores.shape[:2], count)), same, scores)


@flax.struct.dataclass
class Temperature:
    """See `Options.temperature`."""

    value: jax.Array

    def __call__(self, scores: jax.Array, history: History) -> jax.Array:
        return scores / self.value


@flax.struct.dataclass
class TopK:
    """See `Options.top_k`; tokens as likely as the k-th are kept too.

    Attributes:
      k: int32 scalar.
      bound: at least k.
    """

    k: jax.Array
    bound: int = Static()

    def __call__(self, scores: jax.Array, history: History) -> jax.Array:
        best = choose.top_k(scores, min(self.bound, scores.shape[-1]))[0]
        place = jnp.minimum(self.k, best.shape[-1]) - 1
        least = jax.lax.dynamic_index_in_dim(best, place, axis=-1)
        return jnp.where(scores < least, -jnp.inf, scores)


@flax.struct.dataclass
class TopP:
    """See `Options.top_p`; tokens that are equally likely are kept or dropped together.

    Without a sort (measured on 2 cores, 50,257 tokens: 0.5 ms a row and not 16): the smallest
    probability to keep is found bit by bit, since positive floats are ordered as their bits are.

    Attributes:
      p: float32 scalar.
      keep: so many are kept at least.
    """

    p: jax.Array
    keep: int = Static()

    def __call__(self, scores: jax.Array, history: History) -> jax.Array:
        probs = jax.nn.softmax(scores, axis=-1)
        number = lambda bits: jax.lax.bitcast_convert_type(bits, jnp.float32)

        def bit(index, bits):
            larger = bits | (1 << (29 - index))
            less = jnp.where(probs < number(larger), probs, 0).sum(-1, keepdims=True)
            return jnp.where(less <= 1 - self.p, larger, bits)

        none = jnp.zeros((*probs.shape[:-1], 1), jnp.int32)
        least = number(jax.lax.fori_loop(0, 30, bit, none))  # Bit 30 is that of 2 and more.
        best = choose.top_k(probs, min(self.keep, probs.shape[-1]))[0]
        return jnp.where(probs < jnp.minimum(least, best[..., -1:]), -jnp.inf, scores)


def make_processors(options: Options, eos: Sequence[int], vocab_size: int) -> tuple:
    """The processors that options ask for, in transformers' order.

    Args:
      options: whose ids must be of the vocabulary.
      eos: end tokens.
      vocab_size: V.

    Raises:
      UserError: ids that are not of the vocabulary, sequences that are empty or too long.
    """
    for name in ("bad_words_ids", "allowed_sequences"):
        check_ids([id for ids in getattr(options, name) for id in ids], vocab_size, name)
        if any(len(ids) == 0 for ids in getattr(options, name)):
            raise UserError(f"generate: {name}: a sequence is empty")
    check_ids(options.allowed_ids, vocab_size, "allowed_ids")
    beams = options.num_beams > 1
    processors: list = []
    if options.repetition_penalty != 1:
        processors.append(RepetitionPenalty(jnp.float32(options.repetition_penalty)))
    if options.no_repeat_ngram_size:
        processors.append(NoRepeatNGram(jnp.int32(options.no_repeat_ngram_size)))
    words = [list(w) for w in options.bad_words_ids if not (len(w) == 1 and w[0] in eos)]
    if words:
        processors.append(NoBadWords(_table(words, left=True)))
    if options.min_new_tokens and eos:
        processors.append(MinNewTokens(jnp.int32(options.min_new_tokens), jnp.array(eos)))
    if len(options.allowed_ids) or len(options.allowed_sequences):
        processors.append(
            Allowed(_vocabulary(options, eos, vocab_size), _sequences(options, eos), beams)
        )
    if options.samples:
        # A beam that is drawn must find a way on beside the end tokens.
        keep = max(2, 1 + len(eos)) if beams else 1
        if options.temperature not in (None, 1):
            processors.append(Temperature(jnp.float32(options.temperature)))
        if options.top_k:
            k = max(options.top_k, keep)
            processors.append(TopK(jnp.int32(k), 1 << (k - 1).bit_length()))
        if options.top_p < 1:
            processors.append(TopP(jnp.float32(options.top_p), keep))
    return tuple(processors)


def check_ids(ids: Sequence[int], vocab_size: int, name: str) -> None:
    """Raises UserError for what is no id of the vocabulary."""
    for id in ids:
        if not isinstance(id, int | np.integer) or not 0 <= id < vocab_size:
            raise UserError(f"generate: {name}: {id!r} is no id of the {vocab_size} tokens")


def _vocabulary(options: Options, eos: Sequence[int], vocab_size: int) -> jax.Array | None:
    if not len(options.allowed_ids):
        return None
    mask = np.zeros(vocab_size, bool)
    mask[[*options.allowed_ids, *eos]] = True
    return jnp.asarray(mask)


def _sequences(options: Options, eos: Sequence[int]) -> jax.Array | None:
    sequences = [list(ids) for ids in options.allowed_sequences]
    if not sequences:
        return None
    if not eos:
        raise UserError("generate: allowed_sequences needs an end token: give eos_token_id")
    sequences = [ids if ids[-1] in eos else [*ids, eos[0]] for ids in sequences]
    longest = max(map(len, sequences))
    if longest > options.max_new_tokens:
        raise UserError(
            f"generate: an allowed sequence has {longest} tokens with its end, max_new_tokens is "
            f"{options.max_new_tokens}: raise it"
        )
    if min(map(len, sequences)) < options.min_new_tokens:
        raise UserError(
            f"generate: an allowed sequence has fewer tokens than min_new_tokens "
            f"{options.min_new_tokens}: lower it"
        )
    return _table(sequences)


def _table(rows: Sequence[Sequence[int]], left: bool = False) -> jax.Array:
    """Rows of ids as one array, filled with -1; its sides are powers of two: few shapes."""
    length, count = (1 << (x - 1).bit_length() for x in (max(map(len, rows)), len(rows)))
    table = np.full((count, length), -1, np.int32)
    for row, ids in zip(table, rows):
        row[length - len(ids) if left else 0 :][: len(ids)] = ids
    return jnp.asarray(table)


def _mark(ids: jax.Array, where: jax.Array, scores: jax.Array) -> jax.Array:
    """bool[B, n, V], True at those of `ids` [B, n, M] for which `where` is True."""
    size = scores.shape[-1]
    ids = jnp.where(where, ids, size)
    one = lambda ids: jnp.zeros(size, bool).at[ids].set(True, mode="drop")
    return jax.vmap(jax.vmap(one))(ids)
