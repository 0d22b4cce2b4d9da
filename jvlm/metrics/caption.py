# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Caption metrics of the COCO evaluation (pycocoevalcap 1.2): BLEU, ROUGE-L, CIDEr-D.

The functions take tokenised captions, words joined by spaces, as `ptb.tokenize` makes them;
`caption_scores` takes plain ones.
"""

import collections
import itertools
import math
from collections.abc import Sequence

import numpy as np

from jvlm.errors import UserError
from jvlm.metrics.ptb import tokenize


def caption_scores(
    predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    """The metrics of a set of captions.

    CIDEr weighs words by how many images' references hold them: the figure of a subset is not
    comparable with that of the set, and that of a single image is 0.

    Args:
      predictions: one caption per image.
      references: the captions people wrote, one or more per image.

    Returns:
      `bleu1` to `bleu4` and `rouge_l` in [0, 1], `cider` in [0, 10].

    Raises:
      UserError: the lengths differ, or an image has no reference.
    """
    tokens = tokenize_pairs(predictions, references)
    scores = {f"bleu{n}": value for n, value in enumerate(bleu(*tokens), 1)}
    scores["rouge_l"] = float(rouge_l(*tokens).mean())
    scores["cider"] = float(cider_d(*tokens).mean())
    return scores


def tokenize_pairs(
    predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    """Captions and their references as `ptb.tokenize` makes them; see `caption_scores`."""
    if len(predictions) != len(references):
        raise UserError(
            f"{len(predictions)} captions for {len(references)} images: give one caption per image"
        )
    empty = [i for i, captions in enumerate(references) if not captions]
    if empty or not references:
        place = f" for image {empty[0]}" if empty else ""
        raise UserError(f"no reference caption{place}: leave such images out")
    words = iter(tokenize(list(itertools.chain.from_iterable(references))))
    references = [list(itertools.islice(words, len(captions))) for captions in references]
    return tokenize(predictions), references


def bleu(
    predictions: Sequence[str], references: Sequence[Sequence[str]], max_n: int = 4
) -> list[float]:
    """Corpus BLEU-1 to BLEU-`max_n` (Papineni et al. 2002), against the closest reference length.

    Of two references equally close in length the shorter counts.
    """
    right, guessed = np.zeros(max_n), np.zeros(max_n)
    length = reference_length = 0
    for prediction, captions in zip(predictions, references, strict=True):
        size = len(prediction.split())
        length += size
        lengths = [len(caption.split()) for caption in captions]
        reference_length += min((abs(other - size), other) for other in lengths)[1]
        most = collections.Counter()
        for caption in captions:
            most |= _ngrams(caption, max_n)
        for ngram, count in (_ngrams(prediction, max_n) & most).items():
            right[len(ngram) - 1] += count
        guessed += np.maximum(size - np.arange(max_n), 0)
    tiny, small = 1e-15, 1e-9  # Of the reference: no guess at all scores 0.
    means = np.cumprod((right + tiny) / (guessed + small)) ** (1 / np.arange(1, max_n + 1))
    ratio = (length + tiny) / (reference_length + small)
    return [float(mean * min(1.0, math.exp(1 - 1 / ratio))) for mean in means]


def rouge_l(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """ROUGE-L of each caption (Lin 2004), with the best recall and the best precision, beta 1.2.

    Returns:
      float64[images]; the metric is their mean.
    """
    scores = []
    for prediction, captions in zip(predictions, references, strict=True):
        words = prediction.split(" ")  # Not split(): an empty caption is one empty word.
        others = [caption.split(" ") for caption in captions]
        common = [_common_length(words, other) for other in others]
        precision = max(common) / len(words)
        recall = max(size / len(other) for size, other in zip(common, others))
        total = recall + 1.2**2 * precision
        scores.append((1 + 1.2**2) * precision * recall / total if total else 0.0)
    return np.array(scores)


def cider_d(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """CIDEr-D of each caption (Vedantam et al. 2015): n to 4, sigma 6, clipped, times 10.

    Document frequencies are those of the references given.

    Returns:
      float64[images]; the metric is their mean.
    """
    counts = [[_ngrams(caption, 4) for caption in captions] for captions in references]
    frequency = collections.Counter()
    for captions in counts:
        frequency.update(set().union(*captions))
    log_images = math.log(len(counts))

    def weigh(ngrams):
        """TF-IDF weights, their norm for each n, and the length."""
        weights = {
            ngram: count * (log_images - math.log(max(1, frequency[ngram])))
            for ngram, count in ngrams.items()
        }
        squares = np.zeros(4)
        for ngram, weight in weights.items():
            squares[len(ngram) - 1] += weight**2
        # The reference takes the number of bigrams for the length: one less, save for no words.
        length = sum(count for ngram, count in ngrams.items() if len(ngram) == 2)
        return weights, np.sqrt(squares), length

    scores = []
    for prediction, captions in zip(predictions, counts, strict=True):
        weights, norm, length = weigh(_ngrams(prediction, 4))
        score = 0.0
        for caption in captions:
            other_weights, other_norm, other_length = weigh(caption)
            similarity = np.zeros(4)
            for ngram in weights.keys() & other_weights.keys():
                other = other_weights[ngram]
                similarity[len(ngram) - 1] += min(weights[ngram], other) * other
            norms = norm * other_norm
            similarity /= np.where(norms > 0, norms, 1.0)
            score += similarity.mean() * math.exp(-((length - other_length) ** 2) / (2 * 6.0**2))
        scores.append(10 * score / len(captions))
    return np.array(scores)


def _ngrams(caption: str, max_n: int) -> collections.Counter:
    """How often each n-gram occurs, n from 1 to `max_n`."""
    words = caption.split()
    sizes = range(1, max_n + 1)
    return collections.Counter(
        tuple(words[i : i + n]) for n in sizes for i in range(len(words) - n + 1)
    )


def _common_length(first: list[str], second: list[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for i, other in enumerate(second, 1):
            diagonal, row[i] = row[i], diagonal + 1 if word == other else max(row[i], row[i - 1])
    return row[-1]
