# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""All launchers: they parse, and --help is the comment at their top."""

import subprocess

import pytest

from tests.launch.conftest import ROOT

SHELL = sorted(ROOT.glob("launch/*.sh")) + [ROOT / "launch/slurm.sbatch"]
USED = [p.name for p in SHELL if p.suffix == ".sh" and p.name != "environment.sh"] + ["gke.py"]


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_parses(path):
    subprocess.run(["bash", "-n", path], check=True)


@pytest.mark.parametrize("script", USED)
def test_help(stage, script):
    done = stage.run(script, "--help")
    assert done.returncode == 0 and not done.stderr
    assert f"launch/{script}" in done.stdout and "SPDX" not in done.stdout
    assert "set -" not in done.stdout


def quoted(*words):
    script = 'source launch/environment.sh; quoted "$@"'
    done = subprocess.run(
        ["bash", "-c", script, "-", *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_shown_commands_can_be_pasted():
    words = ["plain", "two words", "it's", '$HOME `ls` "x"', "", "a=b;c", "*"]
    script = f"printf '%s\\0' {quoted(*words)}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split("\0")[:-1] == words
