# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Retrieval of clips, held to the steps of BLIP's eval_retrieval_video.py in numpy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm import sharding
from jvlm.errors import UserError
from jvlm.evaluators import Retrieval
from jvlm.layers import l2_normalize

CLIPS, FRAMES, LOOKED_AT = 11, 3, 4
RNG = np.random.default_rng(1)
TABLE = RNG.normal(size=(30, 4)).astype(np.float32)
OUT = RNG.normal(size=(3, 4)).astype(np.float32)
PIXELS = RNG.integers(0, 255, (CLIPS, FRAMES, 2, 1, 3)).astype(np.uint8)
TEXT = RNG.integers(0, 30, (CLIPS, 2)).astype(np.int32)


class Model(nn.Module):
    """States are pixels, 2 a frame; a text matches by the mean over all states that it sees."""

    rerank_rule = "add"

    def encode_image(self, image):
        return self.embed_image(self.image_states(image))

    def image_states(self, image):
        return image[:, :, 0].astype(jnp.float32) / 255

    def embed_image(self, states):
        return l2_normalize(states[:, 0] @ OUT + 0.3)

    def encode_text(self, text, text_mask):
        return l2_normalize(jnp.asarray(TABLE)[text].sum(1))

    def match(self, states, text, text_mask):
        seen = jnp.tanh(states @ OUT).mean(1)
        return 5 * jnp.sum(seen * jnp.asarray(TABLE)[text].mean(1), -1)


class Clips(list):
    batch_size = 8


def batches(valid=True):
    rows = np.minimum(np.arange(16), CLIPS - 1)
    whole = {
        "image": PIXELS[rows],
        "image_valid": np.ones((16, FRAMES), bool) & valid,
        "text": TEXT[rows, None],
        "text_mask": np.ones((16, 1, 2), bool),
        "_mask": np.arange(16) < CLIPS,
    }
    return Clips({k: v[i : i + 8] for k, v in whole.items()} for i in (0, 8))


def official():
    """Ranks of both directions, of the first and of the second look."""
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
    states = PIXELS[..., 0, :].astype(np.float32) / 255
    video = unit((states[:, :, 0] @ OUT + 0.3).mean(1))
    sims = video @ unit(TABLE[TEXT].sum(1)).T
    seen = np.tanh(states.reshape(CLIPS, -1, 3) @ OUT).mean(1)
    logits = 5 * seen @ TABLE[TEXT].mean(1).T
    found = {}
    for direction, scores, looks in (("i2t", sims, logits), ("t2i", sims.T, logits.T)):
        again = np.full(scores.shape, -100.0)
        for row, best in enumerate(np.argsort(-scores, axis=1)[:, :LOOKED_AT]):
            again[row, best] = looks[row, best] + scores[row, best]
        for stage, values in (("", scores), ("_rerank", again)):
            order = np.argsort(-values, axis=1, kind="stable")
            found[direction, stage] = np.argmax(order == np.arange(CLIPS)[:, None], 1)
    return found


def test_clips_are_found_as_by_the_official_code():
    mesh = sharding.make_mesh(8, 1, 1)
    with jax.set_mesh(mesh):
        evaluator = Retrieval(Model(), batches(), mesh, rerank=LOOKED_AT)
        metrics = evaluator.run({})
    assert evaluator.settings()["rule"] == "add"
    for (direction, stage), ranks in official().items():
        for k in (1, 5, 10):
            name = f"retrieval/{direction}_r{k}{stage}"
            # What is not looked at again is no hit here, and has a rank by chance there.
            hits = ranks < (min(k, LOOKED_AT) if stage else k)
            assert metrics[name] == pytest.approx(hits.mean()), name
        if not stage:
            assert metrics[f"retrieval/{direction}_median_rank"] == np.median(ranks) + 1
        elif (ranks < LOOKED_AT).mean() > 0.5:
            assert metrics[f"retrieval/{direction}_median_rank_rerank"] == np.median(ranks) + 1


def test_what_cannot_be_compared():
    mesh = sharding.make_mesh(8, 1, 1)
    with jax.set_mesh(mesh), pytest.raises(UserError, match="set repeat=True in each_image"):
        Retrieval(Model(), batches(valid=False), mesh).run({})
