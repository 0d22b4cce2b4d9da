# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tensors of published checkpoints, one by one: safetensors, and pickled files of torch."""

import contextlib
import json
import math
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import ml_dtypes
import numpy as np

from jvlm.convert import torch_file
from jvlm.convert.raw import RawFile
from jvlm.errors import UserError

# https://github.com/huggingface/safetensors, "Format".
DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


class Tensors(Protocol):
    """The tensors of a checkpoint.

    Attributes:
      name: what messages call it.
      shapes: key -> shape.
    """

    name: str
    shapes: Mapping[str, tuple[int, ...]]

    def read(self, key: str, part: tuple[int, int] = (0, 1), axis: int = 0) -> np.ndarray:
        """Reads a tensor, or the i-th of n equal parts of an axis."""
        ...


class Shapes(NamedTuple):
    """Tensors without their numbers. See `Tensors`."""

    name: str
    shapes: Mapping[str, tuple[int, ...]]


class _Entry(NamedTuple):
    """Where a tensor lies."""

    file: RawFile
    dtype: type
    offset: int


class Safetensors:
    """One or several .safetensors files. See `Tensors`.

    Args:
      paths: the files.

    Raises:
      UserError: a missing, truncated or damaged file; a tensor that lies in two.
    """

    def __init__(self, paths: list[Path]):
        self.name = str(paths[0]) if len(paths) == 1 else str(paths[0].parent)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._entries: dict[str, _Entry] = {}
        for path in paths:
            file = RawFile(path)
            for key, (shape, dtype, offset) in _header(path, file).items():
                if key in self.shapes:
                    raise UserError(f"{path}: {key} lies in another file of {self.name} too")
                self.shapes[key] = shape
                self._entries[key] = _Entry(file, dtype, offset)

    def read(self, key: str, part: tuple[int, int] = (0, 1), axis: int = 0) -> np.ndarray:
        shape, (file, dtype, offset) = self.shapes[key], self._entries[key]
        index, count = part
        if axis and count > 1:  # Does not lie in one piece.
            return np.split(self.read(key), count, axis)[index]
        if shape and count > 1:
            shape = (shape[0] // count, *shape[1:])
        size = math.prod(shape) * np.dtype(dtype).itemsize
        return file.array(shape, dtype, offset + index * size, key)


def _header(path: Path, file: RawFile) -> dict[str, tuple[tuple[int, ...], type, int]]:
    """Key -> (shape, dtype, offset in the file)."""
    start = file.bytes(8, 0)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else file.size
    if 8 + length > file.size:
        raise UserError(f"{path}: {file.size} bytes, less than its header: fetch it again")
    with malformed(path, "not a safetensors file"):
        return _entries(path, json.loads(file.bytes(length, 8)), 8 + length, file.size)


def _entries(path: Path, header: dict, start: int, size: int) -> dict:
    header.pop("__metadata__", None)
    entries, end = {}, start
    for key, info in header.items():
        if info["dtype"] not in DTYPES:
            raise UserError(f"{path}: {key} is {info['dtype']}, which jvlm does not read")
        shape, dtype = tuple(info["shape"]), DTYPES[info["dtype"]]
        begin, stop = info["data_offsets"]
        if stop - begin != math.prod(shape) * np.dtype(dtype).itemsize:
            raise UserError(f"{path}: the header contradicts itself about {key}")
        entries[key] = (shape, dtype, start + begin)
        end = max(end, start + stop)
    if end > size:
        raise UserError(f"{path}: {size} bytes of {end}, it is truncated: fetch it again")
    return entries


class Pickled:
    """Files of torch: pickled state dicts, or a TorchScript archive. See `Tensors`.

    Args:
      paths: .pt, .pth or .bin.
      prefix: taken from the keys that have it ('module.' of distributed training).
    """

    def __init__(self, paths: list[Path], prefix: str = "module."):
        self.name = str(paths[0]) if len(paths) == 1 else str(paths[0].parent)
        self._tensors: dict[str, Any] = {}
        for path in paths:
            state = _torch_state(path)
            tensors = {k.removeprefix(prefix): v for k, v in state.items() if hasattr(v, "read")}
            self._tensors.update(tensors)
        self.shapes = {key: tensor.shape for key, tensor in self._tensors.items()}

    def read(self, key: str, part: tuple[int, int] = (0, 1), axis: int = 0) -> np.ndarray:
        return self._tensors[key].read(part, axis)


class _TorchTensor:
    """A tensor of torch, as `torch_file.StoredTensor`."""

    def __init__(self, tensor: Any):
        self.shape, self._tensor = tuple(tensor.shape), tensor.detach()

    def read(self, part: tuple[int, int] = (0, 1), axis: int = 0) -> np.ndarray:
        tensor, (index, count) = self._tensor, part
        if count > 1:
            tensor = tensor.chunk(count, axis)[index]
        if str(tensor.dtype) == "torch.bfloat16":  # numpy has none: its bits.
            import torch

            return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return tensor.numpy()


class Npz:
    """An archive of numpy's, .npz. See `Tensors`.

    Args:
      path: the file.

    Raises:
      UserError: missing or damaged.
    """

    def __init__(self, path: Path):
        self.name, self._path = str(path), path
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        self.shapes: dict[str, tuple[int, ...]] = {}
        with self._open() as archive:
            for name in archive.namelist():
                with archive.open(name) as stream:
                    np.lib.format.read_magic(stream)
                    shape = np.lib.format.read_array_header_1_0(stream)[0]
                self.shapes[name.removesuffix(".npy")] = shape

    def read(self, key: str, part: tuple[int, int] = (0, 1), axis: int = 0) -> np.ndarray:
        with self._open() as archive, archive.open(f"{key}.npy") as stream:
            return np.split(np.lib.format.read_array(stream), part[1], axis)[part[0]]

    @contextlib.contextmanager
    def _open(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self._path) as archive:
                yield archive
        except (OSError, ValueError, zlib.error, zipfile.BadZipFile) as error:
            raise UserError(f"{self._path}: not an archive of numpy, or damaged: {error}") from None


class Renamed:
    """Tensors under other names. See `Tensors`.

    Args:
      tensors: as they are.
      names: the new name of a key.

    Raises:
      UserError: two tensors get one name.
    """

    def __init__(self, tensors: Tensors, names: Callable[[str], str]):
        self.name, self._tensors = tensors.name, tensors
        self._keys: dict[str, str] = {}
        for key in tensors.shapes:
            if (other := self._keys.setdefault(names(key), key)) != key:
                raise UserError(f"{tensors.name}: {other} and {key} are the same weight")
        self.shapes = {name: tensors.shapes[key] for name, key in self._keys.items()}

    def read(self, key: str, part: tuple[int, int] = (0, 1), axis: int = 0) -> np.ndarray:
        return self._tensors.read(self._keys[key], part, axis)


class Supplied:
    """Tensors, and some that the checkpoint states elsewhere. See `Tensors`.

    Args:
      tensors: as they are.
      values: key -> scalar.
    """

    def __init__(self, tensors: Tensors, values: Mapping[str, float]):
        self.name, self._tensors = tensors.name, tensors
        self._values = {key: np.float32(value) for key, value in values.items()}
        self.shapes = {**tensors.shapes, **dict.fromkeys(self._values, ())}

    def read(self, key: str, part: tuple[int, int] = (0, 1), axis: int = 0) -> np.ndarray:
        value = self._values.get(key)
        return self._tensors.read(key, part, axis) if value is None else np.asarray(value)


def _torch_state(path: Path) -> Mapping[str, Any]:
    """The state dict in a file; its tensors can be read."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    state = (_torchscript_state if is_torchscript(path) else torch_file.read)(path)
    for key in ("state_dict", "model"):  # open_clip and cn_clip; ALBEF and BLIP.
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping):
        raise UserError(f"{path}: holds a {type(state).__name__}, not a state dict")
    wrap = lambda value: _TorchTensor(value) if hasattr(value, "detach") else value
    return {key: wrap(value) for key, value in state.items() if isinstance(key, str)}


def _torchscript_state(path: Path) -> Any:
    """TorchScript, as torch reads it."""
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path} is TorchScript, which needs torch to be read: pip install torch (or take the "
            "safetensors files of the model)"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # No longer made, but read.
            return torch.jit.load(str(path), map_location="cpu").state_dict()
    except Exception as error:  # torch raises half a dozen kinds.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: cannot be read by torch: {reason}") from None


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive (OpenAI's are)."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def find_tensors(folder: Path, stem: str = "model", pickled: str = "pytorch_model") -> Tensors:
    """The weights in a published folder: safetensors, whole or in shards, before pickled ones.

    Args:
      folder: the checkpoint.
      stem, pickled: file names without suffix.

    Raises:
      UserError: no weights, or a shard that the index names is missing.
    """
    names = (f"{stem}.safetensors", f"{pickled}.bin")
    for name, read in zip(names, (Safetensors, Pickled)):
        if (folder / name).is_file():
            return read([folder / name])
        index = folder / f"{name}.index.json"
        if index.is_file():
            return read(_shards(index))
    raise UserError(f"{folder}: no weights ({' or '.join(names)}, or their .index.json)")


def _shards(index: Path) -> list[Path]:
    """The files that an index names."""
    with malformed(index, "not an index of weights"):
        shards = sorted({str(name) for name in read_json(index)["weight_map"].values()})
    missing = [name for name in shards if not (index.parent / name).is_file()]
    if missing or not shards:
        raise UserError(f"{index} names {', '.join(missing) or 'no files'}, not in the folder")
    return [index.parent / name for name in shards]


@contextlib.contextmanager
def malformed(where: Path | str, what: str) -> Iterator[None]:
    """Parsing somebody else's file: whatever it trips over is said in one line with its name."""
    try:
        yield
    except UserError as error:
        told = str(error)
        raise UserError(told if told.startswith(str(where)) else f"{where}: {told}") from None
    except KeyError as error:
        raise UserError(f"{where}: {what}: no {error}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{where}: {what}: {error}") from None


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
      UserError: missing, damaged, or no object; names the file.
    """
    try:
        value = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object")
    return value


def write_safetensors(
    path: Path, tensors: Iterable[tuple[str, tuple[int, ...], Callable]], dtype: Any
) -> None:
    """Writes a .safetensors file, one tensor in memory at a time.

    Args:
      path: the file.
      tensors: (key, shape, function that makes the array), all of one dtype.
      dtype: numpy's.
    """
    name = next(name for name, known in DTYPES.items() if known == dtype)
    tensors, size = list(tensors), np.dtype(dtype).itemsize
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for key, shape, _ in tensors:
        end = offset + math.prod(shape) * size
        header[key] = {"dtype": name, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # Tensors begin at a multiple of eight bytes.
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, make in tensors:
            file.write(memoryview(make().reshape(-1).view(np.uint8)))
