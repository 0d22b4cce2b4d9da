# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Prompt templates and class names: shipped sets, the user's files, the data set's own names."""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jvlm.errors import UserError, did_you_mean

SHIPPED = Path(__file__).with_name("templates.json")
_WORDNET_ID = re.compile(r"n\d{8}")


def resolve_templates(templates: str | Sequence[str]) -> list[str]:
    """Prompt templates by name, from a file, or as they are.

    Args:
      templates: a list of prompts with '{}' for the class name; the name of a set of
        `templates.json`, such as 'imagenet'; 'FILE.json:NAME', a set of the user's file, which is
        an object of the same form and is searched before the shipped one; or 'FILE.json', where it
        has one set only.

    Raises:
      UserError: unknown set, unreadable file, or a template without '{}'.
    """
    if isinstance(templates, str):
        templates = _find_set(templates)
    templates = list(templates)
    wrong = [text for text in templates if not isinstance(text, str) or "{}" not in text]
    if wrong or not templates:
        what = f"template {wrong[0]!r}" if wrong else "no templates"
        raise UserError(f"{what}: put {{}} where the class name goes")
    return templates


def expand_templates(
    templates: str | Sequence[str], fill: Mapping[str, Sequence[str]] | None = None
) -> list[str]:
    """`resolve_templates`, each with every combination of its named fields; '{}' stays.

    Args:
      templates: see `resolve_templates`.
      fill: name -> values for '{name}'.
    """
    fill, prompts = fill or {}, []
    for template in resolve_templates(templates):
        names = [name for name in fill if f"{{{name}}}" in template]
        for values in itertools.product(*(fill[name] for name in names)):
            prompt = template
            for name, value in zip(names, values):
                prompt = prompt.replace(f"{{{name}}}", value)
            prompts.append(prompt)
    return prompts


def resolve_classes(
    classes: str | Sequence[str], dataset: Sequence[str] | None = None
) -> list[str]:
    """Class names in the order of the labels.

    Args:
      classes: a list; 'dataset', the data set's own names with spaces for underscores; a text file
        with one name a line; a JSON file with a list, or with an object from the data set's names
        ('n01440764') to those for the prompts ('tench').
      dataset: the data set's own names, or None.

    Raises:
      UserError: unreadable file, another number than the data set's, or no names to be had.
    """
    if not isinstance(classes, str):
        names = list(classes)
    elif classes == "dataset":
        if dataset is None:
            raise UserError("classes='dataset': the data set has no class names; give a file")
        if all(_WORDNET_ID.fullmatch(name) for name in dataset):
            raise UserError(
                f"classes='dataset': the names are WordNet ids ({dataset[0]}, ...), which say "
                "nothing to a text tower; give a file of names"
            )
        names = [name.replace("_", " ") for name in dataset]
    else:
        names = read_names(classes)
        if isinstance(names, dict):
            missing = sorted(set(dataset or ()) - set(names))
            if dataset is None or missing:
                what = f"no name for {missing[0]!r}" if missing else "the data set names no classes"
                raise UserError(f"classes {classes}: {what}")
            names = [names[name] for name in dataset]
    if not names or not all(isinstance(name, str) for name in names):
        raise UserError("classes: give names, at least one")
    if dataset is not None and len(names) != len(dataset):
        raise UserError(f"classes: {len(names)} names, but the data set has {len(dataset)} classes")
    return names


def read_names(path: str) -> Any:
    """What a JSON file holds, or the lines of a text file.

    Raises:
      UserError: missing, or not as its name says.
    """
    return _read_json(path) if path.endswith(".json") else read_lines(path)


def read_lines(path: str) -> list[str]:
    """The lines of a UTF-8 text file, blank ones left out.

    Raises:
      UserError: missing, or not text.
    """
    return [line.strip() for line in _read(path).splitlines() if line.strip()]


def _find_set(name: str) -> list[str]:
    shipped = _sets(str(SHIPPED))
    path, own = "", {}
    if ".json" in name:
        path, _, name = name.partition(".json")
        path, name = f"{path}.json", name.removeprefix(":")
        own = _sets(path)
        if not name and len(own) == 1:
            return next(iter(own.values()))
    known = {**shipped, **own}
    if name not in known:
        if path and not name:
            raise UserError(f"templates {path} has {len(own)} sets: say which, as {path}:NAME")
        raise UserError(f"templates {name!r} are unknown.{did_you_mean(name, known)}")
    return known[name]


def _sets(path: str) -> dict[str, list[str]]:
    """The sets of a template file, without its notes."""
    sets = _read_json(path)
    if not isinstance(sets, dict) or not all(isinstance(v, list) for v in sets.values()):
        raise UserError(f"{path}: give an object of lists, {{name: [template, ...]}}")
    return {name: value for name, value in sets.items() if not name.startswith("_")}


def _read_json(path: str) -> Any:
    try:
        return json.loads(_read(path))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a UTF-8 text file"
        raise UserError(f"{path}: {reason}") from None
