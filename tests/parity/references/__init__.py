# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tiny random checkpoints in every published format, with the published code's outputs.

`REFERENCES[name](folder)` writes one and returns its `Reference`.
"""

from collections.abc import Callable
from pathlib import Path

from tests.parity.references import cn_clip, hf, open_clip, openai
from tests.parity.references.common import Reference

REFERENCES: dict[str, Callable[[Path], Reference]] = {
    **hf.REFERENCES,
    **openai.REFERENCES,
    **open_clip.REFERENCES,
    **cn_clip.REFERENCES,
}
