# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The arrows between the parts of the house, read from the imports of every file."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent

# Part -> what it may import of jvlm. A folder is one part.
MAY_IMPORT = {
    "errors": set(),
    "paths": {"errors"},
    "config": {"errors"},
    "quantise": {"errors", "paths"},
    "precision": {"errors", "paths", "quantise"},
    "adapters": {"errors", "config", "paths", "quantise"},
    "sharding": {"errors", "paths"},
    "layers": {"errors", "precision", "quantise", "sharding"},
    "models": {"errors", "precision", "sharding", "layers", "config"},
    "generation": {
        *("errors", "config", "layers", "models", "sharding", "paths", "precision", "tokenizers"),
        "progress",
    },
    "convert": {
        *("errors", "paths", "config", "precision", "sharding", "layers", "models", "tokenizers"),
        *("adapters", "quantise"),
    },
    "state": {"paths", "precision"},
    "optim": {"errors", "config", "paths", "precision", "sharding"},
    "losses": set(),
    "objectives": {"errors", "config", "losses", "paths", "precision", "sharding", "state"},
    "tokenizers": {"errors", "config"},
    "metrics": {"errors"},
    "data": {"errors", "config", "paths", "progress"},
    "gradcam": {"errors", "layers"},
    "heat": {"data", "layers", "metrics"},
    "evaluators": {
        *("errors", "config", "data", "generation", "metrics", "progress", "sharding"),
        *("gradcam", "heat", "whole"),
    },
    "checkpoint": {"errors", "paths", "state"},
    "versions": set(),
    "whole": set(),
    "roll_call": {"errors"},
    "distributed": {"errors", "roll_call", "versions"},
    "trace": {"errors"},
    "step": {
        *("errors", "paths", "config", "precision", "sharding", "state", "optim", "models"),
        *("adapters", "objectives"),
    },
    "chips": set(),
    "hlo": {"flops"},
    "topology": {"chips", "errors"},
    "flops": {"layers", "objectives", "sharding", "state", "step"},
    "meter": {"chips"},
    "logs": {"meter", "paths", "state", "whole"},
    "warm_start": {"errors", "paths", "config", "layers", "quantise", "state"},
    "image_tasks": {"data", "errors", "evaluators", "gradcam", "heat", "sharding"},
    "pretrained": {
        *("errors", "paths", "config", "precision", "sharding", "state", "checkpoint", "models"),
        *("data", "tokenizers", "convert", "layers", "generation", "image_tasks"),
        *("adapters", "quantise"),
    },
    "progress": set(),
    "topk": {"sharding"},
    "embeddings": {"errors", "config", "data", "progress", "sharding", "evaluators"},
    "search": {"errors", "progress", "sharding", "data", "embeddings", "topk"},
    "report": {"errors", "config", "data", "generation", "pretrained", "versions", "whole"},
    "capfilt": {
        *("errors", "config", "data", "distributed", "embeddings", "evaluators", "generation"),
        *("progress", "report", "sharding", "whole"),
    },
    "score": {"errors", "metrics", "whole"},
    "sweep": {"errors", "config"},
}
FILES = sorted(ROOT.glob("jvlm/**/*.py"))


def imports(path):
    """Parts of jvlm that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "jvlm":
            names = [f"jvlm.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        for name in names:
            if name.startswith("jvlm."):
                yield name.split(".")[1]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows(path):
    parts = path.relative_to(ROOT / "jvlm").parts
    part = parts[0].removesuffix(".py")
    if part in ("__init__", "cli", "train", "evaluate", "plan", "plan_decode"):
        return  # The top of the house: may use everything.
    assert part in MAY_IMPORT, f"{part} is new: say what it may import"
    assert set(imports(path)) - {part, "__version__"} <= MAY_IMPORT[part]


def test_configs_are_data():
    for path in ROOT.glob("configs/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.module.split(".")[0] in ("configs", "ml_collections"), path
            assert not isinstance(node, ast.Import), path


def test_files_are_short():
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 600, path


def test_import_and_help_are_light():
    code = "import sys, jvlm, jvlm.cli; jvlm.cli.make_parser(); print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"jax", "flax", "orbax", "tensorflow_datasets", "sklearn", "PIL"}
    assert not heavy & {name.split(".")[0] for name in out.stdout.split()}
