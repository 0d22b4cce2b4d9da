# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tar shards: what tar and WebDataset write, read in any order, damaged ones named."""

import gzip
import io
import json
import os
import pickle
import tarfile

import numpy as np
import pytest

from jvlm.data.images import BadRecord
from jvlm.data.sources import build_source, tar_index
from jvlm.data.sources.tar import TarSource
from jvlm.data.sources.tar_index import load_index, members
from jvlm.errors import UserError


def write_tar(path, files, format=tarfile.PAX_FORMAT, mtime=0):
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            if content is None:
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
                continue
            content = content.encode() if isinstance(content, str) else content
            entry.size, entry.mtime = len(content), mtime
            tar.addfile(entry, io.BytesIO(content))
    return str(path)


def sample(number):
    return [
        (f"{number:06d}.jpg", b"\xff\xd8" + bytes([number % 256]) * (number * 37 % 1500)),
        (f"{number:06d}.txt", f"caption {number}"),
        (f"{number:06d}.json", json.dumps({"url": f"u{number}", "width": number})),
    ]


def shards(folder, counts=(5, 3, 4)):
    number = 0
    for shard, count in enumerate(counts):
        files = [file for n in range(number, number + count) for file in sample(n)]
        write_tar(folder / f"{shard:03d}.tar", files)
        number += count
    return folder


@pytest.mark.parametrize("path", ["{000..002}.tar", "*.tar", "00{0,1,2}.tar", "", "list"])
def test_samples_in_any_order(tmp_path, path):
    shards(tmp_path)
    path = (
        [str(tmp_path / f"00{i}.tar") for i in range(3)] if path == "list" else str(tmp_path / path)
    )
    source = build_source(dict(kind="tar", path=path))
    assert len(source) == 12 and source.fingerprint["size"] == 12
    for number in (11, 4, 5, 0, 7, 8):
        example = source[number]
        assert example.pop("image") == sample(number)[0][1]
        text = f"caption {number}"
        fields = {"url": f"u{number}", "width": number}
        assert example == {"__key__": f"{number:06d}", "caption": text, "txt": text, **fields}
    with pytest.raises(IndexError):
        source[12]
    copy = pickle.loads(pickle.dumps(source))
    assert copy[3] == source[3] and len(pickle.dumps(source)) < 3000


NAMES = [
    ("folder", None),
    ("folder/a.jpg", b"x" * 700),
    ("folder/a.txt", "one"),
    (f"{'long' * 40}/b.jpg", b"y" * 512),
    (f"{'long' * 40}/{'c' * 120}.jpg", b""),
    ("诗.jpg", b"z"),
    ("no_extension", b"!"),
    ("__meta__.json", b"{}"),
    ("last.seg.PNG", b"p"),
]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("mtime", [0, 1.5])
def test_members_are_tarfiles(tmp_path, format, mtime):
    path = write_tar(tmp_path / "x.tar", NAMES, format, mtime)
    data = (tmp_path / "x.tar").read_bytes()
    got = list(members(lambda at, size: data[at : at + size], len(data)))
    assert got.pop()[1] == ""
    with tarfile.open(path) as tar:
        want = [(m.name, m.offset_data, m.size) for m in tar.getmembers() if m.isreg()]
    assert [entry[1:] for entry in got] == want
    source = TarSource(path, need=(), names={"txt": "title"})
    keys = [source[i]["__key__"] for i in range(len(source))]
    assert keys == ["folder/a", *(n.removesuffix(".jpg") for n, _ in NAMES[3:6]), "last"]
    assert source[0]["title"] == "one" and source[4]["seg.png"] == b"p"


def test_ustar_prefix(tmp_path):
    name = f"{'d' * 90}/{'e' * 60}.txt"
    path = write_tar(tmp_path / "x.tar", [(name, "t")], tarfile.USTAR_FORMAT)
    assert TarSource(path, need=())[0]["__key__"] == name.removesuffix(".txt")


def test_the_index_is_kept_and_renewed(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "x.tar", sample(1))
    assert len(load_index(path)[0]) == 2 and os.path.exists(f"{path}.index.npz")
    with monkeypatch.context() as patch:
        patch.setattr(tar_index, "make_index", None)
        assert load_index(path)[1]
    write_tar(tmp_path / "x.tar", sample(1) + sample(2))
    assert len(load_index(path)[0]) == 3
    (tmp_path / "x.tar.index.npz").write_bytes(b"PK\x03\x04 broken")
    assert len(load_index(path)[0]) == 3
    assert not list(tmp_path.glob("*.part"))


