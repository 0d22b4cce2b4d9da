# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm data info` and `preview` on every kind of source."""

import gzip
import io
import json
import pickle
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageFont

from jvlm.data import preview
from jvlm.data.describe import survey
from jvlm.data.images import BadRecord
from jvlm.data.named import guess_kind
from jvlm.data.preview import cell_of, font_for, wrap
from jvlm.data.sources import build_source


def encode(width, height, kind="JPEG", colour=(200, 30, 60)):
    data = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(data, kind)
    return data.getvalue()


@pytest.fixture
def kinds(tmp_path):
    """A small data set of every kind of file: kind -> what the command is given."""
    pictures = [encode(40, 30), encode(60, 20, "PNG"), encode(40, 30)[:200]]
    for number, data in enumerate(pictures):
        place = tmp_path / f"folder/{'ab'[number % 2]}/{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    names = [f"folder/{'ab'[n % 2]}/{n}.jpg" for n in range(3)]
    rows = [{"image": name, "caption": f"picture {n}"} for n, name in enumerate(names)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [f"{row['image']}\t{row['caption']}\n" for row in rows]
    (tmp_path / "x.csv").write_text("filepath\ttitle\n" + "".join(lines))
    table = [{"image": data, "caption": f"picture {n}"} for n, data in enumerate(pictures)]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "x.parquet")
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards/0.tar", "w") as tar:
        for number, data in enumerate(pictures):
            for name, content in ((f"{number}.jpg", data), (f"{number}.txt", b"picture")):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return {
        "folder": [tmp_path / "folder"],
        "jsonl": [tmp_path / "x.jsonl"],
        "csv": [tmp_path / "x.csv", "--option", "image_key=filepath"],
        "parquet": [tmp_path / "x.parquet"],
        "tar": [tmp_path / "shards"],
    }


@pytest.mark.parametrize("kind", ["folder", "jsonl", "csv", "parquet", "tar"])
def test_every_kind(kinds, kind, call, tmp_path):
    status, out, err = call("data", "info", *kinds[kind], "--json")
    assert status == 0, err
    info = json.loads(out)
    assert info["kind"] == kind and info["splits"] == {"all": 3}
    sample = info["sample"]
    assert sample["examples"] == sample["of"] == 3
    assert len(sample["broken"]) == 1 and "not a readable image" in sample["broken"][0]
    assert "/a/2.jpg" in sample["broken"][0] or kind not in ("folder", "jsonl", "csv")
    image = sample["images"]["image"]
    assert image["count"] == 2 and dict(image["most_frequent"]) == {"JPEG": 1, "PNG": 1}
    assert image["width"] == [40, 60, 60] and image["height"] == [20, 30, 30]
    if kind != "folder":
        (key,) = {"title", "caption"} & sample["texts"].keys()
        words = 1 if kind == "tar" else 2
        assert sample["texts"][key]["words"] == [words] * 3
    status, out, err = call("data", "info", *kinds[kind])
    assert status == 0 and "broken: 1" in out and "1 JPEG, 1 PNG; 40 / 60 / 60 px wide" in out
    sheet = tmp_path / "sheet.png"
    status, out, err = call("data", "preview", *kinds[kind], "--out", sheet)
    assert status == 0 and ": not a readable image" in out, err
    with Image.open(sheet) as picture:
        assert (200, 30, 60) in {colour for _, colour in picture.getcolors(1 << 24)}


