# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Steps from a source's raw example to a row of the batch.

Each is a function `step(example, rng, **options) -> dict of new or changed entries`; a config lists
them as `(name, options)` pairs. `rng` belongs to the global sample, so a row is the same on any
host, worker or resume. Steps that ask for `tokenizer` get the run's.
"""

import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jvlm.config import check_call
from jvlm.data import images, texts
from jvlm.data.augment import random_augment
from jvlm.data.auto_augment import auto_augment
from jvlm.data.conversations import conversation
from jvlm.data.examples import entry
from jvlm.data.instructions import instruct
from jvlm.data.language import answers, join, language, split_text
from jvlm.errors import UserError, did_you_mean

NO_PREPROCESS = (
    "the checkpoint does not say how images are resized: put its preprocessor_config.json beside it"
)
Example = dict[str, Any]
Transform = Callable[[Example, np.random.Generator], Example]


def decode_image(example, rng, *, key: str = "image") -> Example:
    """Encoded bytes -> uint8[H, W, 3]."""
    return {key: images.decode(example[key])}


def image_size(example, rng, *, key: str = "image", out: str = "size") -> Example:
    """[width, height] of the pixels as they are: what boxes of the original image refer to."""
    height, width = example[key].shape[:2]
    return {out: [width, height]}


def random_crop(example, rng, *, size: int, key: str = "image") -> Example:
    """A random square of the pixels as they are; after `resize_shortest`, CLIP's augmentation.

    Raises:
      UserError: an image smaller than that.
    """
    height, width = example[key].shape[:2]
    if min(height, width) < size:
        raise UserError(f"data: random_crop: {width} x {height} px hold no {size} px: resize first")
    top, left = rng.integers(height - size + 1), rng.integers(width - size + 1)
    return {key: example[key][top : top + size, left : left + size]}


def random_resized_crop(
    example, rng, *, size: int, scale=(0.9, 1.0), ratio=(3 / 4, 4 / 3), key: str = "image"
) -> Example:
    """A random part of the image, size x size. The default scale is open_clip's."""
    return {key: images.random_resized_crop(example[key], size, scale, ratio, rng)}


def random_affine(
    example,
    rng,
    *,
    rotate: float = 10.0,
    shear: float = 10.0,
    scale=(0.9, 1.1),
    shift: float = 0.05,
    key: str = "image",
) -> Example:
    """Rotation and shear up to so many degrees, scale, shift up to a share of the height."""
    pixels = shift * example[key].shape[0]
    return {
        key: images.affine(
            example[key],
            rotate=rng.uniform(-rotate, rotate),
            shear=rng.uniform(-shear, shear),
            scale=rng.uniform(*scale),
            shift=tuple(rng.uniform(-pixels, pixels, 2)),
        )
    }


def random_flip(example, rng, *, key: str = "image", sides_in: str | Sequence[str] = ()) -> Example:
    """Mirrors every other image left to right.

    Args:
      sides_in: texts, or lists of texts, where 'left' and 'right' then change places; ALBEF and
        BLIP leave captions as they are. Boxes are not mirrored.
    """
    if rng.random() < 0.5:
        return {}
    keys = [sides_in] if isinstance(sides_in, str) else sides_in
    swapped = {name: texts.each(texts.mirror_sides, example[name]) for name in keys}
    return {key: images.mirror(example[key]), **swapped}


def pad_square(example, rng, *, color=(122, 116, 104), key: str = "image") -> Example:
    """Borders of one colour make a square around the image (LLaVA's expand2square).

    The default is CLIP's mean, `int(255 * mean)`.
    """
    return {key: images.pad_square(example[key], color)}


