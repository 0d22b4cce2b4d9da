# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where the samples of a tar shard begin: found once, kept in a file."""

import array
import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from jvlm.data.parallel import parallel_map
from jvlm.data.sources.files import INDEX_SUFFIX, read_at
from jvlm.errors import UserError

BLOCK = 512
_END = bytes(BLOCK)
_THREADS = 16  # Mounted buckets answer slowly, but many at a time.
_WINDOW = 4096  # One read finds a header, its pax header and their ends.

Index = tuple[np.ndarray, bool]
"""(uint32[samples + 1] blocks at which samples begin and the last one ends, end mark seen)."""


def load_indices(shards: Sequence[str]) -> list[Index]:
    """The indices of shards; those that are not stored yet, or no longer right, are made.

    Raises:
      UserError: a shard that cannot be read, or is not a tar file; names it.
    """
    from jvlm import progress

    found = parallel_map(load_index, shards, ahead=4 * _THREADS, threads=_THREADS)
    return list(progress.bar(found, unit="shard", total=len(shards)))


def load_index(shard: str) -> Index:
    """As `load_indices`, of one shard."""
    try:
        stat = os.stat(shard)
    except OSError as error:
        raise UserError(f"{shard}: {error.strerror}") from None
    state = [stat.st_size, stat.st_mtime_ns]
    places = index_places(shard)
    for place in places:
        try:
            with open(place, "rb") as file, np.load(file) as stored:
                *was, whole = stored["shard"].tolist()
                if was == state:
                    return stored["starts"], bool(whole)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            pass  # There is none, or a damaged one: it is made anew.
    starts, whole = make_index(shard)
    for place in places:
        if _store(place, starts=starts, shard=np.array([*state, whole], np.int64)):
            break
    return starts, whole