def test_a_prepared_data_set(call, data_dir, tmp_path):
    place = tmp_path / "mine/1.0.0"
    place.mkdir(parents=True)
    for file in (data_dir / "digit_scenes/tiny/1.0.0").iterdir():
        (place / file.name).symlink_to(file)
    lines = [{"id": "1", "reason": "missing file"}, {"id": "2", "reason": "missing file"}]
    lines.append({"id": "3", "reason": "box outside", "entry": 4})
    (place / "dropped.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    status, out, err = call("data", "info", tmp_path / "mine", "--json", "--sample", 100)
    assert status == 0, err
    info = json.loads(out)
    assert info["splits"] == {"train": 128, "validation": 128, "test": 128}
    reasons = {"missing file": 2, "box outside": 1}
    assert info["dropped"] == {"records": 2, "entries": 1, "reasons": reasons}
    sample = info["sample"]
    assert sample["examples"] == 100 and sample["of"] == 384 and not sample["broken"]
    assert sample["texts"]["captions"]["per_example"] == [3, 3, 3]
    assert sample["boxes"]["objects/box"]["outside"] == 0
    assert sample["values"]["questions/answer"]["most_frequent"][0][0] in ("yes", "no")
    status, out, _ = call("data", "info", tmp_path / "mine", "--split", "test", "--all")
    assert "128 of 128 examples read" in out and "2 records and 1 entries of others" in out


def test_linked_pictures(call, tmp_path):
    """An import with --link keeps paths; with `image_root` the pictures are there."""
    (tmp_path / "im").mkdir()
    for number in range(3):
        (tmp_path / f"im/{number}.jpg").write_bytes(encode(40, 30))
    rows = [{"image": f"im/{n}.jpg", "caption": f"c {n}"} for n in range(3)]
    (tmp_path / "x.json").write_text(json.dumps(rows))
    status, _, err = call("data", "import", "albef", tmp_path, tmp_path / "out", "--link")
    assert status == 0, err
    root = ("--option", f"image_root={tmp_path}")
    for options, found in (((), 0), (root, 3)):
        status, out, err = call("data", "info", tmp_path / "out", *options, "--json")
        assert status == 0, err
        assert json.loads(out)["sample"]["images"].get("image", {}).get("count", 0) == found
    section = dict(kind="tfds", name=str(tmp_path / "out"), split="train")
    source = build_source({**section, "image_root": str(tmp_path)})
    assert pickle.loads(pickle.dumps(source))[0]["image"] == encode(40, 30)
    (tmp_path / "im/0.jpg").unlink()
    with pytest.raises(BadRecord, match="0.jpg: No such file"):
        [source[index] for index in range(3)]


def test_a_config(call):
    status, out, err = call("data", "info", "configs/clip/digits.py:test", "--sample", 5)
    assert status == 0 and "split data.source: 128 examples" in out, err


def test_what_names_stand_for(kinds, data_dir):
    for kind, (path, *_) in kinds.items():
        assert guess_kind(str(path)) == kind
    root = kinds["tar"][0].parent
    assert guess_kind(f"{root}/shards/{{0..3}}.tar") == guess_kind("/x/*.tar") == "tar"
    assert guess_kind("digit_scenes/tiny", str(data_dir)) == "tfds"
    assert guess_kind("clip/digits") == guess_kind("a/b.py:test") == "config"


class Examples(list):
    pass


def test_boxes_outside_are_counted():
    image = encode(40, 30)
    boxes = [[0, 0, 40, 30], [10, 10, 41, 20], [5, 5, 5, 9], [-1, 0, 5, 5]]
    found = survey({"x": Examples([{"image": image, "regions": {"box": boxes}}])}, None)
    box = found["boxes"]["regions/box"]
    assert box["count"] == 4 and box["outside"] == 3 and box["area"][2] == 1.0
    assert box["width"] == [0, 31, 40]


STRANGE = [
    {"answers": [{"answer": "yes", "conf": 1}, {"answer": "no"}], "question": "q?", "category": 3},
    {"captions": [None, "x"], "choices": None, "label": "cat", "answer": None, "caption": ["a"]},
    {"boxes": [[1, 2, 3, 4], [1, 2], None], "label": 1.5, "box": "1 2 3 4"},
    {"objects": [{"box": [0, 0, 5, 5], "phrase": "x"}, None, 3], "box": [1, 1, 1.1, 1.1]},
    {"bbox": {"x": 1}, "label": [1, [2]], "answers": [1, 2, None], "phrase": ["a"], "prompt": []},
    {"box": [float("nan")] * 4, "conversations": [{"from": "human"}, "x"], "turns": "x"},
    {"question": 5, "answer": 7, "turns": None, "regions": {"box": [[1, 2, 3, 4]], "phrase": None}},
    {"questions": {"question": ["a?", "b?"], "answer": ["", "c"]}, "text": "t", "label": True},
]


def test_entries_of_any_type(tmp_path, call):
    """People's files use our names for other things; that is shown, or left out, never a crash."""
    (tmp_path / "a.jpg").write_bytes(encode(40, 30))
    rows = [{"image": "a.jpg", **row} for row in STRANGE]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, out, err = call("data", "info", tmp_path / "x.jsonl", "--json")
    assert status == 0, err
    sample = json.loads(out)["sample"]
    assert sample["images"]["image"]["count"] == len(STRANGE)
    wrong = ["2: boxes: 1 not four numbers", "2: box: 1 not four numbers"]
    assert sample["broken"] == [*wrong, "5: box: 1 not four numbers"]
    assert dict(sample["values"]["answers/answer"]["most_frequent"]) == {"yes": 1, "no": 1}
    assert sample["boxes"]["box"]["count"] == sample["boxes"]["boxes"]["count"] == 1
    assert "conversations/from" in sample["texts"]
    assert call("data", "info", tmp_path / "x.jsonl")[0] == 0
    status, out, err = call("data", "preview", tmp_path / "x.jsonl", "--out", tmp_path / "x.png")
    assert status == 0, err
    with Image.open(tmp_path / "x.png") as sheet:
        assert sheet.width > 1000
    shown = [cell_of({"image": encode(9, 9), **row}) for row in STRANGE]
    assert [text for text, _ in shown[0].lines[:2]] == ["Q: q?", "A: yes, no"]
    assert [said for _, said in shown[3].pictures[0].boxes] == ["", "x"]
    assert ("Q: a?  A: ", preview._TEXT) in shown[7].lines
    assert ("Q: b?  A: c", preview._TEXT) in shown[7].lines


def test_a_link_to_nowhere(tmp_path, call):
    (tmp_path / "a.jpg").write_bytes(encode(40, 30))
    (tmp_path / "b.jpg").symlink_to("nowhere")
    status, out, err = call("data", "info", tmp_path)
    assert status == 0 and "broken: 1" in out and "b.jpg: No such file" in out, err


def test_a_member_of_a_mixture(call):
    status, out, err = call("data", "info", "blip/digits_web:test", "--split=web", "--json")
    assert status == 0 and list(json.loads(out)["splits"]) == ["web"], err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["info", "x.jsonl", "--kind", "jsnl"], "Did you mean 'jsonl'"),
        (["info", "none.jsonl"], "none.jsonl: No such file"),
        (["info", "none.jsonl", "--option", "image_rot=x"], "Did you mean 'image_root'"),
        (["info", "none.jsonl", "--option", "x"], "give KEY=VALUE"),
        (["info", "none.jsonl", "--split", "train"], "only prepared data sets and mixtures"),
        (["info", "digit_scenes/tiny", "--option", "x=1"], "--option: unknown key 'x'"),
        (["info", "blip/digits_web:test", "--split", "wbe"], "Did you mean 'web'"),
        (["info", "clip/digits", "--option", "x=1"], "--option: a config has its own"),
        (["info", "digit_scenes/tiny", "--sample", "0"], "at least 1"),
        (["info", "digit_scenes/tiny", "--split", "tset"], "splits: test"),
        (["preview", "digit_scenes/tiny", "--count", "0"], "at least 1"),
        (["preview", "digit_scenes/tiny", "--font", "none.ttf"], "--font none.ttf"),
        (["preview", "digit_scenes/tiny", "--out", "/nowhere/x.png"], "cannot be written"),
        (["preview", "EMPTY"], "no data set in this folder"),
        (["info", "PACKED"], "is packed: unpack it with gunzip"),
        (["info", "/dev/null"], "/dev/null: its name does not tell the kind of file: say --kind"),
    ],
)
def test_bad_input_is_one_line(call, tmp_path, arguments, message):
    packed = tmp_path / "folder/x.jsonl.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(b"{}"))
    names = {"EMPTY": tmp_path / "empty", "PACKED": packed}
    names["EMPTY"].mkdir()
    arguments = [names.get(argument, argument) for argument in arguments]
    status, out, err = call("data", *arguments)
    assert status == 2 and message in err and out == "" and err.count("\n") == 1, err


