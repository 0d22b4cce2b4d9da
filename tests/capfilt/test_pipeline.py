# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""CapFilt: what is kept, that a killed call goes on as if it had not been, what it says at last."""

import dataclasses
import io
import json
import re
import signal
import types

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jvlm import paths, whole
from jvlm.capfilt import bootstrap, pipeline, report, shards
from jvlm.capfilt.models import NUCLEUS, decoding
from jvlm.data.sources import build_source
from jvlm.data.transforms import compose
from jvlm.errors import Preempted, UserError
from jvlm.pretrained import Pretrained
from tests.models.test_albef import MODEL
from tests.test_image_tasks import make

WORDS = "the red dog dogs left is it yes no on of a b c d".split()  # noqa: SIM905
IMAGES, BROKEN = 11, 4


class Speaker(Pretrained):
    """Remembers what it was asked."""

    calls = ()

    def prompt_ids(self, prompts):
        self.prompts = prompts
        return super().prompt_ids(prompts)

    def generate_batch(self, batch, *, first=0, **options):
        self.calls += (first,)
        return super().generate_batch(batch, first=first, **options)


@pytest.fixture(scope="module")
def models():
    """A captioner and a filter."""
    text = dict(MODEL["text"], memory_width=8, max_len=24, bos_id=1, eos_id=3)
    section = {"name": "blip_captioner", "vision": MODEL["vision"], "text": text}
    captioner = make({**section, "text": {**text, "encoder": False}, "prompt": "a picture of"})
    fields = {f.name: getattr(captioner, f.name) for f in dataclasses.fields(Pretrained)}
    filter = make({**section, "name": "blip", "embed_dim": 4, "text": {**text, "decoder": False}})
    # With norms that leave it alone the class token's state depends on text and image.
    change = {"scale": jnp.ones_like, "bias": jnp.zeros_like}
    filter.params = paths.map_with_path(
        lambda path, leaf: change.get(path.split("/")[-1], jnp.asarray)(leaf), filter.params
    )
    return Speaker(**fields), filter


@pytest.fixture
def captioner(models):
    models[0].calls = ()
    return models[0]


