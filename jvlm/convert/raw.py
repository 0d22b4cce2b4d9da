# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Arrays at known places of a file.

Read with `pread` and not mapped: mapped pages count as this process's memory on some platforms and
stay as long as anything refers to them; a read buffer is gone when its tensor is placed.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jvlm.errors import UserError


class RawFile:
    """A file that is open as long as somebody has it.

    Args:
      path: the file.

    Attributes:
      size: in bytes.

    Raises:
      UserError: it cannot be opened.
    """

    def __init__(self, path: Path):
        self._path = path
        try:
            self._file = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None
        self.size = os.fstat(self._file).st_size

    def __del__(self):
        if "_file" in self.__dict__:
            os.close(self._file)

    def bytes(self, count: int, offset: int) -> bytes:
        """As many bytes as there are, at most `count`."""
        return os.pread(self._file, count, offset)

    def array(self, shape: Sequence[int], dtype: Any, offset: int, what: str) -> np.ndarray:
        """Reads an array; `what` names it where the file ends within it."""
        array = np.empty(tuple(shape), dtype)
        buffer = memoryview(array.reshape(-1).view(np.uint8))
        done = 0
        while done < array.nbytes:
            read = os.preadv(self._file, [buffer[done:]], offset + done)
            if not read:
                raise UserError(f"{self._path}: ends within {what}: fetch it again")
            done += read
        return array
