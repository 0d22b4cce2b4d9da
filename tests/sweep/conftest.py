# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""A trainer that only pretends, and the command that sweeps with it."""

import os
import shlex
import subprocess
import sys

import pytest

from jvlm import cli

# Goes on where its log ends; on SIGTERM it exits with 75. Its metric is lr x step.
TRAINER = """
import json, os, pathlib, signal, sys, time

values = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
folder, lr = pathlib.Path(values["workdir"]), float(values["config.optim.lr"])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
with open(folder.parent / "starts.txt", "a") as file:
    file.write(f"{folder.name} {os.getpid()}\\n")
if lr == 13 and not os.environ.get("REPAIRED"):
    print("step 1\\nValueError: something\\njvlm: loss is nan at step 3", file=sys.stderr)
    sys.exit(2)
log = folder / "log.jsonl"
done = len(log.read_text().splitlines()) if log.exists() else 0
seconds = float(os.environ.get("STEP_SECONDS", 0.02)) * (40 if lr < 0.1 else 1)
for step in range(done + 1, 6):
    time.sleep(seconds)
    with log.open("a") as file:
        file.write(json.dumps({"step": step, "zero_shot/top1": lr * step}) + "\\n")
report = {"metrics": {"zero_shot/top1": lr * 5, "val/loss": 1 / lr}, "seconds": 1.5}
(folder / "report.json").write_text(json.dumps(report))
"""


@pytest.fixture
def trainer(tmp_path):
    path = tmp_path / "trainer.py"
    path.write_text(TRAINER)
    return shlex.join([sys.executable, str(path)])


@pytest.fixture
def workdir(tmp_path):
    return tmp_path / "sweep"


@pytest.fixture
def sweep(monkeypatch, capfd, trainer, workdir):
    """Runs `jvlm sweep ...` in this process; gives (status, standard output, standard error)."""

    def exit(status):
        raise SystemExit(status)

    monkeypatch.setattr(cli.options, "end", exit)

    def run(*arguments):
        capfd.readouterr()
        try:
            cli.main(["sweep", *complete(arguments, trainer, workdir)])
            status = 0
        except SystemExit as end:
            status = end.code
        return status, *capfd.readouterr()

    return run


@pytest.fixture
def start(trainer, workdir):
    """Starts `launch/sweep.py ...` in a process of its own."""
    processes = []

    def run(*arguments, **environment):
        command = [sys.executable, "launch/sweep.py", *complete(arguments, trainer, workdir)]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(subprocess.Popen(command, env={**os.environ, **environment}, **pipes))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def complete(arguments, trainer, workdir):
    """With the pretended trainer and the directory, where the arguments say nothing else."""
    given = [str(argument) for argument in arguments]
    if not any(argument.startswith("--workdir") for argument in given):
        given.append(f"--workdir={workdir}")
    if any(argument.startswith("--config=") for argument in given):
        given += [] if "--command=" in given else [f"--command={trainer}"]
    return [argument for argument in given if argument != "--command="]