def lines_of(example, names=None):
    return [text for text, _ in cell_of(example, names).lines]


@pytest.mark.parametrize(
    "example, want",
    [
        ({"captions": ["a", "b"], "image_id": "7"}, ["- a", "- b"]),
        (
            {"question": "why?", "answers": ["so", "no", "so"], "choices": [], "label": -1},
            ["Q: why?", "A: so x2, no"],
        ),
        (
            {"question": "which?", "choices": ["cat", "dog"], "label": 1, "answers": []},
            ["Q: which?", "[ ] (A) cat", "[x] (B) dog"],
        ),
        ({"text": "It is.", "label": np.int32(1)}, ["It is.", "label: true"]),
        ({"label": -1, "id": "9"}, ["label: -1", "id: 9"]),
        (
            {"turns": {"role": ["user", "assistant"], "text": ["hi", "ho"]}},
            ["user: hi", "assistant: ho"],
        ),
        ({"conversations": [{"from": "human", "value": "hi"}]}, ["human: hi"]),
        ({"prompt": "Describe.", "answer": "A cat."}, ["Describe.", "A: A cat."]),
        (
            {"lines": ["山", "水"], "title": "诗", "author": "", "keywords": ["a", "b"]},
            ["诗", "山", "水", "keywords: a, b"],
        ),
        ({"questions": {"question": ["one?"], "answer": ["1"]}}, ["Q: one?  A: 1"]),
    ],
)
def test_lines_of_every_schema(example, want):
    assert lines_of(example, ["false", "true"]) == want


