# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs a run's evaluators on one of its checkpoints."""

from pathlib import Path
from typing import Any

import jax
import ml_collections

from jvlm import config as config_lib
from jvlm import distributed, pretrained, sharding
from jvlm.evaluators import build_evaluators
from jvlm.evaluators import evaluate as run_evaluators
from jvlm.objectives import build_objective


def evaluate(
    workdir: str | Path,
    config: ml_collections.ConfigDict | None = None,
    *,
    step: int | str = "best",
    dtype: str | None = None,
) -> dict[str, Any]:
    """Evaluates a checkpoint.

    Args:
      workdir: the run.
      config: whose `eval` and `mesh` sections count; default the run's own.
      step: see `pretrained.load`.
      dtype: see `pretrained.load`.

    Returns:
      metric name -> value.
    """
    distributed.initialize()
    section = config.mesh if config is not None else {}
    mesh = config_lib.construct(sharding.make_mesh, section, where="mesh")
    m = pretrained.load(workdir, step=step, mesh=mesh, dtype=dtype)
    evaluators = build_evaluators(
        (config if config is not None else m.run).eval.evaluators.to_dict(),
        model=m.model,
        objective=build_objective(m.run.objective.to_dict(), m.model),
        tokenizer=m.processor.tokenizer,
        mesh=mesh,
    )
    with jax.set_mesh(mesh):
        return run_evaluators(evaluators, m.params)
