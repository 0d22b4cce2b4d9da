# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The recorded shapes of published checkpoints are read completely."""

import math
import re

import pytest

from tests import published_shapes

SOURCES = sorted(path.stem for path in published_shapes.FOLDER.glob("*.tsv"))
BUFFER = re.compile(r".*(running_\w+|num_batches_tracked)|input_resolution|\w+_length|vocab_size")


@pytest.mark.parametrize("source", SOURCES)
def test_tables_are_read_completely(source):
    models = published_shapes.read(source)
    text = (published_shapes.FOLDER / f"{source}.tsv").read_text(encoding="utf-8")
    assert published_shapes.table(models) == text
    for model in models.values():
        trained = [shape for key, shape in model.tensors.items() if not BUFFER.fullmatch(key)]
        assert sum(map(math.prod, trained)) == model.parameters
