# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Sweeps from the command line: results, sharing, kills, pruning, launchers, bad input."""

import collections
import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import types

import pytest
from PIL import Image

from jvlm.errors import UserError
from jvlm.sweep import worker
from jvlm.sweep.study import Study

CONFIG = "--config=configs/clip/digits.py:test"
LR = "--grid=optim.lr="


def starts(workdir):
    """Trial -> how often a training of it was started."""
    lines = (workdir / "trials/starts.txt").read_text().splitlines()
    return collections.Counter(line.split()[0] for line in lines)


def steps(workdir, number):
    lines = (workdir / "trials" / str(number) / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def states(workdir):
    trials = json.loads((workdir / "results.json").read_text())["trials"]
    return {trial["number"]: trial["state"] for trial in trials}


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_grid_and_its_results(sweep, workdir, monkeypatch):
    status, out, err = sweep(CONFIG, LR + "1,3,13,2", "--jobs=2")
    assert status == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["trial", "zero_shot/top1", "optim.lr", "seconds", "state"]
    assert [line[0] for line in lines[1:5]] == ["1", "3", "0", "2"]
    assert lines[1][1:] == ["15", "3", "2", "complete"]
    assert "failed: loss is nan at step 3 (exit status 2)" in out.splitlines()[4]
    assert "trial 2: optim.lr=13.0 -> " in err and "trial 1: zero_shot/top1 15, 2 s" in err
    with (workdir / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["optim.lr"] for row in rows] == ["3.0", "2.0", "1.0", "13.0"]
    assert rows[0]["val/loss"] == str(1 / 3) and rows[3]["value"] == ""
    with Image.open(workdir / "results.png") as picture:
        assert picture.size[0] > picture.size[1]  # The sweep and one parameter.

    # The same again trains nothing; more values train only these; failed ones only when asked to.
    assert sweep(CONFIG, LR + "1,3,13,2")[0] == 0
    assert sweep(CONFIG, LR + "1,4")[0] == 0
    monkeypatch.setenv("REPAIRED", "1")
    status, out, _ = sweep("--retry")  # The study knows what is swept.
    assert status == 0 and starts(workdir) == {"0": 1, "1": 1, "2": 2, "3": 1, "4": 1}
    status, again, _ = sweep("--report", "--json")
    assert status == 0 and [row["number"] for row in json.loads(again)] == [2, 4, 1, 3, 0]
    assert "65" in out and "failed" not in out

    # Trials of one sweep come from one config.
    status, _, err = sweep(CONFIG, LR + "5", "--config.steps=9")
    assert status == 2 and "another config; steps differ" in err
    status, _, err = sweep(CONFIG, LR + "5", "--metric=val/loss")
    assert status == 2 and "results by zero_shot/top1 (max)" in err


def test_two_sweeps_share_a_study(start, workdir):
    points = ",".join(map(str, range(1, 9)))
    both = [start(CONFIG, LR + points, "--jobs=2", STEP_SECONDS="0.1") for _ in range(2)]
    said = ""
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out.count("complete") == 8  # Each waits for what the other trains.
        said += err
    assert said.count("zero_shot/top1") == 8
    assert starts(workdir) == {str(number): 1 for number in range(8)}


@pytest.mark.parametrize("with_trainer", [False, True])
def test_kill_in_mid_trial(start, sweep, workdir, with_trainer):
    process = start(CONFIG, LR + "1,2", STEP_SECONDS="0.3")
    wait_for((workdir / "trials/0/log.jsonl").exists)
    process.kill()
    process.wait()
    if with_trainer:  # Else it goes on alone, and the sweep waits for it.
        os.kill(int((workdir / "trials/starts.txt").read_text().split()[1]), signal.SIGKILL)
    assert sweep(CONFIG, LR + "1,2")[0] == 0
    assert states(workdir) == {0: "complete", 1: "complete"}
    assert steps(workdir, 0) == steps(workdir, 1) == [1, 2, 3, 4, 5]
    assert starts(workdir) == {"0": 2, "1": 1}


def test_preempted_sweep_goes_on(start, sweep, workdir):
    process = start(CONFIG, LR + "1,2", STEP_SECONDS="0.3")
    wait_for((workdir / "trials/0/log.jsonl").exists)
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 75 and "goes on when the sweep does" in err
    assert "1 of 5" not in err and sweep("--report")[0] == 0
    assert states(workdir) == {0: "running", 1: "waiting"}
    assert sweep()[0] == 0
    assert starts(workdir) == {"0": 2, "1": 1} and steps(workdir, 0) == [1, 2, 3, 4, 5]


def test_pruning_stops_a_hopeless_trial(sweep, workdir):
    status, out, err = sweep(CONFIG, LR + "1,2,3,4,5,0.01", "--prune=median")
    assert status == 0 and "trial 5: pruned at step" in err
    assert states(workdir) == {**dict.fromkeys(range(5), "complete"), 5: "pruned"}
    assert len(steps(workdir, 5)) < 5
    assert "0.01  " in out.splitlines()[-2]
    assert sweep()[0] == 0 and starts(workdir)["5"] == 1  # Nor is it tried again.


def test_tpe(sweep, workdir):
    ranges = ("--tpe=optim.lr=log:1..10", "--tpe=model.text.depth=1..3", "--trials=3")
    assert sweep(CONFIG, *ranges, "--metric=val/loss", "--jobs=2")[0] == 0
    # Ends after as many as there are, and goes on where more are wanted.
    assert sweep(CONFIG, *ranges[:2], "--metric=val/loss", "--trials=4")[0] == 0
    result = json.loads((workdir / "results.json").read_text())
    values = [trial["value"] for trial in result["trials"]]
    assert result["mode"] == "min" and values == sorted(values) and len(set(values)) == 4
    for trial in result["trials"]:
        assert 1 <= trial["point"]["optim.lr"] <= 10
        assert trial["point"]["model.text.depth"] in (1, 2, 3)
    status, _, err = sweep(CONFIG, "--tpe=optim.lr=1..10", "--metric=val/loss", "--trials=5")
    assert status == 2 and "other kinds of values" in err


def test_a_draw_cut_short_is_completed(sweep, workdir):
    ranges = ("--tpe=optim.lr=1..10", "--trials=1")
    assert sweep(CONFIG, *ranges)[0] == 0
    study = Study(workdir)
    with study.locked():
        study._study.ask()  # Killed before it drew its values.
    assert sweep(CONFIG, *ranges)[0] == 0
    assert states(workdir) == {0: "complete", 1: "complete"}


def test_a_metric_that_is_not_reported(sweep, workdir):
    status, _, err = sweep(CONFIG, LR + "1,2", "--metric=zero_shot/top2")
    last = err.splitlines()[-1]
    assert status == 2 and "'zero_shot/top2'. Did you mean 'zero_shot/top1'?" in last
    # Corrected, also to one with another direction, nothing has to be trained anew.
    assert sweep(CONFIG, LR + "1,2", "--metric=val/loss")[0] == 0
    assert states(workdir) == {1: "complete", 0: "complete"}
    result = json.loads((workdir / "results.json").read_text())
    assert [t["value"] for t in result["trials"]] == [0.5, 1.0] and result["mode"] == "min"


def test_dry_run(sweep, workdir, trainer):
    status, out, _ = sweep(CONFIG, LR + "1,2", "--config.steps=3", "--dry-run", "--command=")
    assert status == 0 and not workdir.exists()
    first, second = out.splitlines()
    assert first.startswith(f"{sys.executable} -m jvlm.cli train --config=")
    ending = f"--workdir={workdir}/trials/{{}} --config.steps=3 --config.optim.lr={{}}"
    assert first.endswith(ending.format(0, "1.0")) and second.endswith(ending.format(1, "2.0"))
    _, out, _ = sweep(CONFIG, "--tpe=optim.lr=1..2", "--dry-run")
    assert "20 trials" in out and "--config.optim.lr=1..2" in out


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Puts programs on the PATH, {name: Python code}, and gives the arguments of their calls."""
    calls = tmp_path / "calls.jsonl"

    def make(codes):
        folder = tmp_path / "bin"
        folder.mkdir()
        for name, code in codes.items():
            log = f"open({str(calls)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')"
            text = f"#!{sys.executable}\nimport json, sys\n{log}\n{code}"
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        return lambda: [json.loads(line) for line in calls.read_text().splitlines()]

    return make


def test_slurm_array(sweep, programs, workdir):
    state = workdir.parent / "state"
    state.write_text("RUNNING")
    squeue = f"print(open({str(state)!r}).read())"
    calls = programs({"sbatch": "print('Submitted batch job 7')", "scontrol": "", "squeue": squeue})
    options = (CONFIG, LR + "1,2", "--jobs=2", "--slurm=--gpus=1 --time=1:00:00")
    _, dry, _ = sweep(*options, "--dry-run")
    status, out, _ = sweep(*options)
    assert status == 0 and "Submitted batch job 7" in out and "--report" in out
    (call,) = calls()
    assert dry.splitlines()[0] == shlex.join(["sbatch", *call])
    assert call[0] == "--array=0-1" and {"--gpus=1", "--time=1:00:00", "--requeue"} <= set(call)
    (wrap,) = (word for word in call if word.startswith("--wrap="))
    # What a task does: preempted it is requeued, then trains what there is, and does not wait.
    environment = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1", "STEP_SECONDS": "0.3"}
    command = ["sh", "-c", wrap.removeprefix("--wrap=")]
    for number, text in ((0, "RUNNING"), (1, "COMPLETING")):
        state.write_text(text)
        process = subprocess.Popen(command, env={**os.environ, **environment})
        wait_for((workdir / f"trials/{number}/log.jsonl").exists)
        process.terminate()
        assert process.wait(20) == 75
    # Not when it was cancelled.
    assert [call for call in calls() if call[0] == "requeue"] == [["requeue", "7_1"]]
    subprocess.run(command, env={**os.environ, **environment}, check=True)
    assert states(workdir) == {0: "complete", 1: "complete"}


# A cluster that trains at once, or never.
KUBECTL = """
import os, pathlib, subprocess
folder = pathlib.Path(__file__).parent
if sys.argv[1] == "apply":
    manifest = json.load(sys.stdin)
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    command = job["template"]["spec"]["containers"][0]["command"]
    place = folder / manifest["metadata"]["name"]
    place.write_text("")
    if "HANG" not in os.environ:
        status = subprocess.run([sys.executable, TRAINER, *command[2:]]).returncode
        place.write_text("Failed" if status else "Completed")
elif sys.argv[1] == "delete":
    (folder / sys.argv[3]).unlink(missing_ok=True)
elif (folder / sys.argv[3]).exists():
    print("JobSet" + (folder / sys.argv[3]).read_text(), end="")
"""


def test_the_log_of_a_run_that_goes_on(tmp_path):
    """It is cut back to the checkpoint, and replaced by a shorter one."""
    line = lambda step: json.dumps({"step": step, "score": step / 10}) + "\n"
    job = object.__new__(worker.Job)
    job._study = types.SimpleNamespace(definition=types.SimpleNamespace(metric="score"))
    job._log, job._read, job._inode = tmp_path / "log.jsonl", 0, None
    job._log.write_text(line(2) + line(4))
    assert job._new_evaluations() == [(2, 0.2), (4, 0.4)]
    (tmp_path / "part").write_text(line(2))
    (tmp_path / "part").replace(job._log)
    assert job._new_evaluations() == [(2, 0.2)]
    with job._log.open("a") as file:
        file.write(line(4) + '{"st')
    assert job._new_evaluations() == [(4, 0.4)]


def test_gke(sweep, start, programs, trainer, workdir, monkeypatch):
    code = KUBECTL.replace("TRAINER", repr(shlex.split(trainer)[1]))
    calls = programs({"kubectl": code})
    monkeypatch.setenv("JVLM_POLL_SECONDS", "0.1")
    options = f"--gke=--topology=v5e:4x4 --image=i --volume=pvc:c --mount={workdir.parent}"
    base = (CONFIG, LR + "1,13", "--command=")
    assert sweep(*base, options)[0] == 0
    assert states(workdir) == {0: "complete", 1: "failed"}
    result = json.loads((workdir / "results.json").read_text())["trials"]
    assert re.search("JobSet sweep-sweep-.*-1 has failed: kubectl logs", result[1]["reason"])
    monkeypatch.setenv("REPAIRED", "1")
    assert sweep("--retry")[0] == 0 and states(workdir) == {0: "complete", 1: "complete"}
    assert starts(workdir) == {"0": 1, "1": 2}

    process = start(CONFIG, LR + "3", "--command=", options, HANG="1")
    wait_for(lambda: ["apply", "--filename=-"] in calls()[-2:])
    process.terminate()
    assert process.wait(20) == 75 and calls()[-1][0] == "delete"
    status, _, err = sweep(*base, options.replace("4x4", "4x5"))
    assert status == 2 and "--gke: gke.py: " in err and err.count("\n") == 1


def test_jobs_share_the_gpus(monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2,5,7")
    shares = [share["CUDA_VISIBLE_DEVICES"] for share in worker.environments(2)]
    assert shares == ["0,5", "2,7"] and worker.environments(1) == [{}]
    with pytest.raises(UserError, match="there are 4 GPUs"):
        worker.environments(5)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert worker.environments(3) == [{}, {}, {}]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([CONFIG, LR + "1", "--tpe=optim.lr=1..2"], "--grid and --tpe: give one of them"),
        ([CONFIG, "--grid=optim.lrr=1"], "unknown key 'lrr'. Did you mean 'lr'?"),
        ([CONFIG, "--grid=steps=many"], "expected int"),
        ([CONFIG, LR + "1", "--grid=optim.lr=2"], "given twice"),
        ([CONFIG, LR + "1", "--gke=", "--slurm"], "without --slurm and --command"),
        ([CONFIG, "--trials=3"], "--trials is for"),
        ([CONFIG, "--random=optim.lr=1..2", "--trials=0"], "at least 1"),
        ([CONFIG, LR + "1", "--jobs=0"], "--jobs 0: at least 1"),
        ([CONFIG, LR + "1", "--mode=best"], "invalid choice"),
        ([CONFIG, LR + "1", "--gird=optim.lr=1"], "Did you mean 'grid'"),
        (["--config=configs/clip/lit.py", "--metric=x", "--dry-run"], "has no sweep()"),
        (["--config=configs/clip/lit.py", LR + "1"], "--metric is missing"),
        ([], "holds no sweep: give --config"),
        (["--report"], "holds no sweep: give --config"),
        ([LR + "1"], "--config is missing"),
    ],
)
def test_bad_input_is_one_line(sweep, workdir, arguments, message):
    status, out, err = sweep(*arguments)
    assert status == 2 and message in err and out == ""
    assert err.count("\n") == 1, err
    assert not workdir.exists()


def test_other_bad_input(sweep, workdir, tmp_path, monkeypatch):
    bare = tmp_path / "bare.py"
    bare.write_text("import ml_collections\nget_config = lambda arg: ml_collections.ConfigDict()")
    status, _, err = sweep(f"--config={bare}")
    assert status == 2 and "eval.evaluators is empty" in err and err.count("\n") == 1
    status, _, err = sweep(CONFIG, LR + "13")
    assert status == 2 and "every trial has failed; trial 0: loss is nan" in err
    (workdir / "study.db").write_text("something else " * 1000)
    status, _, err = sweep("--report")
    assert status == 2 and "the study cannot be used" in err and err.count("\n") == 1
    monkeypatch.setitem(sys.modules, "optuna", None)
    for name in ("study", "worker", "results"):
        monkeypatch.delitem(sys.modules, f"jvlm.sweep.{name}")
        monkeypatch.delattr(f"jvlm.sweep.{name}")
    status, _, err = sweep(CONFIG, LR + "1")
    assert status == 2 and "pip install 'jvlm[sweep]'" in err and err.count("\n") == 1


def test_real_training(start, workdir, tmp_path):
    """Two points of the quickstart in miniature, on one device and without the slow evaluators."""
    config = tmp_path / "config.py"
    config.write_text("""
from configs.clip import digits


def get_config(arg=""):
    c = digits.get_config("test")
    c.eval.evaluators = {"val": c.eval.evaluators.val}
    c.checkpoint.update(dict(best="val/loss", best_mode="min", every_steps=4))
    del c.eval.picture
    return c


def sweep():
    yield {"optim.lr": 1e-3}
    yield {"optim.lr": 1e-2}
""")
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    paths = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    process = start(f"--config={config}", "--command=", XLA_FLAGS=flags, PYTHONPATH=paths)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    result = json.loads((workdir / "results.json").read_text())
    assert result["mode"] == "min" and states(workdir) == {0: "complete", 1: "complete"}
    for trial in result["trials"]:
        report = json.loads((workdir / f"trials/{trial['number']}/report.json").read_text())
        assert report["config"]["optim"]["lr"] == trial["point"]["optim.lr"]
        assert report["metrics"] == trial["metrics"] and report["steps"] == 4
        assert trial["value"] == report["metrics"]["val/loss"]
