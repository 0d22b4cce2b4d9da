# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the report shows is read before the training, and its mistakes are one line."""

import pytest

from jvlm import report
from jvlm.errors import UserError


def test_data_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"caption": "a", "image": "none.jpg"}\n')
    source = dict(kind="jsonl", path=str(tmp_path / "x.jsonl"))
    with pytest.raises(UserError, match="eval.picture.source: .*none.jpg: No such file"):
        report.best_captions(source, "caption")
    with pytest.raises(UserError, match="eval.texts.source: .*none.jpg: No such file"):
        report.continuations(source, "{caption}")