def test_boxes_are_drawn_with_what_they_hold():
    example = {
        "image": encode(40, 20, colour=(0, 0, 0)),
        "box": [0, 0, 10, 10],
        "expressions": ["left"],
        "regions": {"phrase": ["right"], "box": [[20, 5, 40, 20]], "start": [0], "end": [5]},
    }
    cell = cell_of(example)
    assert [said for _, said in cell.pictures[0].boxes] == ["left", "right"]
    sheet = np.asarray(preview.draw([cell], columns=1, side=400, font=font_for([])[0]))
    colours = {tuple(colour) for colour in sheet.reshape(-1, 3).tolist()}
    assert {(0xE6, 0x19, 0x4B), (0x3C, 0xB4, 0x4B)} <= colours
    large = cell_of({"image": encode(3000, 1500), "box": [1500, 0, 3000, 750]}).pictures[0]
    assert large.pixels.shape == (300, 600, 3)  # A sheet may have hundreds.
    assert large.boxes[0][0].tolist() == [300, 0, 600, 150]
    several = cell_of({"images": [encode(40, 20)] * 3, "text": "x"})
    assert len(several.pictures) == 3
    preview.draw([several, cell], columns=4, side=90, font=font_for([])[0])


def test_fonts():
    """A font is taken only where it has the letters; else the letters that lack are told."""
    assert font_for(["plain text"])[1] == ""
    assert font_for(["a \U0010fffe"])[1] == "\U0010fffe"  # It is no letter.
    default = ImageFont.load_default(14)
    assert wrap("", 50, default) == [""]
    for text in ("one two three four five six", "x" * 99, "一二三四五六七八九十" * 3):
        lines = wrap(text, 60, default)
        assert len(lines) > 1 and all(default.getlength(line) <= 60 for line in lines)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
