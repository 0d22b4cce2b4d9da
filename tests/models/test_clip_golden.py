# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""CLIP against recorded outputs of transformers: the parity tests without torch.

`python -m tests.parity.make_clip` records them anew.
"""

import jax
import numpy as np
import pytest

from jvlm import paths
from tests.parity import make_clip


@pytest.mark.parametrize("convention", make_clip.CONVENTIONS)
def test_outputs(convention):
    golden = np.load(make_clip.GOLDEN / f"clip_{convention}.npz")
    part = lambda name: {k.removeprefix(name): golden[k] for k in golden if k.startswith(name)}
    params, batch = paths.unflatten(part("params/")), part("batch/")
    out = jax.jit(make_clip.ours(convention).apply)({"params": params}, batch)
    np.testing.assert_allclose(out.image_embeds, golden["image_embeds"], atol=1e-5)
    np.testing.assert_allclose(out.text_embeds, golden["text_embeds"], atol=1e-5)
    want = golden["logits_per_image"]
    assert (np.abs(out.logits_per_image - want) / np.maximum(1, np.abs(want))).max() <= 1e-4
