# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Layers against torch."""

import numpy as np
import pytest
import torch

from jvlm.layers import resize_positions

pytestmark = pytest.mark.parity


@pytest.mark.parametrize(
    "kind", [{"antialias": False}, {"antialias": True}, {"antialias": False, "align_corners": True}]
)
@pytest.mark.parametrize("new", [(6, 6), (3, 7), (4, 4)])
def test_position_resize(new, kind, rng):
    """torch's bicubic interpolation: transformers, open_clip, cn_clip."""
    table = rng.normal(size=(17, 8)).astype(np.float32)
    grid = torch.tensor(table[1:].reshape(1, 4, 4, 8)).permute(0, 3, 1, 2)
    want = torch.nn.functional.interpolate(
        grid, size=new, mode="bicubic", **{"align_corners": False, **kind}
    )
    want = want.permute(0, 2, 3, 1).reshape(-1, 8).numpy()
    got = resize_positions(table, (4, 4), new, **kind)
    np.testing.assert_allclose(got[1:], want, atol=1e-5)