@pytest.fixture(scope="module")
def filter(models):
    return models[1]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Web pairs, one of them broken, one without caption, four of them wrong."""
    folder, rng = tmp_path_factory.mktemp("web"), np.random.default_rng(0)
    rows = []
    for index in range(IMAGES):
        file = f"{index}.{('png', 'jpg')[index % 2]}"
        pixels = rng.integers(0, 255, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(folder / file)
        rows.append({"image": file, "id": f"n{index}", "captions": [" ".join(WORDS[index:][:3])]})
        rows[-1] |= {"mismatched": index < 4, "size": {"width": [24], "height": [20]}}
    rows[6]["captions"] = None
    (folder / f"{BROKEN}.png").write_bytes(b"no picture")
    (folder / "web.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return build_source(dict(kind="jsonl", path=str(folder / "web.jsonl")))


@pytest.fixture
def run(source, captioner, filter):
    def run(out, **options):
        given = dict(batch_size=2, shard_size=3, options=dict(seed=5)) | options
        return bootstrap(source, captioner, filter, out, **given)

    return run


def content(folder):
    """What lies in a folder, but for what reading it leaves there, wherever the folder is."""
    here = str(folder).encode()
    files = {file.name: file.read_bytes().replace(here, b"OUT") for file in folder.iterdir()}
    return {name: data for name, data in files.items() if not name.endswith(".npz")}


def test_captions_are_kept_by_their_match(run, source, captioner, filter, tmp_path):
    probability = lambda i, text: filter.match([Image.open(io.BytesIO(source[i]["image"]))], [text])
    result = run(tmp_path / "out", threshold=0.3)
    assert (result["images"], result["missing"], len(result["bad"])) == (IMAGES, 0, 1)
    assert captioner.prompts == ["a picture of"] and captioner.calls == (0, 2, 3, 5, 6, 8, 9)
    lines = list(shards.read_lines(tmp_path / "out", shards.plan(IMAGES, 3)))
    assert [line["index"] for line in lines] == list(range(IMAGES))
    assert "not a readable image" in lines[BROKEN]["bad"] and len(lines[BROKEN]) == 2
    judged = [(line["index"], c) for line in lines for c in line.get("captions", ())]
    assert len(judged) == 2 * (IMAGES - 1) - 1
    for index, caption in judged:
        np.testing.assert_allclose(caption["match"], probability(index, caption["text"]), atol=1e-5)
        assert caption["kept"] == (caption["match"] >= 0.3 and caption["text"] != "")
    assert [c["provenance"] for c in lines[6]["captions"]] == ["synthetic"]
    assert lines[7]["captions"][0]["text"] == source[7]["captions"][0]

    made = build_source(dict(kind="tar", path=str(tmp_path / "out")))
    kept = [line for line in lines if any(c["kept"] for c in line.get("captions", ()))]
    assert 3 < len(kept) == len(made) < IMAGES - 1
    for line, number in zip(kept, range(len(made))):
        example, before = made[number], source[line["index"]]
        assert example["image"] == before["image"] and example["size"] == before["size"]
        assert example["source_key"] == before["id"] and example["index"] == line["index"]
        captions = [c for c in line["captions"] if c["kept"]]
        for entry, name in (("captions", "text"), ("provenance",) * 2, ("match",) * 2):
            assert example[entry] == [c[name] for c in captions]
    steps = (("choose", dict(key="captions", out="caption")), ("identity", dict(key="index")))
    rows = [compose(steps)(made[i], np.random.default_rng(i)) for i in range(len(made))]
    assert len({row["image_id"] for row in rows}) == len(made)


def test_a_killed_call_goes_on_bit_for_bit(run, captioner, tmp_path, monkeypatch):
    run(tmp_path / "whole")
    write, done = shards.write, []

    def killed(out, shard, judged):
        if len(done) == 2:
            next(iter(judged))
            (out / f"{shard.name}.0123.part").write_bytes(b"half a shard")
            raise KeyboardInterrupt
        done.append(shard)
        write(out, shard, judged)

    monkeypatch.setattr(shards, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "part")
    assert not (tmp_path / "part" / "report.json").exists()
    monkeypatch.setattr(shards, "write", write)
    captioner.calls = ()
    run(tmp_path / "part")
    assert captioner.calls == (6, 8, 9)
    assert content(tmp_path / "part") == content(tmp_path / "whole")
    captioner.calls = ()
    assert run(tmp_path / "part")["bad"] and not captioner.calls
    with pytest.raises(UserError, match="another job, with another captioner.decoding.seed, thres"):
        run(tmp_path / "part", options=dict(seed=6), threshold=0.4)


def test_machines_share_the_shards(run, tmp_path, monkeypatch):
    run(tmp_path / "one")
    assert run(tmp_path / "two", shard=(1, 2)) | {"bad": []} == {
        **dict(out=str(tmp_path / "two"), images=3 + 2, bad=[], missing=2, report=None)
    }
    monkeypatch.setattr("jax.process_count", lambda: 2)
    monkeypatch.setattr(pipeline.Preemption, "reached", lambda self, step: False)
    for index in (1, 0):
        monkeypatch.setattr("jax.process_index", lambda index=index: index)
        result = run(tmp_path / "two", shard=(0, 2))
        assert (result["report"] is None) == bool(index)
    assert content(tmp_path / "two") == content(tmp_path / "one")


def test_sigterm_ends_after_the_batch(run, captioner, tmp_path, monkeypatch):
    generate = Speaker.generate_batch

    def noticed(self, batch, *, first=0, **options):
        if first == 3:
            signal.raise_signal(signal.SIGTERM)
        return generate(self, batch, first=first, **options)

    monkeypatch.setattr(Speaker, "generate_batch", noticed)
    with pytest.raises(Preempted, match="the same command goes on"):
        run(tmp_path / "out")
    assert captioner.calls == (0, 2, 3)
    names = sorted(content(tmp_path / "out"))
    assert [name for name in names if "shard" in name and ".jsonl" in name] == [
        "shard-00000-of-00004.jsonl"
    ] and not any(name.endswith(".part") for name in names)


def test_the_report_counts(run, tmp_path):
    out = tmp_path / "out"
    report = run(out, threshold=0.3)["report"]
    assert report == json.loads((out / "report.json").read_text())
    lines = [line for line in shards.read_lines(out, shards.plan(IMAGES, 3)) if "bad" not in line]
    kept = lambda group: sum(c["kept"] for c in group) / len(group)
    captions = [(line, c) for line in lines for c in line["captions"]]
    web = [(line["mismatched"], c) for line, c in captions if c["provenance"] == "web"]
    wanted = {
        "images_kept": sum(any(c["kept"] for c in line["captions"]) for line in lines) / 10,
        "web_kept": kept([c for _, c in web]),
        "synthetic_kept": kept([c for _, c in captions if c["provenance"] == "synthetic"]),
        "wrong_dropped": 1 - kept([c for wrong, c in web if wrong]),
        "right_kept": kept([c for wrong, c in web if not wrong]),
    }
    assert report["metrics"] == {f"capfilt/{key}": value for key, value in wanted.items()}
    assert report["counts"]["bad"] == 1 and sum(report["histogram"]["web"]) == len(web) == 9
    assert report["histogram"]["wrong"][-1] == sum(w and c["match"] >= 0.95 for w, c in web)
    assert report["config"]["captioner"]["decoding"]["top_p"] == 0.9
    text = (out / "report.md").read_text()
    assert f'source=dict(kind="tar", path="{out}")' in text and "| synthetic | " in text
    with Image.open(out / "examples.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3).tolist()
    assert [26, 127, 55] in pixels and [207, 34, 46] in pixels  # Kept ones and dropped ones.


def test_nucleus_unless_beams_are_asked_for():
    own = {"num_beams": 3, "max_new_tokens": 16}
    assert decoding(own, {"top_p": 0.8}) == {"max_new_tokens": 16, **NUCLEUS, "top_p": 0.8}
    assert decoding(own, {"num_beams": 5}) == {**own, "num_beams": 5}
    assert decoding(own, {"temperature": 0.0}) == {**own, "temperature": 0.0}


def test_what_cannot_be_done_is_said(run, source, captioner, filter, tmp_path):
    out = tmp_path / "out"
    for message, options in {
        "--threshold 2: from 0 to 1": dict(threshold=2),
        "--shard 2/2: count from 0/2 to 1/2": dict(shard=(2, 2)),
        "--batch_size 0": dict(batch_size=0),
        "--text_key title: not in an example": dict(text_key="title"),
        "--text_key size: the entry is dict, no text": dict(text_key="size"),
        "generate: unknown key 'beams'. Did you mean 'num_beams'": dict(options=dict(beams=2)),
    }.items():
        with pytest.raises(UserError, match=re.escape(message)):
            run(out, **options)
        assert not out.exists()
    with pytest.raises(UserError, match="--captioner: this blip writes no captions"):
        bootstrap(source, filter, filter, out)
    embedder = dataclasses.replace(filter, model=types.SimpleNamespace())
    with pytest.raises(UserError, match="--filter: blip has no head that matches"):
        bootstrap(source, captioner, embedder, out)
    (out / "mine").mkdir(parents=True)
    with pytest.raises(UserError, match="is not empty, and not of jvlm capfilt"):
        run(out)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: is a file: give a folder"):
        run(tmp_path / "file")


def test_web_captions_of_any_kind():
    texts = np.array(["a", " ", "b c"], object)
    assert pipeline._web_texts(texts) == pipeline._web_texts(["a", None, 3, "", "b c"])
    assert [pipeline._web_texts(entry) for entry in ("a", (), 5, None)] == [["a"], [], None, None]


def test_machines_that_begin_and_end_at_once(source, tmp_path, monkeypatch):
    """Both find no folder, both find all shards: neither takes away what the other writes."""
    out, settings = tmp_path / "out", {"seed": 1}
    write, one = whole.write_json, []

    def other_too(path, value):
        if not one:
            one.append(path)
            shards.settle(out, settings)
            report.write(out, [], source, settings)
        write(path, value)

    monkeypatch.setattr(whole, "write_json", other_too)
    assert shards.settle(out, settings) == settings
    one.clear()
    found = report.write(out, [], source, settings)
    assert json.loads((out / "report.json").read_text())["counts"] == found["counts"]
    assert not list(out.glob("*.part"))


def test_the_command(run, call, captioner, filter, source, tmp_path, monkeypatch):
    models = {"speaker": captioner, "matcher": filter}
    monkeypatch.setattr("jvlm.pretrained.load", lambda path, **_: models[path])
    data, out = source.files[0], tmp_path / "out"
    command = ["capfilt", data, "--captioner", "speaker", "--filter", "matcher", "--out", out]
    status, text, errors = call(*command, "--batch_size", 2, "--shard_size", 3, "--seed", 5)
    assert status == 0 and "capfilt/wrong_dropped" in text and "read it with source=" in text
    assert "left out: image 4: not a readable image" in errors
    run(tmp_path / "same")
    assert (
        content(out)["shard-00003-of-00004.tar"]
        == content(tmp_path / "same")["shard-00003-of-00004.tar"]
    )
    status, text, _ = call(*command, "--shard_size", 3, "--seed", 5, "--json")
    assert json.loads(text)["report"]["counts"]["bad"] == 1
    for arguments, message in (
        (["--shard", "1"], "give I/N, such as 0/4"),
        (["--treshold", "1"], "unknown argument --treshold. Did you mean 'threshold'?"),
        (["--num_beams", "4"], "holds another job, with another captioner.decoding"),
    ):
        status, _, errors = call(*command, "--shard_size", 3, "--seed", 5, *arguments)
        assert status == 2 and message in errors and errors.count("\n") == 1
