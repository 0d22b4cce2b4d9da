# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Files of `torch.save`, read and written without torch.

Since torch 1.6 such a file is a zip archive that compresses nothing: `data.pkl`, a pickle in which
tensors refer to storages, and each storage's bytes as `data/<key>`. Source: pytorch
torch/serialization.py, torch/_utils.py. No code from the pickle runs: what is neither a tensor nor
a plain container becomes an `Opaque`.
"""

import collections
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from jvlm.convert.raw import RawFile
from jvlm.errors import UserError

STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
NAMES = {np.dtype(dtype): name for name, dtype in STORAGES.items()}
ALIGNMENT = 64


class Opaque:
    """An object of a class that is not looked up."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def append(self, value):
        pass

    def extend(self, values):
        pass


class _Storage(NamedTuple):
    file: RawFile
    dtype: Any
    offset: int
    size: int


class StoredTensor:
    """A tensor that lies in a file.

    Attributes:
      shape: tuple of int.
    """

    def __init__(
        self, storage: _Storage, start: int, shape: Sequence[int], strides: Sequence[int], *_
    ):
        self.shape = tuple(shape)
        self._storage, self._start, self._strides = storage, start, tuple(strides)

    def read(self, part: tuple[int, int] = (0, 1), axis: int = 0) -> np.ndarray:
        """The tensor, or the i-th of n equal parts of an axis."""
        file, dtype, offset, size = self._storage
        (index, count), shape, itemsize = part, self.shape, np.dtype(dtype).itemsize
        if self._strides == contiguous(shape) and (axis == 0 or count == 1):
            if count > 1:
                shape = (shape[0] // count, *shape[1:])
            start = self._start + index * math.prod(shape)
            return file.array(shape, dtype, offset + start * itemsize, "a tensor")
        flat = file.array((size,), dtype, offset, "a tensor")[self._start :]
        strides = [stride * itemsize for stride in self._strides]
        whole = np.lib.stride_tricks.as_strided(flat, shape, strides)
        return np.ascontiguousarray(np.split(whole, count, axis)[index])


def is_torch_file(path: Path) -> bool:
    """Whether `read` reads a file: no TorchScript archive, none of torch before 1.6."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = [name.partition("/")[2] for name in archive.namelist()]
    return "data.pkl" in names and "constants.pkl" not in names


def read(path: Path) -> Any:
    """What was saved, with `StoredTensor`s.

    Raises:
      UserError: a damaged file.
    """
    file = RawFile(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {info.filename.partition("/")[2]: info for info in archive.infolist()}
            if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
                raise UserError(f"{path}: its numbers are big-endian: save it again elsewhere")
            with archive.open(entries["data.pkl"]) as stream:
                return _Unpickler(stream, file, entries).load()
    except UserError:
        raise
    except Exception as error:  # A damaged pickle may trip over anything.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{path}: not a file of torch.save, or damaged: {reason[0]}") from None


class _Unpickler(pickle.Unpickler):
    """Makes tensors and containers, and nothing else."""

    def __init__(self, stream: Any, file: RawFile, entries: Mapping[str, zipfile.ZipInfo]):
        super().__init__(stream)
        self._file, self._entries = file, entries

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch", "Size"): tuple,
            ("torch._utils", "_rebuild_tensor_v2"): StoredTensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        }
        return known.get((module, name)) or type(name, (Opaque,), {})

    def persistent_load(self, pid: tuple) -> _Storage:
        _, dtype, key, _, size = pid
        entry = self._entries[f"data/{key}"]
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{entry.filename} is compressed")
        # The central directory does not say how long the local header is.
        lengths = struct.unpack("<HH", self._file.bytes(4, entry.header_offset + 26))
        offset = entry.header_offset + 30 + sum(lengths)
        if offset + entry.file_size > self._file.size:
            raise ValueError("it is truncated")
        return _Storage(self._file, dtype, offset, size)


def write(
    path: Path,
    tensors: Iterable[tuple[str, Sequence[int], Any, Callable[[], np.ndarray]]],
    same: Mapping[str, str],
) -> None:
    """Writes {'model': tensors}, one tensor in memory at a time.

    Args:
      path: the file.
      tensors: (key, shape, dtype, function that makes the array).
      same: further key -> the one whose values it has; they are written once.
    """
    tensors = sorted(tensors, key=lambda tensor: tensor[0])
    saved = {key: _tensor(i, *about) for i, (key, *about, _) in enumerate(tensors)}
    saved |= {key: saved[original] for key, original in same.items()}
    model = b"".join(_plain(key) + saved[key] for key in sorted(saved))
    content = b"}(" + _plain("model") + b"}(" + model + b"uu"
    with open(path, "wb") as stream, zipfile.ZipFile(stream, "w") as archive:
        _add(archive, stream, "data.pkl", b"\x80\x02" + content + b".")
        _add(archive, stream, "byteorder", b"little")
        for index, (_, _, dtype, make) in enumerate(tensors):
            array = np.ascontiguousarray(make(), dtype)
            _add(archive, stream, f"data/{index}", memoryview(array.reshape(-1).view(np.uint8)))
        _add(archive, stream, "version", b"3\n")


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of an array without gaps."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _tensor(index: int, shape: Sequence[int], dtype: Any) -> bytes:
    """Opcodes for a tensor on the storage `index`."""
    kind = _global("torch", NAMES[np.dtype(dtype)])
    about = (_plain("storage"), kind, *map(_plain, (str(index), "cpu", math.prod(shape))))
    hooks = _global("collections", "OrderedDict") + b")R"
    place = map(_plain, (0, tuple(shape), contiguous(shape), False))
    build = _global("torch._utils", "_rebuild_tensor_v2")
    return build + _tuple(_tuple(*about) + b"Q", *place, hooks) + b"R"


def _plain(value: Any) -> bytes:
    """Opcodes for a value without tensors."""
    return pickle.dumps(value, 2)[2:-1]  # Between 'protocol 2' and 'stop'.


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _tuple(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def _add(archive: zipfile.ZipFile, stream: Any, name: str, content: Any) -> None:
    """An entry whose bytes begin at a multiple of 64, as torch pads them."""
    entry = zipfile.ZipInfo(f"archive/{name}")
    begin = stream.tell() + 30 + len(entry.filename) + 4
    padding = -begin % ALIGNMENT
    entry.extra = struct.pack("<HH", 0x4246, padding) + b"Z" * padding
    archive.writestr(entry, content)
