# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tokens per second of generation, side by side with transformers: GPT-2's shapes, float32, CPU.

    python tests/benchmarks/decode.py [--rounds=5] [--new=64]

Random weights, prompts of 32 tokens, no end token. In turns, in one process, two threads each. A
time is that of so many new tokens less that of one, so that reading the prompt does not count.
Run it on an idle machine, with torch and transformers.
"""

import argparse
import statistics
import time

import jax
import numpy as np
import torch
import transformers

from jvlm import sharding
from jvlm.generation import Generator
from jvlm.generation.weights import unstack_all
from jvlm.models import build_model

PROMPT, THREADS = 32, 2
CASES = {
    "greedy": {},
    "sampling": dict(do_sample=True, temperature=0.8, top_k=50, top_p=0.9),
    "beam 4": dict(num_beams=4),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    transformers.logging.set_verbosity_error()

    reference = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()
    reference.generation_config.eos_token_id = None
    model = build_model({"name": "gpt2", "variant": "small"})
    params = jax.jit(model.init)(jax.random.key(0), model.dummy_batch(1))["params"]
    generator = Generator(model, sharding.make_mesh(devices=jax.devices()[:1]))
    params = unstack_all(params)

    def theirs(text: np.ndarray, new: int, options: dict) -> None:
        greedy = {"do_sample": False, "max_new_tokens": new, "pad_token_id": 0}
        with torch.no_grad():
            out = reference.generate(torch.tensor(text).long(), **{**greedy, **options})
        assert out.shape[1] == PROMPT + new

    def ours(text: np.ndarray, new: int, options: dict) -> None:
        options = {"max_new_tokens": new, "eos_token_id": (), **options}
        assert generator.ids(params, {"text": text}, options).shape[1] == new

    rng = np.random.default_rng(0)
    for name, options in CASES.items():
        for rows in args.batches:
            text = rng.integers(0, model.vocab_size, (rows, PROMPT)).astype(np.int32)
            times: dict = {ours: [], theirs: []}
            for _ in range(args.rounds + 1):  # The first one compiles.
                for side, taken in times.items():
                    began = time.perf_counter()
                    side(text, args.new, options)
                    middle = time.perf_counter()
                    side(text, 1, options)
                    end = time.perf_counter()
                    taken.append((2 * middle - began - end) / (args.new - 1))
            step = {side: statistics.median(taken[1:]) for side, taken in times.items()}
            ratios = sorted(b / a for a, b in zip(times[ours][1:], times[theirs][1:]))
            print(
                f"{name:9} batch {rows:2}: {rows / step[ours]:6.1f} and {rows / step[theirs]:6.1f} "
                f"tokens/s ({step[ours] * 1e3:5.1f} and {step[theirs] * 1e3:5.1f} ms a step), "
                f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
