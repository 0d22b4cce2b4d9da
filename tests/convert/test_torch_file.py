# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Files of torch.save without torch; tests/parity/test_torch_file.py holds them to torch's own."""

import argparse
import os
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest

from jvlm.convert import torch_file
from jvlm.convert.files import Pickled
from jvlm.errors import UserError

WHOLE = np.arange(12, dtype=np.float32).reshape(3, 4)
TENSORS = {
    "a": WHOLE,
    "half": WHOLE.astype(ml_dtypes.bfloat16),
    "count": np.array([[7, -1]]),
    "scalar": np.float32(3),
}


def write(path):
    tensors = ((k, v.shape, v.dtype, lambda v=v: v) for k, v in TENSORS.items())
    torch_file.write(path, tensors, {"again": "a"})
    return path


def test_round_trip(tmp_path):
    path = write(tmp_path / "x.pth")
    assert path.stat().st_size < 3000  # What is there twice is written once.
    tensors = Pickled([path])
    assert tensors.shapes == {k: v.shape for k, v in TENSORS.items()} | {"again": (3, 4)}
    for key, value in TENSORS.items():
        got = tensors.read(key)
        assert got.dtype == value.dtype
        np.testing.assert_array_equal(got, value)
    np.testing.assert_array_equal(tensors.read("again", (1, 2), 1), WHOLE[:, 2:])
    np.testing.assert_array_equal(tensors.read("again", (2, 3)), WHOLE[2:])
    with zipfile.ZipFile(path) as archive:  # As torch's mapped reading wants it.
        for entry in archive.infolist():
            assert (entry.header_offset + 30 + len(entry.filename) + len(entry.extra)) % 64 == 0


class Evil:
    def __reduce__(self):
        return os.system, ("touch was_here",)


def test_nothing_in_a_pickle_is_run(tmp_path, monkeypatch):
    """What else a training state holds is neither looked up nor in the way."""
    monkeypatch.chdir(tmp_path)
    content = {
        "args": argparse.Namespace(lr=1),
        "evil": Evil(),
        "set": {1},
        "array": np.arange(3),
        "lr": [0.1],
    }
    with zipfile.ZipFile("x.pth", "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps(content, 2))
    read = torch_file.read(tmp_path / "x.pth")
    assert read["lr"] == [0.1] and isinstance(read["args"], torch_file.Opaque)
    assert not os.path.exists("was_here")


def legacy(path, magic=torch_file.LEGACY):
    """As torch before 1.6 wrote it; tests/parity has real ones."""
    tensor = torch_file._tensor(0, WHOLE.shape, WHOLE.dtype)
    pickles = [pickle.dumps(x, 2) for x in (magic, 1001, {})]
    pickles += [b"\x80\x02}(" + pickle.dumps("a", 2)[2:-1] + tensor + b"u."]
    pickles += [pickle.dumps(["0"], 2), (12).to_bytes(8, "little"), WHOLE.tobytes()]
    path.write_bytes(b"".join(pickles))
    return path


def test_files_before_torch_1_6(tmp_path):
    tensors = Pickled([legacy(tmp_path / "x.bin")])
    np.testing.assert_array_equal(tensors.read("a"), WHOLE)


def outside(path):
    """A tensor of more numbers than there are."""
    content = b"\x80\x02" + torch_file._tensor(0, (3,), np.float32) + b"."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", content.replace(b"K\x03", b"K\x02", 1))
        archive.writestr("x/data/0", bytes(8))
    return path


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def compressed(path):
    with zipfile.ZipFile(write(path)) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in content.items():
            archive.writestr(name, value)
    return path


def big_endian(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/byteorder", b"big")
        archive.writestr("x/data.pkl", pickle.dumps({}, 2))
    return path


def text(path):
    path.write_text("hello")
    return path


def number(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps(3, 2))
    return path


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda path: cut(write(path), 0.7), "not a file of torch.save, or damaged"),
        (lambda path: cut(legacy(path), 0.9), "damaged: it is truncated"),
        (lambda path: legacy(path, magic=3), "a pickle of something else"),
        (outside, "a tensor is larger than its storage"),
        (compressed, "is compressed"),
        (big_endian, "big-endian"),
        (text, "not a file of torch.save, or damaged"),
        (number, "holds a int, not a state dict"),
        (lambda path: path, "no such file"),
    ],
)
def test_what_cannot_be_read_is_said(make, message, tmp_path):
    path = make(tmp_path / "x.pth")
    with pytest.raises(UserError, match=message) as error:
        Pickled([path])
    assert "\n" not in str(error.value) and str(path) in str(error.value)
