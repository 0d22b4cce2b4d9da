# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Published checkpoints, in and out: one engine, one table per family, `published` tells which."""

from jvlm.convert.export import export
from jvlm.convert.files import read_json
from jvlm.convert.peft import load as load_adapter
from jvlm.convert.published import (
    HF_FAMILIES,
    Published,
    inspect,
    is_published,
    load,
    load_momentum,
    open_published,
)

__all__ = [
    "HF_FAMILIES",
    "Published",
    "export",
    "inspect",
    "is_published",
    "load",
    "load_adapter",
    "load_momentum",
    "open_published",
    "read_json",
]
