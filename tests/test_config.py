# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Config files: loading, overrides, sections; every recipe builds, and its table is on record."""

import json
import os
import pathlib

import pytest

from jvlm import config as config_lib
from jvlm import sharding
from jvlm.errors import UserError
from jvlm.logs import parameter_table
from jvlm.step import build_step

ROOT = pathlib.Path(__file__).parent.parent
CONFIGS = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("configs/*/*.py"))
# All but those that only evaluate.
EVALUATIONS = ["clip/evaluate", "blip/msrvtt", "blip/nocaps"]
RECIPES = [path for path in CONFIGS if path[len("configs/") : -len(".py")] not in EVALUATIONS]
MESH = dict(data=2, fsdp=2, tensor=2)


@pytest.mark.parametrize("path", RECIPES)
def test_every_recipe_builds_and_matches_its_golden_table(path):
    """What is stored where on a 2x2x2 mesh. UPDATE_GOLDEN=1 rewrites."""
    c = config_lib.load(path)
    mesh = sharding.make_mesh(**MESH)
    training = build_step(c, mesh)
    text = parameter_table(training.state, training.optimizer.table, mesh)
    golden = ROOT / "tests/golden" / path.replace("/", "_").replace(".py", ".txt")
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("path", CONFIGS)
def test_every_recipe_says_how_to_run_it(path):
    assert f"--config={path}" in (ROOT / path).read_text()


def test_names_below_configs_and_arguments():
    overrides = ["optim.lr=3", "model.vision.depth=5", "log.tensorboard=false"]
    c = config_lib.load("clip/digits:test", overrides)
    assert c.optim.lr == 3.0 and c.model.vision.depth == 5 and c.log.tensorboard is False
    assert c.steps == 4


def test_unknown_section(tmp_path):
    path = tmp_path / "c.py"
    path.write_text(
        "import ml_collections as m\nget_config = lambda arg: m.ConfigDict({'stpes': 1})"
    )
    with pytest.raises(UserError, match="Did you mean 'steps'"):
        config_lib.load(str(path))
    path.write_text("x = 1")
    with pytest.raises(UserError, match="no get_config"):
        config_lib.load(str(path))
    path.write_text("def get_config(:")
    with pytest.raises(UserError, match="SyntaxError"):
        config_lib.load(str(path))


def test_differing_keys():
    c = config_lib.load("clip/digits:test")
    old = json.loads(json.dumps(config_lib.to_dict(c)))
    assert config_lib.differing_keys(old, c) == []
    c.steps, c.mesh.tensor, c.eval.every_steps, c.compute.remat = 9, 2, 7, "full"
    assert config_lib.differing_keys(old, c) == []
    c.optim.lr, c.compute.dtype = 9.0, "bfloat16"
    assert config_lib.differing_keys(old, c) == ["compute.dtype", "optim.lr"]
