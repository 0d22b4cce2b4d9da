# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""launch/slurm.sh and the job that it submits."""

import signal

import pytest

from tests.launch.conftest import ROOT
from tests.launch.test_simulate_pod import wait_for

SCRIPT = "slurm.sh"
JOB = {
    "SLURM_SUBMIT_DIR": str(ROOT),
    "SLURM_JOB_ID": "4100",
    "SLURM_JOB_NODELIST": "gpu[07-08]",
    "SLURM_NTASKS": "16",
    "SLURM_PROCID": "9",
    "SLURM_LOCALID": "1",
}
NODES = {"scontrol show hostnames": [{"out": "gpu07\ngpu08"}]}


def test_submits_what_the_dry_run_shows(stage):
    args = ("--nodes=2", "--gpus=4", "--time=04:00:00", "--sbatch=--partition=a100")
    args += ("clip/digits", "--workdir=w", "--config.x=a 'b'")
    shown = stage.shows(SCRIPT, "--dry-run", *args)
    assert not (stage.folder / "w").exists()
    assert stage.run(SCRIPT, *args).returncode == 0
    assert [["mkdir", "-p", f"{stage.folder}/w"], *stage.words("sbatch")] == shown
    (words,) = stage.words("sbatch")
    assert {"--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4"} <= set(words)
    assert words[words.index("launch/slurm.sbatch") + 1 :] == [
        "--config=clip/digits",
        f"--workdir={stage.folder}/w",
        "--config.x=a 'b'",
    ]


def test_job_tells_each_process_who_it_is(stage):
    stage.play(NODES | {"srun": [{"exec": "bash"}]})
    done = stage.run("slurm.sbatch", "--config=clip/digits", "--config.x=a b", env=JOB)
    assert done.returncode == 0, done.stderr
    (call,) = stage.calls("jvlm9")
    assert call["args"] == ["train", "--config=clip/digits", "--config.x=a b"]
    assert {k: v for k, v in call["env"].items() if k.startswith(("JVLM_", "JAX_LOCAL"))} == {
        "JVLM_COORDINATOR": "gpu07:61448",  # 61440 + 2 * (4100 % 2048)
        "JVLM_NUM_PROCESSES": "16",
        "JVLM_PROCESS_ID": "9",
        "JAX_LOCAL_DEVICE_IDS": "1",
    }


@pytest.mark.parametrize(
    ("status", "state", "requeued"),
    [(75, "RUNNING", True), (75, "CANCELLED", False), (0, "RUNNING", False)]
    + [(status, "RUNNING", False) for status in (1, 2, 69, 137)],
)
def test_job_is_requeued_on_75_only(stage, status, state, requeued):
    stage.play(NODES | {"srun": [{"status": status}], "squeue": [{"out": state}]})
    assert stage.run("slurm.sbatch", "--config=clip/digits", env=JOB).returncode == status
    assert (["scontrol", "requeue", "4100"] in stage.words("scontrol")) == requeued


def test_job_hands_the_notice_on_and_waits(stage):
    """Slurm signals the shell of the job; the processes are signalled, and srun is not."""
    stage.play(NODES | {"srun": [{"sleep": 2, "status": 75}], "squeue": [{"out": "RUNNING"}]})
    job = stage.start("slurm.sbatch", "--config=clip/digits", env=JOB)
    wait_for(stage.folder / "ready_srun")
    job.send_signal(signal.SIGTERM)
    assert job.finish().returncode == 75
    assert stage.words("scancel") == [["scancel", "--signal=TERM", "4100"]]
    assert stage.words("scontrol")[-1] == ["scontrol", "requeue", "4100"]


def test_bad_arguments(stage):
    stage.refuses(SCRIPT, "--node=2", "clip/digits", says="unknown option --node=2")
    stage.refuses(SCRIPT, "--gpus=0", "clip/digits", says="--gpus=0")
    stage.refuses(SCRIPT, "clip/digits", "x", says="unknown argument x")
