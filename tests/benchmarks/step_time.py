# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where a training step's time goes: the step alone, the input alone, and what the loop took.

    python tests/benchmarks/step_time.py RUN

RUN is a finished run. The loop is the median of its log; the parts are measured here, on an
idle machine: the compiled step on one fixed batch, and the preparation of batches in this process.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import jax
import ml_collections

from jvlm import pretrained, sharding
from jvlm.data.pipeline import TrainBatches
from jvlm.data.sources import build_source
from jvlm.data.transforms import compose
from jvlm.step import build_step


def median_seconds(call, repeats: int = 20) -> float:
    """Median wall time of `call()`, after one warm-up."""
    call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main(run: Path) -> None:
    config = ml_collections.ConfigDict(json.loads((run / "config.json").read_text()))
    model = pretrained.load(run)
    data = config.data.to_dict()
    batches = TrainBatches(
        build_source(data["source"]),
        compose(data["transforms"], tokenizer=model.processor.tokenizer),
        data["batch_size"],
        config.seed,
    )

    batch = {key: value for key, value in batches[0].items() if key != "_bad"}
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    training = build_step(config, mesh)
    with jax.set_mesh(mesh):
        batch = sharding.put_batch(batch, mesh, data["batch_size"])
        states = [training.init(jax.random.key(0, impl="threefry2x32"))]

        def step():  # Each gives its state's buffers to the next.
            states.append(jax.block_until_ready(training.step(states.pop(), batch)[0]))

        alone = median_seconds(step)
    indices = iter(range(1, 1000))
    reading = median_seconds(lambda: batches[next(indices)])

    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    log = [line for line in log if "train/loss" in line][1:]
    loop = data["batch_size"] / statistics.median(line["train/samples_per_second"] for line in log)
    waited = statistics.median(line["train/input_wait_seconds"] for line in log)
    print(f"step alone        {alone * 1e3:7.1f} ms")
    print(f"input alone       {reading * 1e3:7.1f} ms")
    print(
        f"loop, per step    {loop * 1e3:7.1f} ms, of which waiting for input {waited * 1e3:.1f} ms"
    )
    print(f"loop / (step + input)  {loop / (alone + reading):.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
