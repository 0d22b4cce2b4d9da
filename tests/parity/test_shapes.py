# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The recorded shapes of published checkpoints are those of the official code."""

import pytest

from tests import published_shapes
from tests.parity import make_shapes

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("source", make_shapes.SOURCES)
def test_recorded_shapes(source):
    path = published_shapes.FOLDER / f"{source}.tsv"
    assert path.read_text(encoding="utf-8") == make_shapes.make(source)
