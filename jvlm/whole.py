# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Text files that are there whole, or as they were before."""

import json
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_text(path: Path, pieces: Iterable[str]) -> None:
    """Writes a file; half a surrogate pair becomes its escape, which JSON reads.

    Several processes may write it at once: the last one's stays.
    """
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with part.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(pieces)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes one JSON value, for people to read."""
    write_text(path, [json.dumps(value, ensure_ascii=False, indent=1), "\n"])


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    """Writes JSON lines."""
    write_text(path, (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
