# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""transformers' BLIP: the three classes, in and out, and what they generate."""

import json

import jax
import numpy as np
import pytest
import torch

import jvlm
from tests.parity.references import blip, hf

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module", params=blip.REFERENCES)
def case(request, tmp_path_factory):
    """(reference, what jvlm makes of its folder)."""
    reference = blip.REFERENCES[request.param](tmp_path_factory.mktemp(request.param))
    return reference, jvlm.load(reference.path)


def test_outputs(case):
    reference, m = case
    out = jax.jit(m.model.apply)({"params": m.params}, reference.batch)
    mask = reference.batch.get("decoder_mask", reference.batch["text_mask"])
    for name, want in reference.outputs.items():
        rows = mask if name == "logits" else slice(None)
        error = np.abs(getattr(out, name) - want) / np.maximum(1, np.abs(want))
        assert error[rows].max() <= (1e-4 if name == "logits" else 1e-5), name


def test_token_for_token(case):
    reference, m = case
    for how, want in zip(blip.SETTINGS, reference.ids):
        np.testing.assert_array_equal(m.generate_ids(reference.prompts, **how), want)


def test_export(case, tmp_path):
    """transformers reads what we write, and so do we."""
    reference, m = case
    m.export(tmp_path, format="hf")
    with hf.quiet():
        model, info = reference.model_class.from_pretrained(
            tmp_path, output_loading_info=True, dtype=torch.float32
        )
    assert not any(info.values()), info
    before, after = (
        reference.model_class.from_pretrained(reference.path, dtype=torch.float32).state_dict(),
        model.state_dict(),
    )
    assert all(torch.equal(before[key], value) for key, value in after.items())
    told, kept = (
        json.loads((path / "config.json").read_text()) for path in (tmp_path, reference.path)
    )
    for section in ("text_config", "vision_config"):
        assert kept[section].items() <= told[section].items()
    again = jvlm.load(tmp_path)
    assert again.model == m.model and again.processor.steps == m.processor.steps
    want = jvlm.load(reference.path).params
    jax.tree.map(np.testing.assert_array_equal, again.params, want)
