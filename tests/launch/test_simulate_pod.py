# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""launch/simulate_pod.sh: what each process is told, exit status, signals, requeue."""

import json
import os
import signal
import sys
import time

import pytest

from tests.launch.conftest import ROOT

SCRIPT = "simulate_pod.sh"
SHORT = """
from configs.clip import digits

def get_config(arg=""):
    c = digits.get_config("test")
    c.eval.evaluators = {"val": c.eval.evaluators.val}
    del c.eval.picture
    c.checkpoint.update(dict(best="val/loss", best_mode="min"))
    return c
"""


def wait_for(path, seconds=20):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.05)


def test_runs_what_the_dry_run_shows(stage):
    args = ("2", "--devices=2", "clip/digits", "--workdir=w", "--config.x=a 'b'")
    shown = stage.shows(SCRIPT, "--dry-run", *args)
    done = stage.run(SCRIPT, *args)
    assert done.returncode == 0, done.stderr
    (first,), (second,) = stage.calls("jvlm0"), stage.calls("jvlm1")
    port = first["env"]["JVLM_COORDINATOR"].split(":")[1]
    assert first["env"]["JVLM_COORDINATOR"] == second["env"]["JVLM_COORDINATOR"]
    for call, words in zip((first, second), shown, strict=True):
        words = [word.replace(":PORT", f":{port}") for word in words]
        start = words.index("jvlm")
        assert words[start + 1 :] == call["args"]
        env = dict(word.split("=", 1) for word in words[1:start])
        assert env.items() <= call["env"].items()
        assert env["XLA_FLAGS"] == "--xla_force_host_platform_device_count=2"
    # Relative to where it was called.
    assert first["args"] == [
        "train",
        "--config=clip/digits",
        f"--workdir={stage.folder}/w",
        args[-1],
    ]


def test_output_of_process_0_is_shown_and_of_others_logged(stage):
    stage.play(
        {"jvlm0": [{"out": "zero"}], "jvlm1": [{"out": "one", "err": "the reason", "status": 3}]}
    )
    done = stage.run(SCRIPT, 2, "clip/digits", "--workdir=w")
    assert done.returncode == 3
    assert "zero" in done.stdout and "one" not in done.stdout
    assert "process 1 ended with 3: the reason" in done.stderr
    assert "one" in (stage.folder / "w/processes/1.log").read_text()


def test_others_are_killed_when_one_failed(stage):
    stage.play({"jvlm1": [{"status": 3}], "jvlm": [{"sleep": 60}]})
    began = time.monotonic()
    done = stage.run(SCRIPT, 3, "--grace=1", "clip/digits", "--workdir=w")
    assert done.returncode == 3 and "killing 2" in done.stderr
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("statuses", "status"),
    [((0, 0, 0), 0), ((75, 75, 75), 75), ((75, 0, 75), 75), ((69, 1, 69), 1), ((75, 69, 69), 69)],
)
def test_exit_status(stage, statuses, status):
    stage.play({f"jvlm{i}": [{"status": s}] for i, s in enumerate(statuses)})
    assert stage.run(SCRIPT, 3, "clip/digits", "--workdir=w").returncode == status
    assert len(stage.calls("jvlm0")) == 1


@pytest.mark.parametrize(("second", "starts"), [((0, 0), 2), ((3, 0), 2), ((69, 69), 2)])
def test_requeues_on_75_only(stage, second, starts):
    stage.play({f"jvlm{i}": [{"status": 75}, {"status": s}] for i, s in enumerate(second)})
    done = stage.run(SCRIPT, 2, "--requeue", "clip/digits", "--workdir=w")
    assert done.returncode == second[0]
    assert len(stage.calls("jvlm0")) == len(stage.calls("jvlm1")) == starts


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_notice_reaches_every_process_and_is_not_requeued(stage, number):
    stage.play({"jvlm": [{"sleep": 60, "on_term": 75}]})
    started = stage.start(SCRIPT, 2, "--requeue", "clip/digits", "--workdir=w")
    for index in range(2):
        wait_for(stage.folder / f"ready_jvlm{index}")
    if number == signal.SIGINT:  # As the terminal sends it.
        os.killpg(started.pid, number)
    else:
        started.send_signal(number)
    assert started.finish().returncode == 75
    assert len(stage.calls("jvlm0")) == len(stage.calls("jvlm1")) == 1


def test_bad_arguments(stage):
    stage.refuses(SCRIPT, says="number of processes")
    stage.refuses(SCRIPT, "clip/digits", says="number of processes")
    stage.refuses(SCRIPT, "2", "--devices=x", says="--devices=x")
    stage.refuses(SCRIPT, "2", "clip/digits", "more", says="unknown argument more")


def test_trains(stage, data_dir):
    """Two real processes of two devices, on a config of the caller."""
    (stage.folder / "bin/jvlm").write_text(f'#!/bin/sh\nexec {sys.executable} -m jvlm.cli "$@"\n')
    (stage.folder / "short.py").write_text(SHORT)
    env = {"PYTHONPATH": str(ROOT), "TFDS_DATA_DIR": str(data_dir)}
    args = (2, "--devices=2", "short.py", "--workdir=w", "--config.steps=2")
    done = stage.run(SCRIPT, *args, env=env | {"XLA_FLAGS": os.environ["XLA_FLAGS"]})
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((stage.folder / "w/report.json").read_text())["steps"] == 2
    assert (stage.folder / "w/processes/1.log").exists()
