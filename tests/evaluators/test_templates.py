# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Template sets and class names: shipped, the user's, the data set's."""

import json

import pytest

from jvlm.errors import UserError
from jvlm.evaluators.templates import (
    SHIPPED,
    expand_templates,
    resolve_classes,
    resolve_templates,
)


def test_shipped_sets():
    sets = {k: v for k, v in json.loads(SHIPPED.read_text()).items() if not k.startswith("_")}
    assert len(sets["imagenet"]) == len(sets["zh_imagenet"]) == 80
    assert len(set(sets["imagenet"])) == 80 and sets["imagenet"][0] == "a bad photo of a {}."
    # The notebook's order of selection; all of them are among the 80.
    assert sets["imagenet_7"][0] == "itap of a {}." and len(sets["imagenet_7"]) == 7
    assert set(sets["imagenet_7"]) < set(sets["imagenet"])
    # Table 9 of the paper has 27 data sets; ImageNet is the one that prompts.md leaves out.
    english = [name for name in sets if not name.startswith("zh_")]
    assert len(english) == 2 + 26
    for name, templates in sets.items():
        assert all(template.count("{}") == 1 for template in templates), name
        assert resolve_templates(name) == templates


def test_user_file_extends_the_shipped_one(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"_note": ["x"], "birds": ["a {} in flight"], "dtd": ["{}!"]}))
    assert resolve_templates(f"{file}:birds") == ["a {} in flight"]
    assert resolve_templates(f"{file}:dtd") == ["{}!"]
    assert len(resolve_templates(f"{file}:imagenet")) == 80
    with pytest.raises(UserError, match="2 sets: say which"):
        resolve_templates(str(file))
    file.write_text(json.dumps({"birds": ["a {} in flight"]}))
    assert resolve_templates(str(file)) == ["a {} in flight"]


def test_fields():
    prompts = expand_templates(["a {colour} {}", "{}"], {"colour": ("red", "blue"), "size": ("s",)})
    assert prompts == ["a red {}", "a blue {}", "{}"]


def test_class_names(tmp_path):
    assert resolve_classes(["a", "b"]) == ["a", "b"]
    assert resolve_classes("dataset", ["fried_rice", "pho"]) == ["fried rice", "pho"]
    text, table = tmp_path / "names.txt", tmp_path / "names.json"
    text.write_text("金鱼\n\ngreat white shark \n")
    assert resolve_classes(str(text), ["n1", "n2"]) == ["金鱼", "great white shark"]
    table.write_text(json.dumps({"n2": "shark", "n1": "goldfish", "n3": "ray"}))
    assert resolve_classes(str(table), ["n1", "n2"]) == ["goldfish", "shark"]
    table.write_text(json.dumps(["x", "y"]))
    assert resolve_classes(str(table)) == ["x", "y"]


@pytest.mark.parametrize(
    "function, arguments, message",
    [
        (resolve_templates, ["imagnet"], "Did you mean 'imagenet'"),
        (resolve_templates, ["none.json:x"], "none.json: No such file"),
        (resolve_templates, [["a photo"]], "put {} where"),
        (resolve_templates, [[]], "no templates"),
        (resolve_classes, ["dataset"], "no class names; give a file"),
        (resolve_classes, ["dataset", ["n01440764", "n01443537"]], "WordNet ids"),
        (resolve_classes, [["a"], ["x", "y"]], "1 names, but the data set has 2"),
        (resolve_classes, ["none.txt"], "none.txt: No such file"),
        (resolve_classes, [[]], "at least one"),
    ],
)
def test_mistakes(function, arguments, message):
    with pytest.raises(UserError, match=message):
        function(*arguments)


def test_broken_files(tmp_path):
    file = tmp_path / "x.json"
    file.write_text("{")
    with pytest.raises(UserError, match="x.json: not JSON"):
        resolve_templates(f"{file}:a")
    file.write_text("[1]")
    with pytest.raises(UserError, match="give an object of lists"):
        resolve_templates(f"{file}:a")
    file.write_text('{"a": "b"}')
    with pytest.raises(UserError, match="no name for 'c'"):
        resolve_classes(str(file), ["a", "c"])
    file.with_suffix(".txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a UTF-8 text file"):
        resolve_classes(str(file.with_suffix(".txt")))
