# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The recorded shapes of published checkpoints are read completely."""

import math
import re

import pytest

from tests import published_shapes

SOURCES = sorted(path.stem for path in published_shapes.FOLDER.glob("*.tsv"))
NOT_COUNTED = re.compile(
    r".*(running_\w+|num_batches_tracked|position_ids)|input_resolution|\w+_length|vocab_size"
    # Queues and momentum copies of ALBEF and BLIP, and the output table, which is the input's.
    r"|\w+_queue|queue_ptr|\w+_m\..*|.*cls\.predictions\.decoder\..*"
)
# The keys and values that two images share are stored with both.
PAIRED = r"text_encoder\.encoder\.layer\.\d*[13579]\.crossattention\.self\.(key|value)\..*"
# What BLIP's encoder and decoder share.
TIED = re.compile(r"text_decoder\.bert\.(embeddings|encoder\.layer\.\d+\.(?!attention\.)).*")
NOT_COUNTED_OF = {
    "model_base": TIED,
    "model_large": TIED,
    "nlvr": re.compile(PAIRED),
    "albef_nlvr_lavis": re.compile(PAIRED),
    "pretrain_model_nlvr": re.compile(PAIRED + r"|text_proj\..*|temp"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_tables_are_read_completely(source):
    models = published_shapes.read(source)
    text = (published_shapes.FOLDER / f"{source}.tsv").read_text(encoding="utf-8")
    assert published_shapes.table(models) == text
    for name, model in models.items():
        patterns = (NOT_COUNTED, NOT_COUNTED_OF.get(name, NOT_COUNTED))
        counted = [
            shape
            for key, shape in model.tensors.items()
            if not any(pattern.fullmatch(key) for pattern in patterns)
        ]
        assert sum(map(math.prod, counted)) == model.parameters
