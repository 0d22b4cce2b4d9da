# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Decoding for every language model: options, processors, the loop, beams, ranking."""

from jvlm.generation.generator import Generator
from jvlm.generation.options import Options, make_options
from jvlm.generation.processors import make_processors

__all__ = ["Generator", "Options", "make_options", "make_processors"]
