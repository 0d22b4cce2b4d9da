# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Several real processes over loopback: one run, however it is spread, whatever happens to it."""

import asyncio
import json
import os
import pathlib
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest

import jvlm
from jvlm import distributed, paths, pretrained, roll_call
from jvlm.errors import PeerLost, UserError

OVERRIDES = ["seed=3", "optim.schedule=constant"]


class Pod:
    """`count` processes of `devices` each that run the same script, as a launcher starts them."""

    def __init__(self, script, *arguments, count=2, devices=4, absent=(), each=(), **environment):
        devices = f"count={devices}"
        environment = {
            **os.environ,
            "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("count=8", devices),
            "JVLM_COORDINATOR": f"localhost:{roll_call.free_port()}",
            "JVLM_NUM_PROCESSES": str(count),
            **environment,
        }
        self.processes = {
            index: subprocess.Popen(
                [sys.executable, "-c", script, *map(str, arguments), *each[index : index + 1]],
                env={**environment, "JVLM_PROCESS_ID": str(index)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for index in range(count)
            if index not in absent
        }

    def send(self, number, index):
        self.processes[index].send_signal(number)

    def wait(self):
        """(exit status, output) of each."""
        outputs = {i: process.communicate(timeout=300)[0] for i, process in self.processes.items()}
        return {i: (self.processes[i].returncode, outputs[i]) for i in outputs}

    def statuses(self):
        results = self.wait()
        return [status for status, _ in results.values()], "\n".join(o for _, o in results.values())


# `jvlm train` that writes down, in the file of the last argument, which rows the process reads.
TRAIN = """
import json, sys
from jvlm import cli
from jvlm.data.pipeline import TrainBatches

read, file = TrainBatches.__getitem__, sys.argv.pop()
def noted(self, step):
    with open(file, "a") as out:
        print(json.dumps([step, list(self.rows)]), file=out)
    return read(self, step)
TrainBatches.__getitem__ = noted
cli.main(["train", *sys.argv[1:]])
"""
# The quickstart in miniature, without what takes long at its end.
CONFIG = """
from configs.clip import digits
def get_config(arg=""):
    c = digits.get_config("test")
    c.seed, c.optim.schedule, c.eval.every_steps = 3, "constant", 1000
    c.eval.evaluators = {"val": c.eval.evaluators.val}
    del c.eval.picture
    c.checkpoint.best = None
    return c
"""


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "plain.py"
    path.write_text(CONFIG)
    return path


def arguments(config, folder, *overrides):
    return [f"--config={config}", f"--workdir={folder}", *(f"--config.{o}" for o in overrides)]


def train_pod(config, folder, *overrides, devices=4):
    rows = [f"{folder}.rows{index}" for index in range(2)]
    return Pod(TRAIN, *arguments(config, folder, *overrides), each=rows, devices=devices)


def wait_for_step(folder, step, pod):
    deadline = time.time() + 180
    log = folder / "log.jsonl"
    while not (log.exists() and f'"step": {step},' in log.read_text()):
        assert time.time() < deadline and all(p.poll() is None for p in pod.processes.values()), (
            pod.statuses()
        )
        time.sleep(0.02)


def final_params(workdir):
    return paths.flatten(pretrained.load(workdir, step="latest").params)


def test_one_then_two_then_one_process(tmp_path):
    """The same samples in the same rows, and the same parameters, whoever reads them."""
    config = jvlm.load_config("configs/clip/digits.py:test", OVERRIDES)
    for evaluator in config.eval.evaluators.values():
        evaluator.data.batch_size = 24  # The last batch is filled up, on one host only.
    sizes = [f"eval.evaluators.{name}.data.batch_size=24" for name in config.eval.evaluators]
    reports = {}
    for steps in (4, 6):
        config.steps = steps
        reports[steps] = jvlm.train(config, tmp_path / "whole")

    config.steps = 2
    jvlm.train(config, tmp_path / "parts")
    changes = (*OVERRIDES, "steps=4", *sizes)
    pod = train_pod("configs/clip/digits.py:test", tmp_path / "parts", *changes)
    statuses, output = pod.statuses()
    assert statuses == [0, 0], output
    report = json.loads((tmp_path / "parts" / "report.json").read_text())
    for name, value in reports[4]["metrics"].items():
        np.testing.assert_allclose(report["metrics"][name], value, atol=1e-3, err_msg=name)
    read = [
        [json.loads(line) for line in (tmp_path / f"parts.rows{i}").read_text().splitlines()]
        for i in range(2)
    ]
    for (step, mine), (other_step, theirs) in zip(*read):
        assert step == other_step and sorted(mine + theirs) == list(range(16))
    assert [step for step, _ in read[0]][:2] == [2, 3]  # Later ones are read ahead.

    config.steps = 6
    jvlm.train(config, tmp_path / "parts")
    whole, parts = (final_params(tmp_path / name) for name in ("whole", "parts"))
    for path in whole:
        np.testing.assert_allclose(parts[path], whole[path], atol=1e-5, err_msg=path)


def test_killed_and_preempted_pods_go_on_bit_exactly(plain, tmp_path):
    """kill -9 of one process, then SIGTERM to the other, beside a pod that nothing happened to."""
    long = ["steps=14", "checkpoint.every_steps=3"]
    folder = tmp_path / "hit"
    pod = train_pod(plain, folder, *long, devices=1)
    wait_for_step(folder, 5, pod)
    began = time.time()
    pod.send(signal.SIGKILL, 1)
    results = pod.wait()
    assert time.time() - began < 30
    status, output = results[0]
    assert status == PeerLost.status == 69
    assert output.splitlines()[-1].startswith("jvlm: process 1 (") and "is lost" in output
    assert "Check failure" not in output and "Traceback" not in output

    pod = train_pod(plain, folder, *long, devices=1)
    wait_for_step(folder, 7, pod)
    pod.send(signal.SIGTERM, 0)
    statuses, output = pod.statuses()
    assert statuses == [75, 75], output
    saved = sorted(int(p.name) for p in (folder / "checkpoints").iterdir())
    assert output.count(f"step {saved[-1]} is saved") == 2
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines if "train/loss" in x] == list(range(1, saved[-1] + 1))

    for name in ("hit", "spared"):
        statuses, output = train_pod(plain, tmp_path / name, *long, devices=1).statuses()
        assert statuses == [0, 0], output
    hit, spared = (final_params(f) for f in (folder, tmp_path / "spared"))
    for path in spared:
        np.testing.assert_array_equal(hit[path], spared[path], err_msg=path)


JOIN = """
import os, pathlib, sys, time
from jvlm import distributed, errors
try:
    with distributed.joined(config=sys.argv[1]):
        if len(sys.argv) > 2:
            distributed.check_shared(pathlib.Path(sys.argv[2]))
        print("joined", flush=True)
        if sys.argv[1] == "wait":
            time.sleep(100)
except errors.UserError as error:
    print("jvlm:", error, flush=True)
    os._exit(error.status)
"""


def test_the_first_process_is_named_too(tmp_path):
    """Its coordinator outlives it, or the others would abort in C++."""
    pod = Pod(JOIN, "wait")
    assert "joined\n" in iter(pod.processes[1].stdout.readline, "")
    pod.send(signal.SIGKILL, 0)
    began = time.time()
    status, output = pod.wait()[1]
    assert status == 69 and time.time() - began < 30
    assert "jvlm: process 0 (" in output and "Check failure" not in output


def test_hosts_that_differ_are_named(tmp_path):
    statuses, output = Pod(JOIN, each=["one", "other"]).statuses()
    assert statuses == [2, 2]
    assert output.count("process 1 has config other, process 0 has one: make the hosts equal") == 2


def test_a_second_run_of_the_same_processes_is_checked_too():
    script = JOIN.replace("try:", "try:\n    with distributed.joined(config='same'):\n        pass")
    statuses, output = Pod(script, each=["one", "other"]).statuses()
    assert statuses == [2, 2]
    assert output.count("process 1 has config other, process 0 has one") == 2


def test_a_folder_that_is_not_shared(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    statuses, output = Pod(JOIN, "same", each=[str(f) for f in folders]).statuses()
    assert statuses == [2, 2]
    assert output.count("process 1 does not see what process 0 writes") == 2


def test_a_missing_process_is_named():
    statuses, output = Pod(JOIN, "x", absent=(1,), JVLM_START_SECONDS="2").statuses()
    assert statuses == [69]
    assert "start: 1 of 2 processes were missing for 2 s: process 1 (never seen)" in output
    statuses, output = Pod(JOIN, "x", absent=(0,), JVLM_START_SECONDS="1").statuses()
    assert statuses == [69] and "has process 0 started there?" in output


@pytest.mark.parametrize(
    "environment, message",
    [
        (dict(JVLM_COORDINATOR="a:1"), "JVLM_NUM_PROCESSES is None: give a number"),
        (
            dict(JVLM_COORDINATOR="a:1", JVLM_NUM_PROCESSES="2", JVLM_PROCESS_ID="2"),
            "counts from 0 to 1",
        ),
        (
            dict(JVLM_COORDINATOR="a", JVLM_NUM_PROCESSES="2", JVLM_PROCESS_ID="1"),
            "the port of JVLM_COORDINATOR",
        ),
        (dict(JVLM_DISTRIBUTED="yes"), "set it to auto"),
        (dict(JVLM_DISTRIBUTED="auto"), "JAX knows no cluster here"),
    ],
)
def test_wrong_variables(environment, message):
    with pytest.raises(UserError, match=message):
        distributed._place(environment)


def test_a_process_is_alone_unless_the_launcher_says_otherwise(capsys):
    """Kaggle and Colab carry the variables of a pod on a single host."""
    assert distributed._place({"TPU_WORKER_HOSTNAMES": "localhost"}) is None
    assert capsys.readouterr().err == ""
    assert distributed._place({"TPU_WORKER_HOSTNAMES": "a,b"}) is None
    assert "one of 2" in capsys.readouterr().err
    alone = dict(JVLM_COORDINATOR="a:1", JVLM_NUM_PROCESSES="1", JVLM_PROCESS_ID="0")
    assert distributed._place(alone) is None


def test_a_cluster_that_jax_knows(monkeypatch):
    """Slurm's, of two nodes with two processes each, a GPU for each process."""
    environment = dict(
        SLURM_JOB_ID="7",
        SLURM_STEP_NODELIST="node[01-02]",
        SLURM_STEP_NUM_NODES="2",
        SLURM_NTASKS="4",
        SLURM_STEP_NUM_TASKS="4",
        SLURM_PROCID="3",
        SLURM_LOCALID="1",
    )
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    auto = dict(JVLM_DISTRIBUTED="auto", JVLM_NUM_PROCESSES="4")
    assert distributed._place(auto) == ("node01", 61447, 4, 3, [1])
    with pytest.raises(UserError, match="8 processes were expected, the cluster has 4"):
        distributed._place({**auto, "JVLM_NUM_PROCESSES": "8"})


@pytest.fixture
def call(monkeypatch):
    """index, on_lost -> connection to a coordinator of two, with short times, in a thread."""
    for name, value in dict(BEAT=0.1, SILENCE=1.0, GRACE=0.3).items():
        monkeypatch.setattr(roll_call, name, value)
    port, stop = roll_call.free_port(), threading.Event()

    async def serve():
        it = roll_call._Coordinator(2)
        async with await asyncio.start_server(it.serve, "localhost", port):
            watching = asyncio.create_task(it.watch())
            while not stop.is_set():
                await asyncio.sleep(0.05)
            watching.cancel()
            await it.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    calls = []

    def connect(index, on_lost):
        calls.append(roll_call.RollCall("localhost", port, index, 5, on_lost=on_lost))
        return calls[-1]

    yield connect
    for one in calls:
        one.close()
    stop.set()
    thread.join()


def test_roll_call(call):
    lost = [queue.Queue(), queue.Queue()]
    calls = [call(index, lost[index].put) for index in range(2)]
    for index in (1, 0):
        calls[index].open("colours", 10)
        calls[index]._send({"put": "colours", "value": f"colour {index}"})
    with calls[0]._changed:
        calls[0]._changed.wait_for(lambda: "colours" in calls[0]._answers, 5)
    assert calls[0]._answers["colours"] == ["colour 0", "colour 1"]
    # Bad input on one: the others are told after a while.
    calls[1].end("data: no such file")
    assert "process 1" in (line := lost[0].get(timeout=5)) and "ended: data: no such file" in line


def test_a_silent_process_is_lost(call, monkeypatch):
    lost = queue.Queue()
    call(0, lost.put)
    monkeypatch.setattr(roll_call.RollCall, "_beat", lambda self: None)  # As if it were stopped.
    call(1, lambda line: None)
    assert re.fullmatch(r"process 1 \(.*\) is lost: silent for 1 s", lost.get(timeout=5))


def test_two_processes_of_the_same_place(call):
    lost = [queue.Queue(), queue.Queue()]
    for place in lost:
        call(1, place.put)
    assert "JVLM_PROCESS_ID counts from 0, each once" in lost[1].get(timeout=5)


def descendants(pid):
    files = pathlib.Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for file in files for child in file.read_text().split()]
    return children + [pid for child in children for pid in descendants(child)]


def test_a_notice_to_all_processes_of_a_host(plain, tmp_path):
    """Those that make batches bear it: the run needs some more until it is saved."""
    command = [sys.executable, "-m", "jvlm.cli", "train"]
    command += arguments(plain, tmp_path / "run", "steps=60", "data.workers=1")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    pod = types.SimpleNamespace(processes={0: process}, statuses=process.communicate)
    wait_for_step(tmp_path / "run", 3, pod)
    workers = descendants(process.pid)
    assert workers
    for worker in workers:
        os.kill(worker, signal.SIGTERM)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 0, error
