# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run says while it runs: progress bar, TensorBoard, one JSON line per log step."""

import json
import sys
import time
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import jax
import tqdm
from jax.sharding import Mesh

from jvlm import paths
from jvlm.meter import Meter
from jvlm.state import TrainState, merge, split
from jvlm.whole import write_text


class Log:
    """Writes a run's numbers.

    Args:
      workdir: the run; `log.jsonl` and TensorBoard events go there.
      steps: length of the run.
      start: first step, after a resume.
      batch_size: for samples/s.
      meter: of the devices.
      tensorboard: write events.
      is_writer: False on all hosts but the first, which then stay silent.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        steps: int,
        start: int,
        batch_size: int,
        meter: Meter,
        tensorboard: bool = True,
        is_writer: bool = True,
    ):
        self._is_writer = is_writer
        self._batch_size, self._meter = batch_size, meter
        self._last = (start, time.perf_counter())
        self._bar = tqdm.tqdm(
            total=steps,
            initial=start,
            unit="step",
            disable=not is_writer,
            mininterval=1.0 if sys.stderr.isatty() else 20.0,  # A log file needs fewer lines.
        )
        self._events = None
        if is_writer:
            path = workdir / "log.jsonl"
            _cut(path, start)
            self._file = path.open("a")
            if tensorboard:
                import tensorboardX

                events = str(workdir / "tensorboard")
                self._events = tensorboardX.SummaryWriter(events, purge_step=start + 1)

    def train(self, step: int, metrics: Mapping[str, float]) -> None:
        """Logs the training metrics up to `step`, with speed and use since the last call."""
        last, then = self._last
        now = time.perf_counter()
        self._last = (step, now)
        seconds = (now - then) / max(1, step - last)
        speed = self._batch_size / seconds
        metrics = {**metrics, "samples_per_second": speed, **self._meter.read(seconds)}
        self.write(step, metrics, prefix="train/")
        self._bar.set_postfix_str(
            f"loss {metrics['loss']:.3f}, {speed:.0f} samples/s", refresh=False
        )
        self._bar.update(step - self._bar.n)

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Logs an evaluation and shows it above the bar."""
        self.write(step, metrics)
        self.say(f"step {step}: " + ", ".join(f"{k} {v:.4g}" for k, v in metrics.items()))
        self._last = (self._last[0], time.perf_counter())

    def say(self, line: str) -> None:
        """Prints a line above the progress bar."""
        if self._is_writer:
            self._bar.write(line)

    def write(self, step: int, metrics: Mapping[str, float], prefix: str = "") -> None:
        """Appends to the files."""
        if not self._is_writer:
            return
        metrics = {prefix + name: value for name, value in metrics.items()}
        self._file.write(json.dumps({"step": step, "time": time.time(), **metrics}) + "\n")
        self._file.flush()
        if self._events:
            for name, value in metrics.items():
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
        self._bar.close()
        if self._is_writer:
            self._file.close()
        if self._events:
            self._events.close()


def _cut(path: Path, step: int) -> None:
    """Drops what a run that was killed had logged beyond the step it goes on from."""
    if not path.exists():
        return

    def is_before(line: str) -> bool:
        try:
            return json.loads(line)["step"] <= step
        except ValueError:  # The last line of a killed run may be half of one.
            return False

    write_text(path, filter(is_before, path.read_text().splitlines(keepends=True)))


def parameter_table(state: TrainState, table: Mapping[str, Mapping[str, Any]], mesh: Mesh) -> str:
    """What is stored where: a line per parameter, and what a device holds in all.

    Path, shape, dtype, trainable, decay, learning-rate factor, sharding, and the optimizer's slots:
    name and dtype, with shape and sharding where they are not the parameter's.

    Args:
      state: abstract training state with shardings, from `step.build_step`.
      table: 'trainable', 'decay', 'lr' -> path -> resolved value, from `optim.make_optimizer`.
      mesh: the device mesh.
    """
    params = merge(state.params, state.statistics, state.frozen)
    slots = _slots(state.opt_state)
    columns = ("trainable", "decay", "lr")
    rows = [("parameter", "shape", "dtype", *columns, "sharding", "optimizer")]
    for path, leaf in sorted(paths.flatten(params).items()):
        values = [_short(table[column][path]) for column in columns]
        own = [_slot(name, slot, leaf) for name, slot in slots.get(path, ())]
        place = _short_spec(leaf.sharding.spec)
        rows.append((path, _short_shape(leaf), leaf.dtype.name, *values, place, ", ".join(own)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows]
    trained = paths.count(split(params, table["trainable"])[0])
    lines.append(f"{paths.count(params):,} parameters, {trained:,} in trainable leaves")
    parts = {
        "parameters": params,
        "optimizer": state.opt_state,
        "averages": state.ema,
        "objective": state.extra,
    }
    sizes = ", ".join(f"{name} {_device_bytes(part):,}" for name, part in parts.items() if part)
    axes = " x ".join(f"{name} {size}" for name, size in mesh.shape.items())
    lines.append(f"bytes per device of {axes}: {sizes}")
    return "\n".join(lines) + "\n"


def _slots(opt_state: Any) -> dict[str, list[tuple[str, Any]]]:
    """path of a parameter -> (field of the optimizer's state, leaf), without its placeholders."""
    slots: dict[str, list] = {}
    for keys, leaf in jax.tree.leaves_with_path(opt_state):
        last = max(i for i, key in enumerate(keys) if isinstance(key, jax.tree_util.GetAttrKey))
        path = "/".join(str(key.key) for key in keys[last + 1 :])
        if path and leaf.shape != (1,):
            slots.setdefault(path, []).append((keys[last].name, leaf))
    return slots


def _slot(name: str, slot: Any, param: Any) -> str:
    text = f"{name} {slot.dtype.name}"
    if slot.shape == param.shape and slot.sharding == param.sharding:
        return text
    return f"{text} {_short_shape(slot)} ({_short_spec(slot.sharding.spec)})"


def _device_bytes(tree: Any) -> int:
    leaves = jax.tree.leaves(tree)
    return sum(prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves)


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "per layer " + ",".join(_short(v) for v in value)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"{value:g}"


def _short_shape(leaf: Any) -> str:
    return "x".join(map(str, leaf.shape)) or "scalar"


def _short_spec(spec: Any) -> str:
    return ", ".join("-" if axis is None else str(axis) for axis in spec) or "-"
