# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm data import`: what goes in comes out, bad data is listed, a cut-off import goes on."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import simplejpeg
import tensorflow_datasets as tfds

from jvlm import progress
from jvlm.data import images
from jvlm.data.importers import KINDS, engine
from jvlm.data.importers.records import Blob, Dropped, Kind, Record
from jvlm.data.order import sample_rng
from jvlm.data.sources.tfds import TFDSSource
from jvlm.data.transforms import compose
from jvlm.errors import UserError


def jpeg(height=30, width=40, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 255, (5, 5, 3), np.uint8)
    return simplejpeg.encode_jpeg(images.resize(coarse, height, width), quality=90)


@pytest.fixture
def source(tmp_path):
    """Twenty pictures with captions in a list as BLIP's; gives the folder."""
    folder = tmp_path / "source"
    (folder / "images").mkdir(parents=True)
    rows = []
    for index in range(20):
        (folder / "images" / f"{index}.jpg").write_bytes(jpeg(seed=index))
        rows.append({"image": f"{index}.jpg", "caption": f"picture {index}", "image_id": index})
    (folder / "caps.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def define(monkeypatch):
    """Makes a kind 'x' of records."""

    def define(schema, *records, labels=()):
        monkeypatch.setitem(KINDS, "x", Kind(lambda files: iter(records), schema, "", labels))

    return define


def read(folder, split="train"):
    return list(TFDSSource(folder.name, split, str(folder.parent)))


def dropped(folder):
    lines = (folder / "dropped.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def contents(folder):
    return {path.name: path.read_bytes() for path in (folder / "1.0.0").iterdir()}


def test_command(source, tmp_path, call):
    folder = tmp_path / "my_set"
    command = ("data", "import", "albef", source, folder, "--workers", 2, "--json")
    status, out, _ = call(*command)
    assert status == 0
    summary = json.loads(out)
    assert summary["splits"] == {"train": 20} and summary["dropped"] == {}
    examples = read(folder)
    assert [e["captions"] for e in examples] == [[f"picture {i}"] for i in range(20)]
    assert [e["image"] for e in examples] == [jpeg(seed=i) for i in range(20)]  # Byte by byte.
    assert sorted(os.listdir(tmp_path)) == ["my_set", "source"]
    for builder in (
        tfds.builder("my_set", data_dir=tmp_path),
        tfds.builder_from_directory(folder / "1.0.0"),
    ):
        records = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
        assert records[3]["captions"] == [b"picture 3"] and records[3]["image_id"] == b"3"
    status, _, err = call(*command)
    assert status == 2 and "is there already" in err


def test_kinds_are_listed(call):
    status, out, _ = call("data", "import", "--kinds")
    assert status == 0 and all(f"{kind} " in out for kind in KINDS)


def test_shards_and_processes_change_nothing(source, tmp_path):
    def run(name, **options):
        engine.import_data("albef", source, tmp_path / name / "set", **options)
        return contents(tmp_path / name / "set")

    whole = run("a", workers=1)
    one, two = (run(f"b{n}", workers=n, shard_bytes=1) for n in (1, 2))
    assert one == two
    assert sum("array_record" in name for name in one) == 2  # Blocks of 16 records.
    assert sum("array_record" in name for name in whole) == 1
    ids = [e["id"] for e in read(tmp_path / "b2" / "set")]
    assert ids == [f"caps.json:{number}" for number in range(20)]


def test_bad_data_survives(source, tmp_path, call):
    pictures = source / "images"
    (pictures / "3.jpg").write_bytes(jpeg(seed=3)[:-200])
    (pictures / "4.jpg").unlink()
    (pictures / "5.jpg").write_text("no picture")
    folder = tmp_path / "set"
    status, out, _ = call("data", "import", "albef", source, folder, "--max-bad", 0.15)
    assert status == 0
    assert "dropped 3 of 20 records (15.00%)" in out and "2 unreadable picture" in out
    found = [(line["id"], line["reason"]) for line in dropped(folder / "1.0.0")]
    bad = "unreadable picture"
    assert found == [
        ("caps.json:3", bad),
        ("caps.json:4", "missing file"),
        ("caps.json:5", bad),
    ]
    kept = [index for index in range(20) if index not in (3, 4, 5)]
    assert [e["image_id"] for e in read(folder)] == list(map(str, kept))


def test_past_max_bad_nothing_is_there_and_more_patience_goes_on(source, tmp_path, call):
    for index in range(4, 8):
        (source / "images" / f"{index}.jpg").unlink()
    folder = tmp_path / "set"
    command = ("data", "import", "albef", source, folder, "--workers", 1)
    status, _, err = call(*command)
    assert status == 2 and not folder.exists()
    assert "2 of 20 records are bad so far, more than --max-bad 0.05: 2 missing file" in err
    assert len(err.splitlines()) == 1
    assert len(dropped(tmp_path / "set.part")) == 2  # Two are too many; no need to see the rest.
    assert str(tmp_path / "set.part" / "dropped.jsonl") in err
    status, _, _ = call(*command, "--max-bad", 0.2)
    assert status == 0 and len(dropped(folder / "1.0.0")) == 4
    assert sorted(os.listdir(folder)) == ["1.0.0"]


def test_wrong_json_lines_count(tmp_path, call):
    (tmp_path / "a.jpg").write_bytes(jpeg())
    good = json.dumps({"image": "a.jpg", "caption": "a"})
    (tmp_path / "caps.jsonl").write_text(f'{good}\n{{"image": \n{good}')
    arguments = ("data", "import", "jsonl", tmp_path / "caps.jsonl", tmp_path / "set")
    status, _, err = call(*arguments)
    assert status == 2 and "1 not JSON (caps.jsonl:2)" in err
    status, _, _ = call(*arguments, "--max-bad", 0.5)
    assert status == 0 and len(read(tmp_path / "set")) == 1 + 1


KILLED = """
import sys
from jvlm.data.importers.engine import import_data
if __name__ == "__main__":
    import_data("albef", sys.argv[1], sys.argv[2], workers=2, shard_bytes=1)
"""


def test_killed_and_run_again(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.jpg").write_bytes(jpeg(900, 1200))
    for index in range(200):
        shutil.copy(source / "a.jpg", source / f"{index}.jpg")
    rows = [{"image": f"{index}.jpg", "caption": str(index)} for index in range(200)]
    (source / "caps.json").write_text(json.dumps(rows))
    (tmp_path / "run.py").write_text(KILLED)
    arguments = [sys.executable, tmp_path / "run.py", source, tmp_path / "set"]
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    work = tmp_path / "set.part" / "work"
    while process.poll() is None and len(list(work.glob("train-*.json"))) < 2:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "set").exists()
    finished = sorted((tmp_path / "set.part" / "1.0.0").glob("*.array_record-*-of-00013"))
    before = {path.name: path.stat().st_ino for path in finished}
    assert 2 <= len(before) < 13
    with pytest.raises(UserError, match="unfinished import with another resize: finish that one"):
        engine.import_data("albef", source, tmp_path / "set", options=engine.Options(resize=8))
    for _ in range(100):  # The lock is free when the last worker has noticed.
        try:
            engine.import_data("albef", source, tmp_path / "set", workers=1, shard_bytes=1)
            break
        except UserError as error:
            assert "another import" in str(error)
            time.sleep(0.05)
    after = {name: (tmp_path / "set" / "1.0.0" / name).stat().st_ino for name in before}
    assert before == after
    engine.import_data("albef", source, tmp_path / "other" / "set", workers=1, shard_bytes=1)
    assert contents(tmp_path / "set") == contents(tmp_path / "other" / "set")


def test_wrong_folder_of_pictures(source, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="--max-bad 0.05: 2 missing file"):
        engine.import_data("albef", source, tmp_path / "set", images=tmp_path / "empty")
    engine.import_data("albef", source, tmp_path / "set", images=source / "images")
    assert len(read(tmp_path / "set")) == 20


def test_a_changed_source_is_refused(source, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "_write_metadata", interrupt)
    with pytest.raises(KeyboardInterrupt):
        engine.import_data("albef", source, tmp_path / "set")
    monkeypatch.undo()
    (source / "caps.json").write_text("[]")
    with pytest.raises(UserError, match="with another files"):
        engine.import_data("albef", source, tmp_path / "set")


def test_interrupt_says_how_to_go_on(source, call, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "_write_shards", interrupt)
    command = ("data", "import", "albef", source, source / "set")  # It does not read its own files.
    status, _, err = call(*command)
    assert status == 130 and f"the same command goes on with {source / 'set'}.part" in err
    monkeypatch.undo()
    status, _, _ = call(*command)
    assert status == 0 and len(read(source / "set")) == 20


def test_file_names_of_any_kind(source, tmp_path, call):
    """A link to nowhere, and a name whose bytes are no letters, end nothing."""
    folder = source / "cat and dog"
    shutil.move(source / "images", folder)
    (folder / "line\nbreak 写真.jpg").write_bytes(jpeg())
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    with open(os.fsencode(folder) + b"/\xff\n.jpg", "wb") as file:
        file.write(jpeg())
    arguments = ("data", "import", "folder", source, tmp_path / "set", "--max-bad", 0.1)
    status, out, _ = call(*arguments)
    assert status == 0 and len(read(tmp_path / "set")) == 20 + 1
    assert r"1 wrong value: cat and dog/\udcff\n.jpg: id: " in out.encode().decode()
    assert [line["reason"] for line in dropped(tmp_path / "set" / "1.0.0")] == [
        "missing file",
        "wrong value",
    ]


@pytest.mark.parametrize("name", ["a\0.jpg", "\ud83d.jpg", "x" * 300 + ".jpg"])
def test_names_that_no_file_has(name, define, tmp_path):
    define("captions", Record("train", "a", {}, (Blob(str(tmp_path / name)),)))
    with pytest.raises(UserError, match="none of 1 records can be used: 1 "):
        engine.import_data("x", tmp_path, tmp_path / "set", max_bad=1)


@pytest.mark.parametrize("max_bad", [0.05, 1])
def test_why_there_is_no_record(max_bad, tmp_path, call):
    (tmp_path / "x.jsonl").write_text('{"image": "a.jpg", "alt": "a"}\n{"image": "b.jpg"}\n')
    arguments = ("data", "import", "jsonl", tmp_path, tmp_path / "set", "--max-bad", max_bad)
    status, _, err = call(*arguments)
    assert status == 2 and "none of 2 records can be used: 2 no caption (x.jsonl:1)" in err


def test_a_split_called_all(define, tmp_path):
    """Which to TFDS is all splits, and so no split."""
    define("poems", Record("all", "a", {"lines": ["a"]}))
    assert engine.import_data("x", tmp_path, tmp_path / "set").splits == {"all_": 1}
    assert read(tmp_path / "set", "all_")[0]["lines"] == ["a"]


def test_destinations_that_are_there(source, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(UserError, match="link is there already"):
        engine.import_data("albef", source, tmp_path / "link")
    write = engine._write_metadata

    def make_folder_too(*args):
        (tmp_path / "set").write_text("of someone else")
        return write(*args)

    monkeypatch.setattr(engine, "_write_metadata", make_folder_too)
    with pytest.raises(UserError, match="set is there now: remove it, then the same command goes"):
        engine.import_data("albef", source, tmp_path / "set")
    (tmp_path / "set").unlink()
    monkeypatch.undo()
    monkeypatch.setattr(engine, "write_spool", None)  # Nothing is read anew.
    engine.import_data("albef", source, tmp_path / "set")
    assert os.listdir(tmp_path / "set") == ["1.0.0"] and len(read(tmp_path / "set")) == 20


def test_a_folder_of_ones_own_that_is_called_part(source, tmp_path):
    (tmp_path / "set.part").mkdir()
    (tmp_path / "set.part" / "notes.txt").touch()
    with pytest.raises(UserError, match=r"set.part: has notes.txt in it, which no import made"):
        engine.import_data("vsr", source, tmp_path / "set")
    assert os.listdir(tmp_path / "set.part") == ["notes.txt"]


def test_file_systems_without_locks(source, tmp_path, monkeypatch):
    def flock(*args):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(engine.fcntl, "flock", flock)
    engine.import_data("albef", source, tmp_path / "set")
    assert len(read(tmp_path / "set")) == 20


def test_two_imports_at_once(source, tmp_path):
    with (
        engine._working_folder(tmp_path / "set"),
        pytest.raises(UserError, match="another import is writing it"),
    ):
        engine.import_data("albef", source, tmp_path / "set")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_line(source, tmp_path, workers):
    """A limit on the size of files, which the worker processes inherit, fails as a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(UserError, match="cannot be written: .*File too large"):
            engine.import_data("albef", source, tmp_path / "set", workers=workers, shard_bytes=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not (tmp_path / "set").exists()
    engine.import_data("albef", source, tmp_path / "set", workers=1)
    assert len(read(tmp_path / "set")) == 20


def test_resize_scales_boxes(define, tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(60, 90))
    (tmp_path / "b.jpg").write_bytes(jpeg(20, 90))
    blobs = [Blob(str(tmp_path / name)) for name in ("a.jpg", "b.jpg")]
    values = {"expressions": ["left"], "box": [9, 6, 92, 60]}  # Sticks out by 2.
    small = {"expressions": [], "box": [9, 6, 90, 20]}
    define(
        "expressions",
        Record("train", "a", values, (blobs[0],)),
        Record("train", "b", small, (blobs[1],)),
    )
    options = engine.Options(resize=30)
    engine.import_data("x", tmp_path, tmp_path / "set", options=options)
    large, kept = read(tmp_path / "set")
    assert images.decode(large["image"]).shape == (30, 45, 3)
    np.testing.assert_allclose(large["box"], [4.5, 3, 45, 30])
    want = images.resize(images.decode(jpeg(60, 90)), 30, 45)
    assert np.abs(images.decode(large["image"]).astype(int) - want).mean() < 4  # JPEG.
    assert kept["image"] == jpeg(20, 90)  # Small enough: copied.
    np.testing.assert_array_equal(kept["box"], [9, 6, 90, 20])


def test_wrong_boxes(define, tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(30, 40))
    blob = (Blob(str(tmp_path / "a.jpg")),)
    good, out, flat = [0, 0, 41.5, 30], [0, 0, 43, 30], [5, 5, 5, 9]

    def record(name, *boxes):
        regions = [{"phrase": str(n), "box": box} for n, box in enumerate(boxes)]
        return Record("train", name, {"regions": regions}, blob)

    define(
        "regions",
        record("some", out, good, flat, [1, 2, 3], ["a", 0, 1, 1]),
        record("all", out),
        record("none"),
        Record("train", "number", {"regions": 3}, blob),
    )
    summary = engine.import_data("x", tmp_path, tmp_path / "set", max_bad=0.5)
    some, none = read(tmp_path / "set")
    assert some["regions"]["phrase"] == ["1"] and none["regions"]["phrase"] == []
    np.testing.assert_array_equal(some["regions"]["box"], [[0, 0, 40, 30]])
    assert summary.dropped == {"box outside the picture": 1, "wrong value": 1}
    assert summary.dropped_entries == {
        "wrong box": 2,
        "box outside the picture": 1,
        "box without area": 1,
    }
    entries = [(line["id"], line.get("entry")) for line in dropped(tmp_path / "set" / "1.0.0")]
    left_out = [("some", 0), ("some", 2), ("some", 3), ("some", 4)]
    assert entries == [*left_out, ("all", None), ("number", None)]


def test_wrong_values_name_the_record(define, tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg())
    blob = (Blob(str(tmp_path / "a.jpg")),)
    define(
        "statements",
        Record("train", "good", {"text": "t", "label": "yes", "image_id": 7}, blob),
        Record("train", "empty", {"text": None, "label": np.nan, "image_id": np.nan}, blob),
        Record("train", "list", {"text": ["t"], "label": 0}, blob),
        Record("train", "word", {"text": "t", "label": "maybe"}, blob),
        Record("train", "key", {"caption": "t"}, blob),
        Record("train", "object", {"text": {1, 2}}, blob),
        Record("train", "pictures", {"text": "t"}, ()),
        Dropped("reader", "no answer"),
        labels=("no", "yes"),
    )
    summary = engine.import_data("x", tmp_path, tmp_path / "set", max_bad=1)
    good, empty = read(tmp_path / "set")
    assert (good["label"], good["image_id"]) == (1, "7")
    assert (empty["label"], empty["text"]) == (-1, "")
    assert summary.dropped == {
        "wrong value": 3,
        "no answer": 1,
        "unknown label": 1,
        "no pictures, not one": 1,
    }
    assert TFDSSource("set", "train", str(tmp_path)).class_names == ["no", "yes"]
    details = {line["id"]: line["detail"] for line in dropped(tmp_path / "set" / "1.0.0")}
    assert details["list"] == "text: ['t'] is not a text" and "'maybe'" in details["word"]


def test_links(source, tmp_path, call):
    (source / "images" / "7.jpg").unlink()
    folder = tmp_path / "set"
    status, out, _ = call(
        *("data", "import", "albef", source / "caps.json", folder, "--link"),
        *("--images", source / "images"),
    )
    assert status == 0 and f'("read_image", dict(root="{source / "images"}"))' in out
    info = json.loads((folder / "1.0.0" / "dataset_info.json").read_text())
    assert info["description"].endswith(f"Paths are relative to {source / 'images'}.")
    examples = read(folder)
    assert len(examples) == 19 and examples[2]["file"] == "2.jpg" and "image" not in examples[2]
    step = compose([("read_image", dict(root=str(source / "images")))])
    np.testing.assert_array_equal(
        step(examples[2], sample_rng(0, 0))["image"], images.decode(jpeg(seed=2))
    )
    (source / "images" / "2.jpg").unlink()
    with pytest.raises(images.BadRecord, match="2.jpg: No such file"):
        step(examples[2], sample_rng(0, 0))
    (source / "images" / "2.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(images.BadRecord, match="2.jpg: not a readable image"):
        step(examples[2], sample_rng(0, 0))


def test_links_of_several_pictures(define, tmp_path):
    blobs = []
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(jpeg())
        blobs.append(Blob(str(tmp_path / name)))
    turns = [{"role": "user", "text": "<image><image>"}]
    define("conversations", Record("train", "a", {"turns": turns}, tuple(blobs)))
    engine.import_data("x", tmp_path, tmp_path / "set", options=engine.Options(link=True))
    (example,) = read(tmp_path / "set")
    assert example["files"] == ["a.jpg", "b.jpg"] and example["turns"]["role"] == ["user"]
    steps = [("read_image", dict(root=str(tmp_path), key="image")), ("resize_square", dict(size=8))]
    step = compose([("each_image", dict(key="files", steps=steps, count=3, size=8))])
    result = step(example, sample_rng(0, 0))
    want = images.resize(images.decode(jpeg()), 8, 8)
    np.testing.assert_array_equal(result["image"], [want, want, np.zeros_like(want)])
    assert result["image_valid"].tolist() == [True, True, False]


def test_nothing_to_use(define, tmp_path):
    define("captions", Record("train", "a", {}, (Blob(str(tmp_path / "a.jpg")),)))
    with pytest.raises(UserError, match=r"none of 1 records can be used: 1 missing file \(a: "):
        engine.import_data("x", tmp_path, tmp_path / "set", max_bad=1)
    assert not (tmp_path / "set").exists()


def test_archives_cannot_be_linked(define, tmp_path):
    define("captions", Record("train", "a", {}, (Blob(str(tmp_path / "a.tar"), 512, 100),)))
    with pytest.raises(UserError, match="pictures inside archives"):
        engine.import_data("x", tmp_path, tmp_path / "set", options=engine.Options(link=True))
    assert not (tmp_path / "set.part").exists()


def test_a_split_without_records_is_left_out(define, tmp_path):
    poem = {"lines": ["a"]}
    define("poems", Record("test", "a", poem), Record("val-unseen", "b", {"lines": 3}))
    summary = engine.import_data("x", tmp_path, tmp_path / "set", max_bad=0.5)
    assert summary.splits == {"test": 1} and len(contents(tmp_path / "set")) == 4


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("albeef", ".", "set"), "KIND 'albeef' is unknown. Did you mean 'albef'?"),
        (("albef", "none", "set"), "SRC none: no such file or folder"),
        (("albef", ".", "a-b"), "DST a-b: its last part names the data set"),
        (("albef", ".", "set"), "no file *.json"),
        (("albef", ".", "set", "--images", "none"), "--images none: no such folder"),
        (("albef", ".", "set", "--workers", "0"), "--workers 0: give at least 1"),
        (("albef", ".", "set", "--max-bad", "5"), "--max-bad 5.0: give a share"),
        (("albef", ".", "set", "--resize", "0"), "--resize 0: give at least 1 pixel"),
        (("albef", ".", "set", "--link", "--resize", "9"), "--link leaves pictures as they are"),
        (("ccpc", "poems.jsonl", "set"), "poems.jsonl: no records in it as ccpc"),
    ],
)
def test_errors_are_one_line(arguments, line, tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "poems.jsonl").write_text("")
    status, _, err = call("data", "import", *arguments)
    assert status == 2 and line in err and len(err.splitlines()) == 1
    assert os.listdir(tmp_path) == ["poems.jsonl"]


def test_the_bar_starts_no_jax():
    code = "import sys; from jvlm.data.importers import engine, worker; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert not progress.bar(unit="record").disable
