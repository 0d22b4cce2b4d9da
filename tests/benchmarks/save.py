# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""How long a checkpoint keeps the training loop waiting, and what its writing costs the steps.

    PYTHONPATH=. python tests/benchmarks/save.py [--folder=DIR] [--saves=5]

The state is that of a CLIP ViT-B/32 with AdamW in float32 (151 M parameters, 1.7 GiB). After each
save the loop goes on with steps until the checkpoint is complete on disk.

    blocked      until `Checkpoints.save` returns
    finalised    until the checkpoint is complete
    share        blocked / finalised
    step         median time of a step, without and during the writing (batch 8; a CPU also writes,
                 an accelerator does not)
"""

import argparse
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path

import jax
import numpy as np

from configs import common
from jvlm import sharding
from jvlm.checkpoint import Checkpoints
from jvlm.step import build_step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="where to write; default a temporary one")
    parser.add_argument("--saves", type=int, default=5)
    args = parser.parse_args()

    c = common.base()
    c.steps = 1000
    c.model.update(dict(name="clip", variant="ViT-B/32"))
    c.objective = dict(name="contrastive")
    c.data.batch_size = 8
    c.optim.lr = 1e-4
    mesh = sharding.make_mesh()
    training = build_step(c, mesh)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 255, (8, 224, 224, 3), np.uint8),
        "text": rng.integers(1, 49_000, (8, 77)).astype(np.int32),
        "text_mask": np.ones((8, 77), bool),
    }
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        with jax.set_mesh(mesh):
            batch = sharding.put_batch(batch, mesh, 8)
            state = training.init(jax.random.key(0, impl="threefry2x32"))
            size = sum(x.nbytes for x in jax.tree.leaves(state) if hasattr(x, "nbytes"))
            state, _ = training.step(state, batch, None)
            quiet = []
            for _ in range(5):
                state, seconds = timed_step(training, state, batch)
                quiet.append(seconds)
            print(f"state {size / 2**30:.2f} GiB, step {statistics.median(quiet):.2f} s")
            shares = []
            for number in range(args.saves):
                checkpoints = Checkpoints(folder, keep=1)
                began = time.perf_counter()
                checkpoints.save(number + 1, state, {})
                blocked = time.perf_counter() - began
                ended = []
                waiting = threading.Thread(
                    target=lambda c=checkpoints, e=ended: (c.wait(), e.append(time.perf_counter()))
                )
                waiting.start()
                busy = []
                while waiting.is_alive():
                    state, seconds = timed_step(training, state, batch)
                    busy.append(seconds)
                waiting.join()
                total = ended[0] - began
                shares.append(blocked / total)
                print(
                    f"blocked {blocked:.3f} s, finalised {total:.2f} s, share {shares[-1]:.1%}, "
                    f"step {statistics.median(busy):.2f} s during the writing ({len(busy)} steps)"
                )
                checkpoints.close()
            print(f"median share {statistics.median(shares):.1%}")
    finally:
        shutil.rmtree(folder)


def timed_step(training, state, batch):
    began = time.perf_counter()
    state, metrics = training.step(state, batch, None)
    jax.block_until_ready(metrics)
    return state, time.perf_counter() - began


if __name__ == "__main__":
    main()