def test_the_index_of_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "x.tar", sample(1))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "x.tar.index.npz").mkdir()  # Root may write anywhere, but not here.
    starts, _ = load_index(path)
    assert len(list((tmp_path / "cache/jvlm/tar").iterdir())) == 1
    monkeypatch.setattr(tar_index, "make_index", None)
    np.testing.assert_array_equal(load_index(path)[0], starts)


def test_a_download_that_was_cut_short(tmp_path, capsys):
    """At whatever byte it ends: whole samples are usable, the last one is not, and that is said."""
    whole = tmp_path / "whole.tar"
    write_tar(whole, [file for n in (20, 21, 22) for file in sample(n)])
    starts, complete = load_index(str(whole))
    assert complete and len(starts) == 4
    data, part = whole.read_bytes(), tmp_path / "part.tar"
    for length in range(int(starts[2]) * 512 + 1, int(starts[3]) * 512 + 1, 131):
        part.write_bytes(data[:length])
        source = TarSource(str(part))
        assert len(source) in (1, 2) and source.cut_short == [str(part)]
        assert source[len(source) - 1]["caption"] == f"caption {19 + len(source)}"
    assert "1 of 1 shards end too early, such as" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content, message",
    [
        (b"<html>not found</html>" * 50, "no tar file, or damaged at byte 0"),
        (gzip.compress(np.random.default_rng(0).bytes(2000), mtime=0), "packed.*gunzip"),
        (b"version https://git-lfs.github.com/spec/v1", "no tar file"),
        (b"", "no samples"),
    ],
)
def test_what_is_no_tar_is_named(tmp_path, content, message):
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        TarSource(str(path))
    assert str(path) in str(caught.value) and not list(tmp_path.glob("*.npz")) or not content


def test_other_mistakes_are_named(tmp_path):
    shards(tmp_path)
    data = bytearray((tmp_path / "001.tar").read_bytes())
    data[4096 : 4096 + 100] = b"?" * 100
    damaged = tmp_path / "damaged.tar"
    damaged.write_bytes(data)
    with pytest.raises(UserError, match="damaged.tar: no tar file, or damaged at byte"):
        TarSource([str(tmp_path / "000.tar"), str(damaged)])
    with pytest.raises(UserError, match="003.tar: No such file"):
        TarSource(str(tmp_path / "{000..003}.tar"))
    with pytest.raises(UserError, match="no .tar file"):
        TarSource(str(tmp_path / "x*.tar"))
    twice = write_tar(tmp_path / "twice.tar", sample(1) + sample(1)[:1] + sample(1)[:1])
    with pytest.raises(UserError, match="000001.jpg twice in a row"):
        TarSource(twice)


def test_files_of_a_sample_that_lie_apart(tmp_path):
    """A folder packed in no order would be samples of one file each, most without captions."""
    files = [file for part in range(3) for n in (1, 2) for file in sample(n)[part : part + 1]]
    with pytest.raises(UserError, match="x.tar: 000001.txt lies apart .* tar --sort=name"):
        TarSource(write_tar(tmp_path / "x.tar", files))
    joined = sample(1) + sample(2) + sample(1)  # Which is no such thing.
    assert len(TarSource(write_tar(tmp_path / "y.tar", joined))) == 3


def test_samples_that_cannot_be_used(tmp_path):
    files = [("a.txt", "x"), ("b.jpg", b"b"), ("b.json", "{"), ("c.jpg", b"c"), ("c.cls", "7\n")]
    files += [("d.jpg", b"d"), ("d.txt", b"\xff\xfe"), ("e.jpg", b"e"), ("e.json", b"[1]")]
    files += [("f.jpg", b"jpg"), ("f.png", b"png")]
    source = TarSource(write_tar(tmp_path / "x.tar", files))
    assert source[5] == {"__key__": "f", "image": b"jpg"}
    mistakes = [(0, "x.tar: sample 'a': no 'image', only"), (1, "'b'"), (3, "'d'")]
    for index, message in (*mistakes, (4, "'e': its .json is no object, but list")):
        with pytest.raises(BadRecord, match=message):
            source[index]
    assert source[2] == {"__key__": "c", "image": b"c", "label": 7}
    assert TarSource(source.files, need=())[0]["caption"] == "x"
    os.truncate(source.files[0], 600)
    with pytest.raises(BadRecord, match="was it changed"):
        source[2]


def test_a_pattern_that_matches_the_index_too(tmp_path):
    shards(tmp_path)
    for _ in range(2):
        assert len(TarSource(str(tmp_path / "*"))) == 12
