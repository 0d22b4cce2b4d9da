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
from sklearn import linear_model

import jvlm
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
    args = ("classify", images[0], "--labels", *labels, "--model", trained, "--json")
    _, one, _ = call(*args, "--template", "a photo of {}.")
    _, many, _ = call(*args, "--templates", "imagenet_7")
    assert json.loads(one) != json.loads(many) != results[:1]
    # The same numbers as the library's.
    want = jvlm.load(trained).classify(images, labels)
    np.testing.assert_allclose(
        [[r["probabilities"][label] for label in labels] for r in results], want, atol=1e-6
    )


def test_search(call, trained, pictures, tmp_path):
    args = ("search", "a red five", "--model", trained, "--top", 3, "--json")
    images = ("--images", pictures, "--cache", tmp_path / "cache")
    status, out, _ = call(*args, *images)
    assert status == 0
    found = json.loads(out)
    model = jvlm.load(trained)
    files = sorted(str(path) for path in pictures.glob("*.png"))
    scores = model.embed_images(files) @ model.embed_text(["a red five"])[0]
    assert [f["image"] for f in found] == [files[i] for i in np.argsort(-scores)[:3]]
    np.testing.assert_allclose([f["score"] for f in found], -np.sort(-scores)[:3], atol=1e-5)
    assert json.loads(call(*args, *images)[1]) == found

    index = tmp_path / "index"
    status, out, _ = call(
        *("embed", "--images", pictures, "--out", index, "--shard_size", 4, "--model", trained)
    )
    assert status == 0 and f"wrote 6 embeddings of 16 numbers to {index}" in out
    assert json.loads(call(*args, "--index", index)[1]) == found
    # A picture finds itself.
    args = ("search", files[4], "--image_query", "--index", index, "--model", trained)
    status, out, _ = call(*args, "--top", 1)
    assert status == 0 and out == f"1.0000  {files[4]}\n"


def test_embed(call, trained, pictures, tmp_path):
    (pictures / "bad.png").write_text("x")
    texts = tmp_path / "texts.txt"
    texts.write_text("a red five\n\na blue one\n")
    args = ("embed", "--model", trained, "--json")
    status, out, _ = call(*args, "--texts", texts, "--out", tmp_path / "t.npz")
    assert status == 0 and json.loads(out)["count"] == 2
    with np.load(tmp_path / "t.npz") as data:
        want = jvlm.load(trained).embed_text(["a red five", "a blue one"])
        np.testing.assert_allclose(data["embedding"], want, atol=1e-5)
    files = (pictures / "0.png", pictures)
    status, out, err = call(*args, "--images", *files, "--out", tmp_path / "i.parquet")
    assert status == 0 and json.loads(out)["count"] == 7
    assert "jvlm: left out: " in err and "bad.png: not a readable image" in err


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """A folder of digits, each with its own sub-folder."""
    folder, count = tmp_path_factory.mktemp("classes"), 0
    for index in range(60):
        scene = digit_scenes.compose("small", "test", index)
        if scene["label"] >= 0 and count < 24:
            place = folder / f"digit_{scene['label']}"
            place.mkdir(exist_ok=True)
            Image.fromarray(scene["image"]).save(place / f"{index}.png")
            count += 1
    return folder


def test_evaluate(call, trained, classes, tmp_path):
    status, out, _ = call("evaluate", "--workdir", trained, "--json")
    assert status == 0 and "zero_shot/top1" in json.loads(out)

    report = tmp_path / "report.json"
    config = f"--config=clip/evaluate:data=folder:{classes},templates=mnist,train={classes}"
    status, out, _ = call("evaluate", "--model", trained, config, "--json", "--out", report)
    assert status == 0
    metrics = json.loads(out)
    # By hand: the names are the folders', the pictures are prepared as the model wants them.
    names = sorted(path.name for path in classes.iterdir())
    files = [str(file) for name in names for file in sorted((classes / name).iterdir())]
    labels = np.array([names.index(file.split("/")[-2]) for file in files])
    shown = [name.replace("_", " ") for name in names]
    model = jvlm.load(trained)
    predicted = model.classify(files, shown, "mnist").argmax(1)
    assert metrics["zero_shot/top1"] == pytest.approx((predicted == labels).mean())
    image = model.processor(images=files)["image"]
    variables = {"params": model.params}
    features = model.model.apply(variables, image, projected=True, method="image_features")
    probe = linear_model.LogisticRegression(C=0.316, max_iter=1000).fit(features, labels)
    assert metrics["linear_probe/top1"] == pytest.approx(probe.score(features, labels))
    written = json.loads(report.read_text())
    assert written["metrics"] == metrics and written["model"] == str(trained)
    assert written["config"]["zero_shot"]["templates"] == "mnist"


def test_evaluate_on_tfds_with_captions(call, trained, tmp_path):
    arg = "data=tfds:digit_scenes/tiny,templates=,captions=captions,per_image=3"
    config = f"--config=clip/evaluate:{arg}"
    folder = tmp_path / "said"
    status, out, _ = call("evaluate", "--model", trained, config, "--json", "--predictions", folder)
    assert status == 0
    metrics = json.loads(out)
    assert set(metrics) == {"retrieval/mean", "retrieval/rsum"} | {
        f"retrieval/{w}_{k}" for w in ("i2t", "t2i") for k in ("r1", "r5", "r10", "median_rank")
    }
    # What it wrote scores as it did.
    status, out, _ = call("score", folder / "retrieval.jsonl", "--task", "retrieval", "--json")
    assert status == 0 and json.loads(out) == metrics
    settings = json.loads((folder / "retrieval.settings.json").read_text())
    assert settings["model"] == str(trained) and settings["metrics"] == metrics
    # Which checkpoint 'best' was.
    assert isinstance(settings["step"], int) and settings["dtype"] is None


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
        (["evaluate"], "--workdir --model is required"),
        (["evaluate", "--model=/nowhere", "--config=clip/evaluate"], "say on what"),
        (["evaluate", "--workdir=x", "--out=/nowhere/x.json"], "/nowhere/x.json: its folder"),
        (["evaluate", "--workdir=x", "--predictions=/dev/null"], "/dev/null: is no folder"),
        (["embed", "--model=x", "--out=x.npz"], "--images --texts is required"),
        (["embed", "--model=x", "--out=x.npz", "--texts=none.txt"], "none.txt: No such file"),
        (["search", "x", "--model=x"], "--images --index is required"),
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
        (("classify", pictures / "0.png", *labels, "--templates", "imagnet"), "'imagenet'"),
        (("search", "x", "--index", "/nowhere", "--model", trained), "/nowhere: no such file"),
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
