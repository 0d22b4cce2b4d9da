# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which files a path means, and parts of them."""

import collections
import os
import pickle

import pytest

from jvlm.data.sources import build_source, files
from jvlm.data.sources.files import Reader, expand_braces, find_files, read_at
from jvlm.data.sources.folder import FolderSource
from jvlm.errors import UserError


@pytest.mark.parametrize(
    "pattern, want",
    [
        ("{8..10}", "8 9 10"),
        ("{0..10..}", "{0..10..}"),
        ("{0..2}", "0 1 2"),
        ("x{0..10}", "x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10"),
        ("{08..10}", "08 09 10"),
        ("{0..02}", "00 01 02"),
        ("{2..0}", "2 1 0"),
        ("{a,b}{1..2}", "a1 a2 b1 b2"),
    ],
)
def test_braces_are_a_shells(pattern, want):
    assert expand_braces(pattern) == want.split()


def test_hidden_files_and_folders_are_left_out(tmp_path):
    for name in ("b/1.jpg", "a/2.JPG", ".ipynb_checkpoints/1.jpg", "a/._2.jpg", "a/.x/3.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    want = [str(tmp_path / "a/2.JPG"), str(tmp_path / "b/1.jpg")]
    assert find_files(tmp_path, (".jpg",)) == want
    source = FolderSource(str(tmp_path), labels=True)
    assert source.files == want and source.class_names == ["a", "b"]


def test_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.jpg").write_bytes(b"x")
    (tmp_path / "x.jsonl").write_text('{"image": "1.jpg"}\n')
    for labels in (False, True):
        assert FolderSource("~" if labels else "~/a", labels=labels)[0]["image"] == b"x"
    rows = dict(kind="jsonl", path="~/x.jsonl", image_root="~/a")
    assert build_source(rows)[0]["image"] == b"x"


def test_reads_that_give_a_part(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(bytes(range(100)))
    file = os.open(tmp_path / "x", os.O_RDONLY)
    whole = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: whole(fd, min(size, 7), offset))
    assert read_at(file, 10, 50) == bytes(range(10, 60))
    assert read_at(file, 90, 50) == bytes(range(90, 100)) and read_at(file, 100, 5) == b""
    os.close(file)


@pytest.mark.parametrize(
    "section, message",
    [
        (dict(kind="jsonl", path="x", need="image"), r"need is 'image': give Sequence\[str\]"),
        (dict(kind="jsonl", path=3), "path is 3: give str"),
        (dict(kind="parquet", path="x", columns="image"), "columns is 'image'"),
        (dict(kind="parquet", path="x", memory="2 GB"), "memory is '2 GB': give int"),
        (dict(kind="tar", path="x", names="txt"), "names is 'txt'"),
        (dict(kind="tar", path="x", names=("txt", "png")), "names is"),
        (dict(kind="tfds", name="x", split=None), "split is None: give str"),
        ("tar", "where is 'tar': give kind"),
    ],
)
def test_options_of_another_type_are_named(section, message):
    with pytest.raises(UserError, match=message):
        build_source(section, where="where")


def test_options_that_fit(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": "1"}\n')
    for path in (tmp_path / "x.jsonl", [str(tmp_path / "x.jsonl")], (str(tmp_path),)):
        section = dict(kind="jsonl", path=path, image_key=None, need=("a",))
        assert len(build_source(section)) == 1
    for names in ({"txt": "title"}, (("txt", "title"),), [["txt", "title"]]):
        with pytest.raises(UserError, match="x.tar: No such"):
            build_source(dict(kind="tar", path="x.tar", names=names))


def test_many_sources_do_not_run_out_of_files(tmp_path, monkeypatch):
    monkeypatch.setattr(Reader, "_most", 3)
    monkeypatch.setattr(Reader, "_open", collections.OrderedDict())
    for number in range(4):
        (tmp_path / f"{number}").write_bytes(b"%d" % number)
    readers = [Reader() for _ in range(3)]
    for _ in range(2):
        for number in range(4):
            for reader in readers:
                assert reader.read(str(tmp_path / f"{number}"), 0, 1) == b"%d" % number
    assert len(Reader._open) == 3
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "new").replace(tmp_path / "3")  # A source that is opened anew reads it.
    assert pickle.loads(pickle.dumps(readers[0])).read(str(tmp_path / "3"), 0, 3) == b"new"


def test_a_file_stays_open_while_it_is_read(tmp_path, monkeypatch):
    """Other threads may need its place meanwhile; its descriptor would be another file's."""
    (tmp_path / "x").write_bytes(b"abc")

    def read_late(descriptor, offset, size):
        Reader._open.clear()
        return read_at(descriptor, offset, size)

    monkeypatch.setattr(files, "read_at", read_late)
    assert Reader().read(str(tmp_path / "x"), 1, 2) == b"bc"
