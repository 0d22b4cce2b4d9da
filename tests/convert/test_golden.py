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
LANGUAGE_NAMES = ("gpt2", "opt_350m", "llama_3", "t5_v1_1", "bert")


def load(name, folder):
    """(what was recorded, parts of it, what jvlm makes of the recorded checkpoint)."""
    golden = np.load(GOLDEN / f"{name}.npz")
    part = lambda name: {k.removeprefix(name): golden[k] for k in golden if k.startswith(name)}
    for file, text in part("file/").items():
        (folder / file).write_text(str(text))
    # Positions of old files are integers, which our writer need not know.
    arrays = {k: v for k, v in part("tensor/").items() if v.dtype == np.float32}
    tensors = [(key, value.shape, lambda value=value: value) for key, value in arrays.items()]
    write_safetensors(folder / "model.safetensors", tensors, np.float32)
    return golden, part, jvlm.load(folder)


@pytest.mark.parametrize("name", LANGUAGE_NAMES)
def test_logits(name, tmp_path):
    """Of a batch that is padded on the left (BERT's on the right)."""
    golden, part, m = load(name, tmp_path)
    logits = jax.jit(m.model.apply)({"params": m.params}, part("batch/")).logits
    want = golden["logits"]
    error = np.abs(logits - want) / np.maximum(1, np.abs(want))
    assert error[golden["mask"]].max() <= 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_outputs(name, tmp_path):
    golden, part, m = load(name, tmp_path)
    out = jax.jit(m.model.apply)({"params": m.params}, part("batch/"))
    np.testing.assert_allclose(out.image_embeds, golden["image_embeds"], atol=1e-5)
    np.testing.assert_allclose(out.text_embeds, golden["text_embeds"], atol=1e-5)
    want = golden["logits_per_image"]
    assert (np.abs(out.logits_per_image - want) / np.maximum(1, np.abs(want))).max() <= 1e-4
