# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The bootstrapped data set on disk: shards that are there whole or not at all."""

import contextlib
import dataclasses
import io
import json
import os
import tarfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jvlm import whole
from jvlm.config import differing_keys
from jvlm.data.examples import plain
from jvlm.errors import UserError

SETTINGS = "capfilt.json"
WEB, SYNTHETIC = "web", "synthetic"
_STARTS = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"RIFF": "webp", b"GIF8": "gif", b"BM": "bmp"}


@dataclasses.dataclass(frozen=True)
class Shard:
    """So many images of the source, from `first` on; number `index` of `count` shards."""

    index: int
    count: int
    first: int
    size: int

    @property
    def name(self) -> str:
        return f"shard-{self.index:05}-of-{self.count:05}"


@dataclasses.dataclass(frozen=True)
class Caption:
    """A caption that was judged.

    Attributes:
      text: the caption.
      provenance: WEB or SYNTHETIC.
      match: the filter's probability.
      kept: whether that is enough.
    """

    text: str
    provenance: str
    match: float
    kept: bool


@dataclasses.dataclass(frozen=True)
class Judged:
    """An image and what became of its captions.

    Attributes:
      index: in the source.
      key: how the source names it.
      captions: in order, the web's first.
      image: encoded bytes, as in the source.
      fields: the rest of the example, but for its captions.
      bad: why the image could not be used.
    """

    index: int
    key: str = ""
    captions: tuple[Caption, ...] = ()
    image: bytes = b""
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    bad: str | None = None

    @property
    def line(self) -> dict[str, Any]:
        """Its entry in the list of all captions."""
        if self.bad is not None:
            return {"index": self.index, "bad": self.bad}
        known = {k: self.fields[k] for k in ("mismatched",) if k in self.fields}
        captions = [dataclasses.asdict(caption) for caption in self.captions]
        return {"index": self.index, "source_key": self.key, **known, "captions": captions}


def plan(size: int, shard_size: int) -> list[Shard]:
    """The shards of a source of `size` images."""
    count = -(-size // shard_size)
    return [
        Shard(i, count, i * shard_size, min(shard_size, size - i * shard_size))
        for i in range(count)
    ]


def is_done(out: Path, shard: Shard) -> bool:
    """Whether a shard was finished by an earlier call, or by another machine."""
    return (out / f"{shard.name}.jsonl").exists()


def write(out: Path, shard: Shard, judged: Iterable[Judged]) -> None:
    """Writes a shard: a tar file of the images that kept a caption, then the list of all captions.

    A sample is named by the image's number in the source. Its .json has the other fields of the
    source's example and `captions`, the kept ones, with `provenance` and `match` of each; `index`
    and `source_key` name the image in the source. The same input gives the same bytes.

    Raises:
      UserError: the folder cannot be written.
    """
    part, lines = out / f"{shard.name}.{uuid.uuid4().hex[:8]}.part", []
    try:
        with tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar:
            for one in judged:
                lines.append(one.line)
                kept = [caption for caption in one.captions if caption.kept]
                if not kept:
                    continue
                fields = {
                    **one.fields,
                    "captions": [caption.text for caption in kept],
                    "provenance": [caption.provenance for caption in kept],
                    "match": [caption.match for caption in kept],
                    "index": one.index,
                    "source_key": one.key,
                }
                # Sorted: a source's entries come in another order in every process.
                text = json.dumps(fields, default=plain, sort_keys=True)
                name = f"{one.index:09}"
                _add(tar, f"{name}.{_extension(one.image)}", one.image)
                _add(tar, f"{name}.json", text.encode())
        if any(caption["kept"] for line in lines for caption in line.get("captions", ())):
            part.replace(out / f"{shard.name}.tar")  # An empty one is no data set.
        whole.write_lines(out / f"{shard.name}.jsonl", lines)
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)


def read_lines(out: Path, shards: Iterable[Shard]) -> Iterator[dict[str, Any]]:
    """`Judged.line` of all images of finished shards."""
    for shard in shards:
        with open(out / f"{shard.name}.jsonl", encoding="utf-8") as file:
            yield from map(json.loads, file)


def carried(example: Mapping[str, Any], text_key: str) -> dict[str, Any]:
    """The entries that travel along: not the picture, its captions, nor bytes."""
    web = example.get(text_key)
    fields = {}
    for key, value in example.items():
        is_caption = key == text_key or (isinstance(value, str) and value == web)
        if key in ("image", "__key__") or is_caption:
            continue
        with contextlib.suppress(TypeError):
            json.dumps(value, default=plain)
            fields[key] = value
    return fields


def settle(out: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Makes the folder, or finds it made for the same settings; returns them as JSON has them.

    Raises:
      UserError: it holds something else, or cannot be written.
    """
    path, settings = out / SETTINGS, json.loads(json.dumps(settings))
    try:
        if out.exists() and not out.is_dir():
            raise UserError(f"{out}: is a file: give a folder")
        if not path.exists():
            # Machines may begin at once.
            others = [n for n in os.listdir(out) if n != SETTINGS] if out.exists() else []
            if any(not name.endswith(".part") for name in others):
                raise UserError(f"{out}: is not empty, and not of jvlm capfilt: give another --out")
            out.mkdir(parents=True, exist_ok=True)
            whole.write_json(path, settings)
        before = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    changed = differing_keys(before, settings)
    if changed:
        raise UserError(
            f"{out} holds another job, with another {', '.join(changed)}: give the same options, "
            "or another --out"
        )
    return settings


def _extension(image: bytes) -> str:
    """By which tar's readers know a picture; what decodes it looks at the bytes."""
    return next((name for start, name in _STARTS.items() if image.startswith(start)), "tif")


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
