# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs a config's evaluators on a checkpoint."""

import time
from pathlib import Path
from typing import Any

import jax
import ml_collections

from jvlm import config as config_lib
from jvlm import distributed, evaluators, pretrained, report, sharding, whole
from jvlm.errors import UserError
from jvlm.objectives import build_objective


@distributed.joined()
def evaluate(
    path: str | Path,
    config: ml_collections.ConfigDict | None = None,
    *,
    step: int | str = "best",
    dtype: str | None = None,
    out: str | Path | None = None,
    predictions: str | Path | None = None,
) -> dict[str, Any]:
    """Evaluates a checkpoint.

    Args:
      path: what `jvlm.load` takes: a run, or a published checkpoint.
      config: whose `eval` and `mesh` sections count; default a run's own.
      step: see `pretrained.load`.
      dtype: see `pretrained.load`.
      out: JSON file that gets the metrics, with what gave them.
      predictions: folder that gets each sample's prediction, see `evaluators.evaluate`.

    Returns:
      metric name -> value.
    """
    if out is not None and not Path(out).absolute().parent.is_dir():
        raise UserError(f"{out}: its folder does not exist")
    if predictions is not None and Path(predictions).exists() and not Path(predictions).is_dir():
        raise UserError(f"{predictions}: is no folder")
    mesh_section = config.mesh if config is not None else {}
    mesh = config_lib.construct(sharding.make_mesh, mesh_section, where="mesh")
    m = pretrained.load(path, step=step, mesh=mesh, dtype=dtype)
    config = m.run if config is None else config
    section = config_lib.to_dict(getattr(config, "eval", {})).get("evaluators")
    if not section:
        raise UserError(f"{path}: no evaluators: give a config, such as --config=clip/evaluate:...")
    given = {}
    if evaluators.need(section, "objective"):
        # A run's own objective counts; a published checkpoint has none.
        objective = getattr(m.run or config, "objective", None)
        if not objective:
            raise UserError(f"{path}: an evaluator needs an objective: give one in the config")
        given["objective"] = build_objective(config_lib.to_dict(objective), m.model)
    built = evaluators.build_evaluators(
        section,
        model=m.model,
        tokenizer=m.processor.tokenizer,
        preprocess=m.processor.steps,
        generation=m.generation,
        mesh=mesh,
        **given,
    )
    began = time.perf_counter()
    about = {"model": str(path), "step": m.step, "dtype": dtype, **report.provenance(section)}
    folder = None if predictions is None else Path(predictions)
    with jax.set_mesh(mesh):
        metrics = evaluators.evaluate(built, m.params, folder, about)
    if out is not None and jax.process_index() == 0:
        values = {
            "metrics": metrics,
            **about,
            "seconds": round(time.perf_counter() - began, 2),
        }
        whole.write_json(Path(out), values)
    return metrics