def index_places(shard: str) -> list[Path]:
    """Where the index of a shard may lie: beside it, or in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jvlm" / "tar"
    name = hashlib.blake2b(os.path.abspath(shard).encode(), digest_size=16).hexdigest()
    return [Path(f"{shard}{INDEX_SUFFIX}"), cache / f"{name}{INDEX_SUFFIX}"]


def make_index(shard: str) -> Index:
    """Reads the headers of a shard.

    Raises:
      UserError: not a tar file, a packed one, one with two files of one name, or one in which the
        files of a sample lie apart, as where a folder was packed in no order.
    """
    starts, whole, end = array.array("I"), False, 0
    sample, extensions = None, set()
    samples, files = set(), set()  # Hashes: a shard may have a million.
    try:
        with open(shard, "rb") as file:
            length = os.fstat(file.fileno()).st_size
            if 0 < length < BLOCK:  # A pointer of git-lfs, or a server's message.
                raise ValueError("no tar file, or damaged at byte 0: fetch it again")
            for begin, name, start, size in members(windowed(file.fileno()), length):
                if not name:
                    whole, end = True, begin
                    break
                if start + size > length:
                    break
                key, extension = split_name(name)
                if key is None:
                    continue
                if key != sample:
                    # Shards that were joined may have a key again, but from its first file on.
                    if hash(key) in samples and hash((key, extension)) not in files:
                        raise UserError(
                            f"{shard}: {name} lies apart from the other files of its sample: pack "
                            "them in order, with tar --sort=name"
                        )
                    starts.append(begin // BLOCK)
                    sample, extensions = key, set()
                samples.add(hash(key))
                files.add(hash((key, extension)))
                if extension in extensions:
                    raise UserError(f"{shard}: has {name} twice in a row")
                extensions.add(extension)
    except OSError as error:
        raise UserError(f"{shard}: {error.strerror}") from None
    except (ValueError, OverflowError) as error:
        raise UserError(f"{shard}: {error}") from None
    if whole:
        starts.append(end // BLOCK)
    # Else the last sample's begin is the end of those before it.
    return np.array(starts if starts else [0], np.uint32), whole


def members(
    read: Callable[[int, int], bytes], length: int, check: bool = True
) -> Iterator[tuple[int, str, int, int]]:
    """The files of a tar archive, in order.

    Reads what tar, Python and WebDataset write: ustar, GNU's long names, pax headers.

    Args:
      read: (offset, size) -> bytes.
      length: of the archive; the contents of its last file may lie beyond.
      check: the headers' sums; not needed where that was done before.

    Yields:
      (where its headers begin, name, where its contents begin, their size); for the end mark
      (where it begins, '', same, 0).

    Raises:
      ValueError: no tar archive, or damaged.
    """
    at = begin = 0
    extra: dict[str, str] = {}  # Of the next file, told by headers of its own.
    while at + BLOCK <= length:
        header = read(at, BLOCK)
        if header == _END:
            yield at, "", at, 0
            return
        if check:
            _check(header, at)
        name, size, kind = _parse(header)
        start = at + BLOCK
        if extra:
            name, size = extra.get("path", name), int(extra.get("size", size))
        if kind in b"xL":
            if start + size > length:
                return
            content = read(start, size)
            extra.update(_pax(content) if kind == b"x" else {"path": _text(content)})
        else:
            if kind in b"0\x007":
                yield begin, name, start, size
            if kind in b"123456":  # Links, devices and folders have no contents.
                size = 0
            extra = extra if kind in b"Kg" else {}
        at = start + -(-size // BLOCK) * BLOCK
        if not extra:
            begin = at


def split_name(name: str) -> tuple[str | None, str]:
    """'a/b.seg.PNG' -> ('a/b', 'seg.png'), as WebDataset has it; no extension: (None, '')."""
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    if not stem or not extension or (stem.startswith("__") and stem.endswith("__")):
        return None, ""
    return f"{folder}{slash}{stem}", extension.lower()


def _check(header: bytes, at: int) -> None:
    """ValueError where a header's sum is not the one that it tells."""
    try:
        right = int(header[148:156].strip(b" \0"), 8)
    except ValueError:
        right = -1
    if right != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        if header[:2] == b"\x1f\x8b":
            raise ValueError("is packed, which allows no random access: unpack it with gunzip")
        raise ValueError(f"no tar file, or damaged at byte {at}: fetch it again")


def _parse(header: bytes) -> tuple[str, int, bytes]:
    """(name, size, kind) of a header block."""
    digits = header[124:136]
    if digits[0] & 0x80:
        size = int.from_bytes(digits, "big") & ~(0x80 << 88)
    else:
        size = int(digits.strip(b" \0") or b"0", 8)
    name = _text(header[:100])
    if header[345] and header[257:263] == b"ustar\0":
        name = f"{_text(header[345:500])}/{name}"
    return name, size, header[156:157]


def _pax(content: bytes) -> dict[str, str]:
    """The records 'length key=value' of a pax header."""
    records = {}
    while content.strip(b"\0"):
        digits, _, _ = content.partition(b" ")
        record = content[len(digits) + 1 : int(digits) - 1]
        key, _, value = record.partition(b"=")
        records[_text(key)] = _text(value)
        content = content[int(digits) :]
    return records


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "replace")


def windowed(descriptor: int) -> Callable[[int, int], bytes]:
    """Reads of a file by windows: the small ones close to each other are one."""
    place, window = 0, b""

    def read(offset: int, size: int) -> bytes:
        nonlocal place, window
        if not place <= offset <= offset + size <= place + len(window):
            place, window = offset, read_at(descriptor, offset, max(size, _WINDOW))
        return window[offset - place :][:size]

    return read


def _store(place: Path, **arrays: np.ndarray) -> bool:
    """Writes an index, whole or not at all; False where it cannot be written."""
    part = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place.parent, suffix=".part", delete=False) as file:
            part = Path(file.name)
            np.savez(file, **arrays)
        part.chmod(0o644)
        part.replace(place)
    except OSError:
        if part is not None:
            part.unlink(missing_ok=True)
        return False
    return True
