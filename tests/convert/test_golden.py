# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Recorded checkpoints and outputs of official code: the parity tests without torch.

`python -m tests.parity.make_goldens` records them anew.
"""

import pathlib

import jax
import numpy as np
import pytest

import jvlm
from jvlm.convert.files import write_safetensors

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
NAMES = ("hf_clip", "hf_chinese_clip", "hf_siglip")


@pytest.mark.parametrize("name", NAMES)
def test_outputs(name, tmp_path):
    golden = np.load(GOLDEN / f"{name}.npz")
    part = lambda name: {k.removeprefix(name): golden[k] for k in golden if k.startswith(name)}
    for file, text in part("file/").items():
        (tmp_path / file).write_text(str(text))
    # Positions of old files are integers, which our writer need not know.
    arrays = {k: v for k, v in part("tensor/").items() if v.dtype == np.float32}
    tensors = [(key, value.shape, lambda value=value: value) for key, value in arrays.items()]
    write_safetensors(tmp_path / "model.safetensors", tensors, np.float32)
    m = jvlm.load(tmp_path)
    out = jax.jit(m.model.apply)({"params": m.params}, part("batch/"))
    np.testing.assert_allclose(out.image_embeds, golden["image_embeds"], atol=1e-5)
    np.testing.assert_allclose(out.text_embeds, golden["text_embeds"], atol=1e-5)
    want = golden["logits_per_image"]
    assert (np.abs(out.logits_per_image - want) / np.maximum(1, np.abs(want))).max() <= 1e-4
