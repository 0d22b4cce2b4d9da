# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Captions per second, side by side with transformers: BLIP base at 384 px, float32, CPU.

    python tests/benchmarks/caption.py [--rounds=5] [--batch=8] [--beams=3] [--new=20]

Random weights, the same in both; "a picture of" as ids, exactly so many new tokens. In turns, in
one process, two threads each. A caption's time is also given without its image: that of so many
tokens less that of one. Both answer alike, or it says so. Run it on an idle machine, with torch and
transformers.
"""

import argparse
import statistics
import tempfile
import time

import numpy as np
import torch
import transformers

import jvlm

THREADS, PROMPT = 2, [30522, 1037, 3861, 1997]  # [DEC] a picture of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--beams", type=int, default=3)
    parser.add_argument("--new", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)

    # What Salesforce/blip-image-captioning-base says.
    text = dict(num_attention_heads=12, encoder_hidden_size=768, vocab_size=30524)
    config = transformers.BlipConfig(
        text_config=text, vision_config=dict(image_size=384, layer_norm_eps=1e-6)
    )
    reference = transformers.BlipForConditionalGeneration(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        reference.save_pretrained(folder)
        captioner = jvlm.load(folder)

    pixels = np.random.default_rng(0).normal(size=(args.batch, 384, 384, 3)).astype(np.float32)
    ids = np.array([PROMPT] * args.batch, np.int32)

    def theirs(new: int) -> np.ndarray:
        with torch.no_grad():
            out = reference.generate(
                torch.tensor(pixels).permute(0, 3, 1, 2),
                # Its last id is taken for [SEP], and dropped.
                torch.tensor(np.pad(ids, ((0, 0), (0, 1)), constant_values=102)).long(),
                num_beams=args.beams,
                max_new_tokens=new,
                min_new_tokens=new,
            )
        return out.numpy()[:, len(PROMPT) :]

    def ours(new: int) -> np.ndarray:
        options = dict(num_beams=args.beams, max_new_tokens=new, min_new_tokens=new)
        return captioner.generate_ids({"image": pixels, "text": ids}, **options)

    times: dict = {ours: [], theirs: []}
    said = {}
    for _ in range(args.rounds + 1):  # The first one compiles.
        for side, taken in times.items():
            began = time.perf_counter()
            said[side] = side(args.new)
            middle = time.perf_counter()
            side(1)
            taken.append((middle - began, 2 * middle - began - time.perf_counter()))
    agree = (said[ours] == said[theirs]).all(1).mean()
    for place, name in enumerate(("images and captions", "captions alone")):
        one, other = ([taken[place] for taken in times[side][1:]] for side in (ours, theirs))
        ratios = sorted(b / a for a, b in zip(one, other))
        one, other = statistics.median(one), statistics.median(other)
        print(
            f"{name}: {args.batch / one:.3f} and {args.batch / other:.3f} a second "
            f"({one:.2f} and {other:.2f} s a batch of {args.batch}), "
            f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
            flush=True,
        )
    print(f"{agree:.0%} of the captions are the same")


if __name__ == "__main__":
    main()
