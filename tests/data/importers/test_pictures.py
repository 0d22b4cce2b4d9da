# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Pictures of an import: every kind of file checked, parts of files, frames of videos."""

import base64
import io
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jvlm.data import images
from jvlm.data.importers.pictures import Loader, check, sample_frames
from jvlm.data.importers.records import Blob, Unusable

PIXELS = np.random.default_rng(0).integers(0, 255, (20, 33, 3), np.uint8)


def encode(form, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, form, **options)
    return file.getvalue()


FILES = {
    "jpeg": encode("jpeg"),
    "progressive": encode("jpeg", progressive=True),
    "grey": encode("jpeg", "L"),
    "cmyk": encode("jpeg", "CMYK"),
    "png": encode("png", "RGBA"),
    "palette": encode("gif", "P"),
    "webp": encode("webp"),
    "bmp": encode("bmp"),
}


@pytest.mark.parametrize("name", FILES)
def test_check_agrees_with_decoding(name):
    data = FILES[name]
    assert check(data) == images.decode(data).shape[:2] == (20, 33)
    for cut in (len(data) // 2, 12):
        with pytest.raises(images.BadRecord):
            images.decode(data[:cut])
        with pytest.raises(images.BadRecord):
            check(data[:cut])


def test_parts_of_files(tmp_path):
    data = FILES["png"]
    (tmp_path / "a").write_bytes(b"12345" + data + base64.b64encode(data))
    (tmp_path / "b").write_bytes(base64.b64encode(data))
    path, encoded = str(tmp_path / "a"), len(base64.b64encode(data))
    load = Loader()
    assert load(Blob(path, 5, len(data)))[0].data == data
    assert load(Blob(path, 5 + len(data), encoded, base64=True))[0].data == data
    assert load(Blob(str(tmp_path / "b"), base64=True))[0].data == data
    for blob, reason in (
        (Blob(path, 5 + len(data), encoded + 4), "unreadable file"),
        (Blob(path, 0, 4, base64=True), "unreadable picture"),
        (Blob(path, 1, 4, base64=True), "unreadable picture"),
        (Blob(str(tmp_path / "c")), "missing file"),
        (Blob(str(tmp_path / "c\0")), "missing file"),
    ):
        with pytest.raises(Unusable, match=reason):
            load(blob)


def test_a_picture_is_read_once_for_its_questions(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(FILES["png"])
    load = Loader(link=True)
    first = load(Blob(str(path)))
    path.unlink()
    assert load(Blob(str(path))) is first and first[0].data == b""


@pytest.fixture
def video(tmp_path, monkeypatch):
    """Puts a stand-in in OpenCV's place: (frames, frames that the header tells) -> a video."""

    def make(frames, announced):
        class VideoCapture:
            def __init__(self, path):
                self.position = -1

            def get(self, what):
                return float(announced)

            def grab(self):
                self.position += 1
                return self.position < frames

            def retrieve(self):
                return True, np.full((4, 6, 3), self.position, np.uint8)

            def release(self):
                pass

        module = types.SimpleNamespace(
            VideoCapture=VideoCapture,
            CAP_PROP_FRAME_COUNT=7,
            COLOR_BGR2RGB=4,
            cvtColor=lambda pixels, code: pixels[..., ::-1],
            setNumThreads=lambda count: None,
        )
        monkeypatch.setitem(sys.modules, "cv2", module)
        (tmp_path / "a.mp4").touch()
        return Blob(str(tmp_path / "a.mp4"))

    return make


@pytest.mark.parametrize(
    ("frames", "announced", "want"),
    [
        (50, 50, [0, 6, 12, 18, 25, 31, 37, 43]),
        (16, 0, [0, 2, 4, 6, 8, 10, 12, 14]),  # The header is silent.
        (3, 3, [0, 0, 0, 1, 1, 1, 2, 2]),
    ],
)
def test_frames_are_evenly_spaced(video, frames, announced, want):
    found = sample_frames(video(frames, announced), 8)
    assert [int(frame[0, 0, 0]) for frame in found] == want


def test_a_header_that_rounds(video):
    found = sample_frames(video(47, 50), 32)
    assert [int(frame[0, 0, 0]) for frame in found] == [n * 47 // 32 for n in range(32)]


def test_frames_are_shrunk(video):
    pictures = Loader(resize=2, frames=3)(video(9, 9))
    assert [images.decode(picture.data).shape for picture in pictures] == [(2, 3, 3)] * 3


def test_a_folder_of_frames(tmp_path, monkeypatch):
    for number in (10, 9, 2, 1, 0):
        (tmp_path / f"{number}.png").write_bytes(FILES["png"])
    (tmp_path / "notes.txt").touch()
    names = lambda count: [
        picture.path.removeprefix(f"{tmp_path}/")
        for picture in Loader(frames=count, link=True)(Blob(str(tmp_path)))
    ]
    assert names(8) == ["0.png", "1.png", "2.png", "9.png", "10.png"]
    assert names(3) == ["0.png", "1.png", "9.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(Unusable, match="missing file"):
        Loader()(Blob(str(tmp_path / "empty")))

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(Unusable, match="unreadable file"):
        Loader()(Blob(str(tmp_path)))


@pytest.mark.parametrize(("frames", "announced"), [(20, 50), (0, 0), (0, 50)])
def test_videos_that_are_cut_off(video, frames, announced):
    with pytest.raises(Unusable, match="unreadable video"):
        sample_frames(video(frames, announced), 8)
