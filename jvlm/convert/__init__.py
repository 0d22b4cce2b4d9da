# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Published checkpoints, in and out: one engine, one table per family, `opening` tells which."""

from jvlm.convert.export import export
from jvlm.convert.families import HF_FAMILIES, HF_MODELS
from jvlm.convert.files import read_json
from jvlm.convert.opening import Published, is_published, open_published
from jvlm.convert.peft import load as load_adapter
from jvlm.convert.published import inspect, load, load_momentum

__all__ = [
    "HF_FAMILIES",
    "HF_MODELS",
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