def each_image(
    example,
    rng,
    *,
    steps: Transform,
    count: int,
    size: int,
    key: str | Sequence[str] = "images",
    out: str = "image",
    repeat: bool = False,
) -> Example:
    """Runs image steps on each of several images: two of NLVR2, frames, a conversation's, or none.

    Args:
      key: the entry that lists them; or several entries of one image each.
      steps: in a config a list as `data.transforms`, of steps that make the entry `image`.
      count: I; rows with fewer get black ones, which are not valid.
      size: side of the squares that `steps` make, in pixels.
      repeat: rows with fewer get theirs several times, evenly, as the frames of a short video.

    Returns:
      image uint8[I, size, size, 3], image_valid bool[I].

    Raises:
      BadRecord: more than `count` images; with `repeat` none.
      UserError: `steps` make another size.
    """
    encoded = example[key] if isinstance(key, str) else [example[name] for name in key]
    if len(encoded) > count:
        raise images.BadRecord(f"{example.get('id', '')}: {len(encoded)} images, {count} fit in")
    if repeat and not len(encoded):
        raise images.BadRecord(f"{example.get('id', '')}: no images")
    stack = np.zeros((count, size, size, 3), np.uint8)
    for place, image in enumerate(encoded):
        made = steps({"image": image}, rng)["image"]
        if made.shape != stack.shape[1:]:
            raise UserError(
                f"data: each_image: steps make {made.shape[1]} x {made.shape[0]} px: set size"
            )
        stack[place] = made
    if repeat:
        stack = stack[np.arange(count) * len(encoded) // count]
    return {out: stack, f"{out}_valid": np.arange(count) < (count if repeat else len(encoded))}


def resize_center_crop(example, rng, *, size: int, key: str = "image") -> Example:
    """Shorter side to `size`, then the middle square (CLIP's evaluation)."""
    image = images.resize_shortest(example[key], size)
    return {key: images.center_crop(image, size)}


def resize_square(example, rng, *, size: int, key: str = "image") -> Example:
    """Straight to size x size, aspect ratio ignored (Chinese-CLIP, ALBEF, BLIP)."""
    return {key: images.resize(example[key], size, size)}


def resize_shortest(
    example, rng, *, size: int, resample: str = "bicubic", key: str = "image"
) -> Example:
    """Shorter side to `size`."""
    return {key: images.resize_shortest(example[key], size, resample)}


def resize_cover(
    example, rng, *, height: int, width: int, resample: str = "bicubic", key: str = "image"
) -> Example:
    """Ratio kept, so that height x width just fits in."""
    return {key: images.resize_cover(example[key], height, width, resample)}


def resize(
    example, rng, *, height: int, width: int, resample: str = "bicubic", key: str = "image"
) -> Example:
    """Straight to height x width."""
    return {key: images.resize(example[key], height, width, resample)}


def center_crop(
    example, rng, *, height: int, width: int, rounding: str = "even", key: str = "image"
) -> Example:
    """The middle height x width."""
    return {key: images.center_crop(example[key], height, width, rounding)}


def choose(example, rng, *, key: str, out: str) -> Example:
    """One of several, at random: an image's captions. Of a group of lists: one entry of each.

    Raises:
      BadRecord: there is none.
    """
    return {out: _pick(example, key, rng.integers)}


def first(example, rng, *, key: str, out: str) -> Example:
    """The first of several. Of a group of lists: the first of each.

    Raises:
      BadRecord: there is none.
    """
    return {out: _pick(example, key, lambda count: 0)}


def _pick(example: Mapping, key: str, place: Callable[[int], int]) -> Any:
    """The entry at `place(count)` of a list, or of each list of a group."""
    options = example[key]
    lists = list(options.values()) if isinstance(options, Mapping) else [options]
    if not lists or not len(lists[0]):
        raise images.BadRecord(f"{example.get('id', '')}: {key!r} is empty")
    number = place(len(lists[0]))
    if isinstance(options, Mapping):
        return {name: values[number] for name, values in options.items()}
    return options[number]


def take(example, rng, *, key: str, count: int, out: str = "") -> Example:
    """The first `count` of several, such as five captions; 'a/b' is entry b of entry a."""
    value = entry(example, key)
    if len(value) < count:
        raise UserError(f"data: take: {key} has {len(value)} entries, fewer than {count}")
    return {out or key: list(value[:count])}


def count(example, rng, *, key: str, out: str) -> Example:
    """How many entries there are, int32: the digits of a scene; 'a/b' is entry b of entry a."""
    return {out: np.int32(len(entry(example, key)))}


def tokenize(example, rng, *, tokenizer, key: str, out: str = "text") -> Example:
    """Text -> int32[T] and bool[T]; a list of C texts -> int32[C, T] and bool[C, T].

    The key 'a/b' is entry b of entry a.
    """
    value = entry(example, key)
    texts = [value] if isinstance(value, str) else value
    ids, mask = tokenizer(texts)
    if isinstance(value, str):
        ids, mask = ids[0], mask[0]
    return {out: ids, f"{out}_mask": mask}


def label(example, rng, *, key: str, names: Sequence[str], out: str = "label") -> Example:
    """The place of a text among names, int32: the number of a class; -1, unknown, of any other."""
    value = entry(example, key)
    return {out: np.int32(list(names).index(value) if value in names else -1)}


def identity(example, rng, *, key: str, out: str = "image_id") -> Example:
    """A 31-bit number that is equal for equal values of `key`: what counts as the same item."""
    digest = hashlib.blake2b(str(example[key]).encode(), digest_size=4).digest()
    return {out: np.int32(int.from_bytes(digest, "little") & 0x7FFFFFFF)}


def keep(example, rng, *, keys: Sequence[str]) -> Example:
    """Drops all entries but these; a missing one is an error."""
    missing = [key for key in keys if key not in example]
    if missing:
        raise UserError(f"data: keep: no {missing} in the example, which has {sorted(example)}")
    return {key: None for key in example if key not in keys}


TRANSFORMS: dict[str, Callable] = {
    "answers": answers,
    "auto_augment": auto_augment,
    "center_crop": center_crop,
    "choose": choose,
    "conversation": conversation,
    "count": count,
    "decode_image": decode_image,
    "each_image": each_image,
    "first": first,
    "identity": identity,
    "image_size": image_size,
    "instruct": instruct,
    "join": join,
    "keep": keep,
    "label": label,
    "language": language,
    "pad_square": pad_square,
    "pre_caption": texts.pre_caption,
    "pre_question": texts.pre_question,
    "random_affine": random_affine,
    "random_augment": random_augment,
    "random_crop": random_crop,
    "random_flip": random_flip,
    "random_resized_crop": random_resized_crop,
    "random_swap_pair": texts.random_swap_pair,
    "resize": resize,
    "resize_center_crop": resize_center_crop,
    "resize_cover": resize_cover,
    "resize_shortest": resize_shortest,
    "resize_square": resize_square,
    "split_text": split_text,
    "straight_quotes": texts.straight_quotes,
    "take": take,
    "tokenize": tokenize,
}


def compose(
    steps: Sequence[tuple[str, Mapping]],
    *,
    tokenizer: Any = None,
    preprocess: Sequence[tuple[str, Mapping]] | None = (),
    where: str = "data.transforms",
) -> Transform:
    """Turns a config's list of (name, options) into one function of (example, rng).

    Args:
      steps: names and options.
      tokenizer: for the steps that ask for one.
      preprocess: what the step `("preprocess", {})` stands for: the model's own image transforms,
        so that one evaluation config serves every checkpoint; None where it does not say.
      where: the config key, for messages.

    Raises:
      UserError: unknown step or option, missing option, or a step that needs a tokenizer where
        there is none.
    """
    chain = []
    for name, options in resolve(steps, preprocess, where):
        at = f"{where}.{name}"
        if "steps" in options:
            inner = compose(options["steps"], tokenizer=tokenizer, preprocess=preprocess, where=at)
            options = {**options, "steps": inner}
        chain.append((name, _bind(name, options, tokenizer, at)))

    def apply(example: Example, rng: np.random.Generator) -> Example:
        for name, step in chain:
            try:
                example = {**example, **step(example, rng)}
            except KeyError as error:
                raise UserError(
                    f"{where}.{name}: no {error} in the example, which has {sorted(example)}"
                ) from None
        return {key: value for key, value in example.items() if value is not None}

    return apply


def resolve(
    steps: Sequence[tuple[str, Mapping]],
    preprocess: Sequence[tuple[str, Mapping]] | None,
    where: str = "data.transforms",
) -> list[tuple[str, Mapping]]:
    """The steps with the model's own image transforms in their place; see `compose`."""
    is_own = lambda name, options: name == "preprocess" and not options
    if preprocess is None and any(is_own(*step) for step in steps):
        raise UserError(f"{where}.preprocess: {NO_PREPROCESS}")
    return [s for step in steps for s in (preprocess if is_own(*step) else [step])]


def _bind(name: str, options: Mapping, tokenizer: Any, where: str) -> Transform:
    if name not in TRANSFORMS:
        raise UserError(f"{where}: unknown step.{did_you_mean(name, TRANSFORMS)}")
    function = TRANSFORMS[name]
    given: dict[str, Any] = {"example": None, "rng": None}
    if "tokenizer" in inspect.signature(function).parameters:
        if tokenizer is None:
            raise UserError(f"{where}: the config has no tokenizer")
        given["tokenizer"] = tokenizer
    check_call(function, options, where=where, given=given)
    bound = {key: value for key, value in given.items() if key not in ("example", "rng")}
    return functools.partial(function, **bound, **options)
