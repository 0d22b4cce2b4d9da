# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The command line on a trained run, and on bad input: one line, exit status 2."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import jvlm
from jvlm import cli
from jvlm.data.builders import digit_scenes
from jvlm.errors import UserError


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir):
    workdir = tmp_path_factory.mktemp("run")
    jvlm.train(jvlm.load_config("configs/clip/digits.py:test"), workdir)
    return workdir


@pytest.fixture
def pictures(tmp_path):
    for index in range(6):
        pixels = digit_scenes.compose("small", "test", index)["image"]
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    return tmp_path


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs `jvlm ...` in this process; gives (status, standard output, standard error)."""

    def exit(status):
        raise SystemExit(status)

    monkeypatch.setattr(cli, "_exit", exit)

    def run(*arguments):
        try:
            cli.main([str(argument) for argument in arguments])
            status = 0
        except SystemExit as end:
            status = end.code
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_classify(call, trained, pictures):
    images = [pictures / "0.png", pictures / "1.png"]
    labels = ["a red five", "a blue three", "a red eight"]
    status, out, _ = call("classify", *images, "--labels", *labels, "--model", trained, "--json")
    assert status == 0
    results = json.loads(out)
    assert [r["image"] for r in results] == [str(path) for path in images]
    for result in results:
        np.testing.assert_allclose(sum(result["probabilities"].values()), 1, atol=1e-5)
    status, out, _ = call("classify", images[0], "--labels", *labels, "--model", trained)
    assert status == 0 and out.count("%") == 3
    # The same numbers as the library's.
    want = jvlm.load(trained).classify(images, labels)
    np.testing.assert_allclose(
        [[r["probabilities"][label] for label in labels] for r in results], want, atol=1e-6
    )


def test_search(call, trained, pictures):
    args = ("search", "a red five", "--images", pictures, "--model", trained)
    status, out, _ = call(*args, "--top", 3, "--json")
    assert status == 0
    found = json.loads(out)
    model = jvlm.load(trained)
    files = sorted(str(path) for path in pictures.glob("*.png"))
    scores = model.embed_images(files) @ model.embed_text(["a red five"])[0]
    assert [f["image"] for f in found] == [files[i] for i in np.argsort(-scores)[:3]]


def test_evaluate(call, trained):
    status, out, _ = call("evaluate", "--workdir", trained, "--json")
    assert status == 0 and "zero_shot/top1" in json.loads(out)


def test_data(call, data_dir, tmp_path):
    status, out, _ = call("data", "info", "digit_scenes/tiny", "--data_dir", data_dir)
    assert status == 0 and "split test: 128 examples" in out
    sheet = tmp_path / "sheet.png"
    status, _, _ = call("data", "preview", "digit_scenes/tiny", "--out", sheet, "--count", 4)
    with Image.open(sheet) as picture:
        assert status == 0 and picture.size[0] > 500
    status, out, _ = call("data", "prepare", "configs/clip/digits.py:test", "--json")
    assert status == 0 and json.loads(out)["paths"][0].startswith(str(data_dir))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["train", "--config=nowhere.py", "--workdir=x"], "nowhere.py: no such file"),
        (["train", "--config=clip/digits:tset", "--workdir=x"], "unknown argument 'tset'"),
        (
            ["train", "--config=clip/digits", "--workdir=x", "--config.optm.lr=1"],
            "Did you mean 'optim'",
        ),
        (
            ["train", "--config=clip/digits", "--workdir=x", "--config.optim.l=1"],
            "unknown key 'l'",
        ),
        (
            ["train", "--config=clip/digits", "--workdir=x", "--config.steps=many"],
            "expected int",
        ),
        (["train", "--config=clip/digits", "--workdir=x", "--config.optim=1"], "is a section"),
        (["train", "--config=clip/digits", "--workdir=x", "--stpes=1"], "unknown argument --stpes"),
        (["train", "--config=clip/digits"], "--workdir"),
        (["trian"], "invalid choice"),
        (["evaluate", "--workdir=/nowhere"], "/nowhere: no such file or folder"),
        (["data", "prepare", "digit_scenes/smal"], "Did you mean 'digit_scenes/small'"),
        (["data", "info", "imagenet2012"], "is not prepared"),
    ],
)
def test_bad_input_is_one_line(call, tmp_path, monkeypatch, arguments, message):
    status, out, err = call(*arguments)
    assert status == 2 and message in err and out == ""
    assert err.count("\n") == 1, err


def test_bad_images_and_runs(call, trained, pictures):
    (pictures / "bad.png").write_text("not an image")
    labels = ("--labels", "a", "b", "--model", trained)
    for arguments, message in (
        (("classify", pictures / "bad.png", *labels), "bad.png: not a readable image"),
        (("classify", pictures / "none.png", *labels), "none.png: No such file"),
        (("classify", pictures / "0.png", *labels, "--template", "x"), "put {} where"),
        (("search", "x", "--images", "/nowhere", "--model", trained), "/nowhere: no such folder"),
        (
            ("evaluate", "--workdir", trained, "--step", "3"),
            "no checkpoint of step 3, only of [2, 4]",
        ),
        (("evaluate", "--workdir", trained, "--step", "last"), "a number, best or latest"),
    ):
        status, _, err = call(*arguments)
        assert status == 2 and message in err and err.count("\n") == 1, err


def test_help_is_quick():
    """Under a second on any machine, since nothing heavy is imported."""
    began = time.perf_counter()
    out = subprocess.run([sys.executable, "-m", "jvlm.cli", "--help"], capture_output=True)
    assert out.returncode == 0 and b"classify" in out.stdout
    assert time.perf_counter() - began < 1


def test_library_raises_the_same_error():
    with pytest.raises(UserError, match="no such file or folder"):
        jvlm.load("/nowhere")
