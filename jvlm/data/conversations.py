# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Conversations as LLaVA and CogVLM read them, and what of them is learned.

A conversation is written out as segments that know whether they are learned. The tokenizer reads
the text between two images once and says which characters its ids stand for, and so the labels
follow from the segments: no part is tokenized for its length, which is how LLaVA's labels go wrong.
"""

import dataclasses
import functools
import itertools
import json
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jvlm.config import construct
from jvlm.data.images import BadRecord
from jvlm.data.language import IGNORED, fit
from jvlm.errors import UserError, did_you_mean

SHIPPED = Path(__file__).with_name("conversations.json")
IMAGE = "<image>"
END = "</s>"  # As LLaMA's templates spell the end token.
LEARN = ("all", "last", "none")
PLACES = ("inline", "front", "only")


@dataclasses.dataclass(frozen=True)
class Template:
    """How a conversation is written. '{text}' is a turn's text.

    Attributes:
      user: a turn of the user.
      first_user: the first one; default `user`.
      reply: what asks for the answer; a prompt ends with it.
      answer: the answer, which is learned with all that stands around '{text}' here.
      past_answer: one that turns follow; default `answer`.
      answer_apart: the last answer is tokenized by itself, not with what is before it (CogVLM).
      end: the end token follows the last answer; for texts that do not spell it.
      system: the system's text, where a conversation has none of its own.
      system_format: '{system}' and what stands around it; left out where the text is empty.
      system_in_user: it is the beginning of the first user's text, else of everything.
      images: 'inline', in front of their turn's text, a line each (LLaVA's preprocess_multimodal);
        'front', behind the start token; 'only', the user says nothing else (LLaVA's plain).
    """

    user: str
    first_user: str = ""
    reply: str = ""
    answer: str = "{text}"
    past_answer: str = ""
    answer_apart: bool = False
    end: bool = False
    system: str = ""
    system_format: str = "{system}"
    system_in_user: bool = False
    images: str = "inline"


@dataclasses.dataclass(frozen=True)
class Segment:
    """A part of the text.

    Attributes:
      text: '<image>' in it is an image.
      learned: whether the model learns to say it.
      apart: whether a new tokenization begins with it.
    """

    text: str
    learned: bool = False
    apart: bool = False


Turn = tuple[str, str]  # 'user' or 'assistant', and the text.
ROLE, TEXT = ("role", "from"), ("text", "value", "content")  # What files call them.
ROLES = {"human": "user", "gpt": "assistant"}


def load_template(name: str) -> Template:
    """A template of `conversations.json`, or 'FILE.json:NAME' of the user's.

    Raises:
      UserError: unknown name or field, unreadable file.
    """
    path, colon, own = name.rpartition(".json:")
    path, own = (f"{path}.json", own) if colon else (str(SHIPPED), name)
    try:
        templates = json.loads(Path(path).read_text(encoding="utf-8"))
        templates = {key: dict(value) for key, value in templates.items() if key != "_"}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: no file of conversation templates: {error}") from None
    if own not in templates:
        raise UserError(f"{path}: no template {own!r}.{did_you_mean(own, templates)}")
    template = construct(Template, templates[own], where=f"{path}:{own}")
    _check(template, f"{path}:{own}")
    return template


def _check(template: Template, where: str) -> None:
    """Raises UserError unless every text of a conversation gets its place."""
    for field in dataclasses.fields(template):
        value = getattr(template, field.name)
        if not isinstance(value, field.type):
            raise UserError(f"{where}: {field.name} is {value!r}: give a {field.type.__name__}")
    for name in ("user", "first_user", "answer", "past_answer", "system_format"):
        form, slot = getattr(template, name), "system" if name == "system_format" else "text"
        try:
            slots = [rest for _, *rest in string.Formatter().parse(form) if rest[0] is not None]
        except ValueError:
            slots = []
        if slots != [[slot, "", None]] and (form or name in ("user", "answer")):
            raise UserError(
                f"{where}: {name} is {form!r}: '{{{slot}}}' is all that is filled in, and once"
            )
    if template.images not in PLACES:
        hint = did_you_mean(template.images, PLACES)
        raise UserError(f"{where}: images {template.images!r} is unknown.{hint}")


def segments(template: Template, turns: Sequence[Turn], system: str | None = None) -> list[Segment]:
    """Writes a conversation.

    Args:
      template: how.
      turns: user and assistant in turn; where the user is last, a prompt to be answered.
      system: the system's text; default the template's.
    """
    system = template.system if system is None else system
    system = template.system_format.format(system=system) if system else ""
    count = sum(text.count(IMAGE) for _, text in turns)
    parts = [Segment(count * IMAGE)] if template.images == "front" else []
    parts += [] if template.system_in_user else [Segment(system)]
    for place, (role, text) in enumerate(turns):
        last = place == len(turns) - 1
        if role == "user":
            text = _place_images(text, template.images)
            text = system + text if template.system_in_user and not place else text
            form = (not place and template.first_user) or template.user
            parts.append(Segment(form.format(text=text) + template.reply))
        else:
            text = _place_images(text, "front" if template.images == "front" else "inline")
            form = (not last and template.past_answer) or template.answer
            learned = bool(text.strip())  # Saying nothing is not.
            parts.append(Segment(form.format(text=text), learned, template.answer_apart and last))
    return [part for part in parts if part.text]


def _place_images(text: str, images: str) -> str:
    """A turn's text as a template's `images` asks for; without images it stays as it is."""
    count = text.count(IMAGE)
    if images == "only":
        return count * IMAGE
    if images == "front":  # They are gone, and with each its line.
        line = lambda match: "\n" if re.fullmatch(r"\n.*\n", match[0]) else ""
        return re.sub(rf"\n?{IMAGE}\n?", line, text)
    return (count * f"{IMAGE}\n" + text.replace(IMAGE, "").strip()).strip() if count else text


def encode(
    parts: Sequence[Segment], tokenizer: Any, *, image_tokens: int, image_id: int = 0
) -> tuple[list[int], list[int], list[int]]:
    """Segments -> ids, labels (-1 is not learned) and image slots (-1 is text).

    Args:
      parts: see `segments`.
      tokenizer: one that says which characters its ids stand for.
      image_tokens: ids that an image takes.
      image_id: what they are; their embeddings are not read.
    """
    ids = list(tokenizer.encode("", start=True, end=False))
    labels, slots = [IGNORED] * len(ids), [IGNORED] * len(ids)
    images = 0
    for text, learned in _stretches(parts):
        if text == IMAGE:
            slots += range(images * image_tokens, (images + 1) * image_tokens)
            ids += [image_id] * image_tokens
            labels += [IGNORED] * image_tokens
            images += 1
            continue
        some, spans = tokenizer.encode_with_offsets(text, start=False, end=False)
        # An id is learned as its last character is: ' Yes' is, behind a prompt that ends with ':'.
        # One without characters is a space that the vocabulary puts before the next one.
        places = np.where(spans[:, 1] > spans[:, 0], spans[:, 1] - 1, spans[:, 0])
        is_learned = np.array(learned)[np.minimum(places, len(learned) - 1)].tolist()
        ids += some
        labels += [id if yes else IGNORED for id, yes in zip(some, is_learned)]
        slots += [IGNORED] * len(some)
    return ids, labels, slots


def _stretches(parts: Sequence[Segment]) -> Iterator[tuple[str, list[bool]]]:
    """What is tokenized at once, and whether each character is learned; images by themselves."""
    text, learned = "", []
    for part in parts:
        for place, piece in enumerate(part.text.split(IMAGE)):
            if text and (place or part.apart):
                yield text, learned
                text, learned = "", []
            if place:
                yield IMAGE, []
            text, learned = text + piece, learned + [part.learned] * len(piece)
    if text:
        yield text, learned


def conversation(
    example,
    rng,
    *,
    tokenizer,
    template: str,
    turns: str = "turns",
    prompt: str | None = None,
    answer: str | None = None,
    learn: str = "all",
    image_tokens: int = 0,
    image_id: int = 0,
    max_len: int | None = None,
) -> dict[str, np.ndarray]:
    """A conversation -> ids, mask, labels, and which image token stands where.

    What is too long is cut at its end, so an answer that is cut does not end. (CogVLM's code ends
    it, LLaVA's cuts images too.)

    Args:
      template: name of `conversations.json`, or 'FILE.json:NAME'.
      turns: entry with lists `role` ('system', 'user', 'assistant') and `text`, or a list of such
        turns, also as LLaVA's files ('from': 'human' | 'gpt', 'value') and chats ('content') have
        them, with '<image>' where the next image is; images that no turn mentions belong to the
        first.
      prompt, answer: instead of turns, templates of one question and its answer, filled from the
        example as `language` does.
      learn: 'all' answers, the 'last', or 'none': a prompt without its last answer or labels.
      image_tokens: ids that an image takes (LLaVA 576, CogVLM 1227); 0 for a text-only model.
      image_id: what they are.
      max_len: T; default the tokenizer's.

    Returns:
      text int32[T], text_mask bool[T], labels int32[T], image_slot int32[T]: -1 for text, else the
      index into the row's image tokens.

    Raises:
      BadRecord: nothing is left to learn, an image does not fit, turns that do not alternate, or
        another number of images than '<image>'s. Names the example's `id`.
      UserError: unknown template or `learn`, or a template whose '</s>' is not the end token.
    """
    if learn not in LEARN:
        raise UserError(
            f"data: conversation: learn {learn!r} is unknown.{did_you_mean(learn, LEARN)}"
        )
    form, max_len = _template(template), max_len or tokenizer.max_len
    if END in form.answer and tokenizer.encode(END, start=False, end=False) != [tokenizer.eos_id]:
        raise UserError(
            f"data: conversation: template {template!r} ends answers with {END!r}, which is not "
            "this tokenizer's end token: take one of LLaMA's, or a template with `end`"
        )
    name = example.get("id", "a conversation")
    if prompt is None:
        said = _turns(example[turns], name)
    else:
        said = [("user", prompt.format_map(example))]
        said += [] if answer is None else [("assistant", answer.format_map(example))]
    system, said = _alternating(said, name)
    if learn == "none" and said[-1][0] == "assistant":
        said.pop()
    said = _with_images(said, example, image_tokens, name)
    parts = segments(form, said, system)
    if learn == "last":
        last = max((i for i, part in enumerate(parts) if part.learned), default=None)
        parts = [dataclasses.replace(p, learned=i == last) for i, p in enumerate(parts)]
    ids, labels, slots = encode(parts, tokenizer, image_tokens=image_tokens, image_id=image_id)
    if form.end and parts and parts[-1].learned:
        ids, labels, slots = (
            [*ids, tokenizer.eos_id],
            [*labels, tokenizer.eos_id],
            [*slots, IGNORED],
        )
    if max(slots[max_len:], default=IGNORED) != IGNORED:
        raise BadRecord(f"{name}: {max_len} tokens do not hold its images: raise max_len")
    row = {
        "text": fit(ids, max_len, tokenizer.pad_id),
        "text_mask": np.arange(max_len) < len(ids),
        "labels": fit(labels, max_len, IGNORED),
        "image_slot": fit(slots, max_len, IGNORED),
    }
    if learn == "none":
        del row["labels"]
    elif (row["labels"] == IGNORED).all():
        raise BadRecord(f"{name}: no answer that could be learned within {max_len} tokens")
    if not image_tokens:
        del row["image_slot"]
    return row


_template = functools.lru_cache(load_template)


def _turns(value: Mapping | Sequence, name: str) -> list[Turn]:
    """Turns, however they are stored."""
    if isinstance(value, Mapping):
        return list(zip(value["role"], value["text"]))
    said = []
    for turn in value:
        found = turn if isinstance(turn, Mapping) else {}
        pair = [next((found[k] for k in keys if k in found), None) for keys in (ROLE, TEXT)]
        if not all(isinstance(part, str) for part in pair):
            raise BadRecord(f"{name}: a turn that has no role or no text")
        said.append((ROLES.get(pair[0], pair[0]), pair[1]))
    return said


def _alternating(turns: Sequence[Turn], name: str) -> tuple[str | None, list[Turn]]:
    """The system's text or None, and the turns from the first of the user on (as LLaVA)."""
    system = "\n".join(text for role, text in turns if role == "system") or None
    said = [(role, text) for role, text in turns if role != "system"]
    if said and said[0][0] == "assistant":
        said = said[1:]
    if not said:
        raise BadRecord(f"{name}: nobody asks anything")
    for (role, _), due in zip(said, itertools.cycle(("user", "assistant"))):
        if role != due:
            raise BadRecord(f"{name}: a turn of {role!r} where one of {due!r} is due")
    return system, said


def _with_images(turns: list[Turn], example: Mapping, image_tokens: int, name: str) -> list[Turn]:
    """Turns with an '<image>' for each of the example's."""
    if "image_valid" in example:
        count = int(np.sum(example["image_valid"]))
    else:
        count = len(example["images"]) if "images" in example else int("image" in example)
    said = sum(text.count(IMAGE) for _, text in turns)
    if not said and image_tokens:
        return [(turns[0][0], count * f"{IMAGE}\n" + turns[0][1]), *turns[1:]]
    if said and not image_tokens:
        raise BadRecord(f"{name}: has images, but data.transforms.conversation.image_tokens is 0")
    if image_tokens and said != count:
        raise BadRecord(f"{name}: mentions {said} images and has {count}")
    return turns
