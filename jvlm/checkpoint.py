# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: Orbax, written in the background, complete or absent, the last few and the best.

    workdir/checkpoints/<step>/params    trainable leaves and statistics, a plain nested dict
                               ema       the same with averages, where the run keeps them
                               train     optimizer, teacher, queues, step, key
                               meta      data fingerprint, hash of the frozen leaves, metrics
    workdir/frozen/<hash>/               frozen leaves, written once per run

Restoring takes an abstract state, so a checkpoint goes onto any mesh and any number of devices.
"""

import hashlib
import logging
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jvlm import paths
from jvlm.errors import UserError, did_you_mean
from jvlm.state import TrainState, merge, split_statistics

_POLICY = ocp.checkpoint_managers

# Orbax warns at every save between two evaluations that it was given no metrics.
logging.getLogger("absl").addFilter(lambda line: "tracked_metric" not in line.getMessage())


class Checkpoints:
    """The checkpoints of one run.

    Args:
      workdir: the run.
      keep: how many of the latest to keep.
      best: name of the metric whose best checkpoint is kept besides, or None.
      best_mode: 'max' or 'min'.
      read_only: neither writes nor cleans up; for runs that may still be going on.

    Attributes:
      best_metric: `best`.
    """

    def __init__(
        self,
        workdir: str | Path,
        keep: int = 3,
        best: str | None = None,
        best_mode: str = "max",
        read_only: bool = False,
    ):
        if best_mode not in ("max", "min"):
            raise UserError(f"checkpoint.best_mode {best_mode!r}: choose 'max' or 'min'")
        if keep < 1:
            raise UserError(f"checkpoint.keep is {keep}: keep at least 1")
        self._root = Path(workdir).absolute()
        self._keep = keep
        self.best_metric, self._sign = best, 1 if best_mode == "max" else -1
        policies = [_POLICY.LatestN(keep)]
        if best:
            policies.append(
                _POLICY.BestN(
                    get_metric_fn=lambda metrics: metrics[best],
                    reverse=best_mode == "min",
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        self._manager = ocp.CheckpointManager(
            self._root / "checkpoints",
            options=_POLICY.CheckpointManagerOptions(
                preservation_policy=_POLICY.AnyPreservationPolicy(policies),
                # The policy alone does not make Orbax record the metric for the next process.
                best_fn=(lambda metrics: metrics[best]) if best else None,
                best_mode=best_mode,
                cleanup_tmp_directories=not read_only,
                create=not read_only,
            ),
        )
        self._frozen: str | None = None

    def save(
        self,
        step: int,
        state: TrainState,
        data: Mapping[str, Any],
        *,
        seconds: float = 0.0,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Starts to write a checkpoint; returns once the state is copied.

        Args:
          step: optimizer steps done; also the next batch.
          state: the state.
          data: fingerprint of the data order.
          seconds: spent on training so far.
          metrics: of an evaluation at this step.

        Raises:
          UserError: this or the previous checkpoint could not be written.
        """
        metrics = {name: float(value) for name, value in (metrics or {}).items()}
        if metrics and self.best_metric and self.best_metric not in metrics:
            hint = did_you_mean(self.best_metric, metrics)
            raise UserError(f"checkpoint.best {self.best_metric!r} is no metric of this run.{hint}")
        items = _items(state)
        try:
            frozen = self._save_frozen(state.frozen)
            meta = {"data": dict(data), "frozen": frozen, "metrics": metrics, "seconds": seconds}
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    meta=ocp.args.JsonSave(meta),
                    **{name: ocp.args.StandardSave(tree) for name, tree in items.items()},
                ),
                metrics=metrics if self.best_metric in metrics else None,
            )
        except (OSError, ValueError) as error:
            raise _write_error(self._root, error) from error

    def check_space(self, abstract: TrainState) -> str | None:
        """Compares the disk with what the run will write, before it has begun.

        Returns:
          None, or a warning: checkpoints fit, but not as many as are kept.

        Raises:
          UserError: not one checkpoint fits.
        """
        free = shutil.disk_usage(self._root).free
        written = [_items(abstract)]
        if not self.steps():  # Frozen leaves are written once.
            written.append(abstract.frozen)
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(written))
        have = f"{self._root} has {free / 2**30:.1f} GiB free, a checkpoint takes"
        if free < size:
            raise UserError(f"{have} {size / 2**30:.1f} GiB: make room, or take another --workdir")
        # One more is there while the oldest goes.
        wanted = (self._keep + bool(self.best_metric) + 1 - len(self.steps())) * size
        if free < wanted:
            return f"{have} {size / 2**30:.1f} GiB, and {self._keep} of them are kept"
        return None

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints."""
        return sorted(self._manager.all_steps())

    def latest(self) -> int | None:
        return self._manager.latest_step()

    def best(self) -> int | None:
        """Step of the best checkpoint by the configured metric; the latest where none has it."""
        scores = {step: self.meta(step)["metrics"].get(self.best_metric) for step in self.steps()}
        scores = {step: self._sign * score for step, score in scores.items() if score is not None}
        return max(scores, key=scores.get) if scores else self.latest()

    def meta(self, step: int) -> dict[str, Any]:
        """What was noted down beside the arrays."""
        return self._manager.restore(
            step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
        ).meta

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """Reads a checkpoint.

        Args:
          step: one of `steps()`.
          abstract: ShapeDtypeStructs with shardings, from the run's config.
        """
        read = self._read(step, _items(abstract))
        train = dict(read["train"])
        train["rng"] = jax.random.wrap_key_data(train["rng"], impl="threefry2x32")
        frozen = self._restore_frozen(self.meta(step)["frozen"], abstract.frozen)
        params, statistics = split_statistics(read["params"])
        ema = split_statistics(read["ema"])[0] if "ema" in read else None
        return TrainState(params=params, statistics=statistics, ema=ema, frozen=frozen, **train)

    def restore_params(self, step: int, trainable: Mapping, frozen: Mapping, *, ema: bool) -> dict:
        """Reads the parameter tree that is evaluated, without the rest of the state.

        Args:
          step: one of `steps()`.
          trainable, frozen: abstract trees as `state.split` gives them.
          ema: the run keeps an average, which is taken in place of the last values.
        """
        name = "ema" if ema else "params"
        params = self._read(step, {name: trainable})[name]
        return merge(params, self._restore_frozen(self.meta(step)["frozen"], frozen))

    def restore_momentum(
        self, step: int, place: Callable[[Mapping], Mapping], replicated: Any
    ) -> tuple[dict | None, dict]:
        """Reads the average that taught the model, and the queues.

        Args:
          step: one of `steps()`.
          place: gives shapes of parameters their shardings.
          replicated: the sharding of the queues.

        Returns:
          (the teacher's parameters or None, the objective's `extra`).
        """
        path = self._root / "checkpoints" / str(step) / "train"
        shapes = lambda tree: jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
        place_queue = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated)
        with ocp.PyTreeCheckpointer() as checkpointer:
            saved = checkpointer.metadata(path).item_metadata.tree
            wanted = {}
            if saved["teacher"]:
                wanted["teacher"] = place(shapes(saved["teacher"]))
            if saved["extra"]:
                wanted["extra"] = jax.tree.map(place_queue, shapes(saved["extra"]))
            if not wanted:
                return None, {}
            args = ocp.args.PyTreeRestore(
                wanted,
                restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
                partial_restore=True,
            )
            read = checkpointer.restore(path, args=args)
        return read.get("teacher"), read.get("extra", {})

    def wait(self) -> None:
        """Blocks until everything is on disk."""
        try:
            self._manager.wait_until_finished()
        except (OSError, ValueError) as error:
            raise _write_error(self._root, error) from error

    def close(self) -> None:
        self.wait()
        self._manager.close()

    def _read(self, step: int, items: Mapping[str, Any]) -> dict[str, Any]:
        args = {name: ocp.args.StandardRestore(tree) for name, tree in items.items()}
        restored = self._manager.restore(step, args=ocp.args.Composite(**args))
        return {name: restored[name] for name in items}

    def _save_frozen(self, frozen: Mapping) -> str | None:
        if not jax.tree.leaves(frozen):
            return None
        if self._frozen is None:  # They never change during a run.
            self._frozen = content_hash(frozen)
            target = self._root / "frozen" / self._frozen
            if not target.exists():
                with ocp.StandardCheckpointer() as checkpointer:
                    checkpointer.save(target, frozen)
        return self._frozen

    def _restore_frozen(self, digest: str | None, abstract: Mapping) -> dict:
        if digest is None:
            return {}
        source = self._root / "frozen" / digest
        if not source.is_dir():
            raise UserError(f"{source} is missing: copy runs whole")
        with ocp.StandardCheckpointer() as checkpointer:
            frozen = checkpointer.restore(source, abstract)
        self._frozen = digest
        return frozen


def content_hash(tree: Mapping) -> str:
    """A digest of names, shapes, dtypes and bits of a tree of arrays.

    Reduced on the devices with integer sums, so it does not depend on how the arrays are sharded
    and no host gathers them.
    """
    flat = paths.flatten(tree)
    sums = jax.device_get([_fold(leaf) for leaf in flat.values()])
    digest = hashlib.sha256()
    for (path, leaf), folded in zip(flat.items(), sums):
        digest.update(f"{path}:{leaf.shape}:{leaf.dtype}:{np.asarray(folded).tolist()};".encode())
    return digest.hexdigest()[:16]


@jax.jit
def _fold(x: jax.Array) -> jax.Array:
    """Two position-dependent checksums of an array's bits, uint32[2]."""
    bits = jax.lax.bitcast_convert_type(
        x, {4: jnp.uint32, 2: jnp.uint16, 1: jnp.uint8}[x.dtype.itemsize]
    )
    weights = []
    for prime in (0x9E3779B1, 0x85EBCA6B):
        place = jnp.full((), 0, jnp.uint32)
        for axis in range(x.ndim):
            place = place * jnp.uint32(prime) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
        mixed = (place ^ (place >> 15)) * jnp.uint32(prime)
        weights.append(((mixed ^ (mixed >> 13)) | 1) * (bits.astype(jnp.uint32) + 1))
    return jnp.stack([w.sum(dtype=jnp.uint32) for w in weights])


def _items(state: TrainState) -> dict[str, Any]:
    """What a step's checkpoint holds, of a state or an abstract one."""
    items = {"params": merge(state.params, state.statistics), "train": _train_item(state)}
    if state.ema is not None:
        items["ema"] = merge(state.ema, state.statistics)
    return items


def _train_item(state: TrainState) -> dict[str, Any]:
    item = {
        "step": state.step,
        "teacher": state.teacher,
        "extra": state.extra,
        "opt_state": state.opt_state,
    }
    key = jax.eval_shape(jax.random.key_data, state.rng)
    if isinstance(state.rng, jax.Array):
        return {**item, "rng": jax.random.key_data(state.rng)}
    return {**item, "rng": jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=state.rng.sharding)}


def _write_error(root: Path, error: Exception) -> UserError:
    """A full disk is an OSError, or a ValueError of TensorStore that quotes the system's words."""
    quoted = re.search(r"([^:]*) \[os_error_code", str(error))
    reason = quoted[1].strip() if quoted else getattr(error, "strerror", None) or str(error)
    return UserError(f"{root}: cannot write a checkpoint: {' '.join(reason.split())}")
