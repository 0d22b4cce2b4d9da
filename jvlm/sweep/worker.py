# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Workers: each trains trials of a study in subprocesses, until none is left."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jvlm.errors import UserError, did_you_mean
from jvlm.sweep.study import Definition, Study, Trial

TRAIN = (sys.executable, "-m", "jvlm.cli", "train")
PREEMPTED = 75  # A trainer that was stopped and has saved; the same command goes on.
POLL_SECONDS = 0.2
CLAIM_SECONDS = 2.0  # Between two looks at a study that had no trial to give.
SAVE_SECONDS = 600  # What a trainer may take to save after SIGTERM.


def trial_command(definition: Definition, folder: Path, texts: Mapping[str, str]) -> list[str]:
    """The command that trains a point in its run directory, or goes on there."""
    overrides = [*definition.overrides, *(f"{key}={text}" for key, text in texts.items())]
    return [
        *(definition.command or TRAIN),
        f"--config={definition.config}",
        f"--workdir={folder}",
        *(f"--config.{override}" for override in overrides),
    ]


class Job:
    """A trial in training."""

    def __init__(self, study: Study, trial: Trial, environment: Mapping[str, str]):
        self.trial = trial
        self._study = study
        self._log, self._read, self._inode = trial.folder / "log.jsonl", 0, None
        self._began, self._stopped, self._is_pruned = time.monotonic(), None, False
        with (trial.folder / "output.log").open("ab") as output:
            self._output_from = output.tell()  # What earlier attempts said is not our reason.
            self._process = subprocess.Popen(
                trial_command(study.definition, trial.folder, trial.texts),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                # Ctrl-C is for us: we end the training in a way that saves.
                start_new_session=True,
                # The lock is free when we and the training are gone, not before.
                pass_fds=[trial.lock.fileno()],
            )

    def stop(self) -> None:
        """Asks the training to save and end; insists where it takes too long."""
        if self._stopped is None:
            self._stopped = time.monotonic()
            self._process.terminate()
        elif time.monotonic() > self._stopped + SAVE_SECONDS:
            self.kill()

    def kill(self) -> None:
        self._process.kill()

    def watch(self) -> None:
        """Hands new evaluations to the study, and stops the training if they are hopeless."""
        if self._is_pruned:
            self.stop()
            return
        for step, value in self._new_evaluations():
            if step not in self.trial.reported:
                self._is_pruned |= self._study.report(self.trial, step, value)

    def end(self) -> str | None:
        """Tells the study how the training has ended.

        Returns:
          what to say about it; None while it runs.

        Raises:
          UserError: its report lacks the sweep's metric.
        """
        status = self._process.poll()
        if status is None:
            return None
        for step, value in self._new_evaluations():
            if step not in self.trial.reported:
                self._study.report(self.trial, step, value)
        study, trial, seconds = self._study, self.trial, time.monotonic() - self._began
        if status == 0:
            return self._complete()
        if self._is_pruned:
            study.prune(trial, seconds)
            return f"pruned at step {max(trial.reported)}"
        if status == PREEMPTED or self._stopped is not None:
            trial.lock.close()  # Whoever comes next goes on with it.
            return "stopped; goes on when the sweep does"
        reason = _reason(status, trial.folder / "output.log", self._output_from)
        study.fail(trial, reason, seconds)
        return f"failed: {reason}"

    def _complete(self) -> str:
        study, trial, seconds = self._study, self.trial, time.monotonic() - self._began
        path, metric = trial.folder / "report.json", study.definition.metric
        try:
            report = json.loads(path.read_text())
            metrics, seconds = report["metrics"], report.get("seconds", seconds)
        except (OSError, ValueError, KeyError) as error:
            study.fail(trial, f"no report in {path}: {error}", seconds)
            return f"failed: no report in {path}"
        if metric not in metrics:
            raise UserError(
                f"the trials do not report the metric {metric!r}.{did_you_mean(metric, metrics)} "
                f"Start again with another --metric; {trial.folder} is kept"
            )
        study.complete(trial, metrics, seconds)
        return f"{metric} {metrics[metric]:.4g}, {seconds:.0f} s"

    def _new_evaluations(self) -> list[tuple[int, float]]:
        """(step, value) of the lines that log.jsonl has gained."""
        metric, found = self._study.definition.metric, []
        if self._log.exists():
            with self._log.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                if inode != self._inode:  # A run that goes on cuts its log, and so replaces it.
                    self._inode, self._read = inode, 0
                file.seek(self._read)
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # Half written.
                    self._read += len(line)
                    entry = json.loads(line)
                    if metric in entry:
                        found.append((entry["step"], entry[metric]))
        return found


def work(
    study: Study,
    environments: Sequence[Mapping[str, str]],
    *,
    waits: bool = True,
    say: Callable[[str], None] = print,
) -> int:
    """Trains the study's trials, as many at a time as there are environments.

    Args:
      study: the trials.
      environments: variables of each job.
      waits: for trials that others work on too, to take over what they leave.
      say: takes a line about each trial.

    Returns:
      0; or the signal that stopped the work. The trials in training have then been saved.
    """
    stopped_by = 0

    def on_signal(number, _):
        nonlocal stopped_by
        if stopped_by:
            for job in jobs.values():
                job.kill()
        else:
            say(f"{signal.Signals(number).name}: saving; once more to kill")
        stopped_by = number

    jobs: dict[int, Job] = {}
    next_claim = 0.0
    handlers = {s: signal.signal(s, on_signal) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        while True:
            for slot, job in list(jobs.items()):
                if stopped_by:
                    job.stop()
                else:
                    job.watch()
                line = job.end()
                if line:
                    say(f"trial {job.trial.number}: {line}")
                    del jobs[slot]
                    next_claim = 0.0
            free = [slot for slot in range(len(environments)) if slot not in jobs]
            while free and not stopped_by and time.monotonic() >= next_claim:
                trial = study.claim()
                if trial is None:
                    next_claim = time.monotonic() + CLAIM_SECONDS
                    if not jobs and not (waits and study.count()[1]):
                        return 0
                    break
                slot = free.pop(0)
                jobs[slot] = Job(study, trial, environments[slot])
                values = " ".join(f"{key}={text}" for key, text in trial.texts.items())
                say(f"trial {trial.number}: {values} -> {trial.folder}")
            if stopped_by and not jobs:
                return stopped_by
            time.sleep(POLL_SECONDS)
    finally:
        for job in jobs.values():  # After an error: they save, and hold their trials until then.
            job.stop()
            job.trial.lock.close()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def environments(jobs: int, *, remote: bool = False) -> list[dict[str, str]]:
    """Variables of `jobs` jobs side by side: each gets its share of the GPUs.

    Args:
      jobs: how many.
      remote: they train elsewhere.

    Raises:
      UserError: fewer GPUs than jobs, or a TPU, which one process takes whole.
    """
    if jobs < 1:
        raise UserError(f"--jobs {jobs}: at least 1")
    if jobs == 1 or remote or os.environ.get("JAX_PLATFORMS", "").startswith("cpu"):
        return [{}] * jobs
    if any(Path("/dev").glob("accel[0-9]*")) or any(Path("/dev/vfio").glob("[0-9]*")):
        raise UserError("--jobs: one process takes all of a host's TPU chips; give --jobs 1")
    gpus = _gpus()
    if gpus and len(gpus) < jobs:
        raise UserError(f"--jobs {jobs}: there are {len(gpus)} GPUs; give at most that many")
    return [{"CUDA_VISIBLE_DEVICES": ",".join(gpus[i::jobs])} if gpus else {} for i in range(jobs)]


def _gpus() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    except OSError:
        return []
    return [str(index) for index in range(len(re.findall(r"^GPU ", listed, re.MULTILINE)))]


def _reason(status: int, output: Path, start: int) -> str:
    """Why a training has failed, in a line: the last one that it wrote."""
    if status < 0:
        name = signal.Signals(-status).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    with output.open("rb") as file:
        file.seek(max(start, output.stat().st_size - 20_000))
        text = file.read().decode(errors="replace")
    lines = [" ".join(line.split()) for line in re.split(r"[\r\n]", text)]
    lines = [line for line in lines if line] or ["no output"]
    said = [line for line in lines if line.startswith("jvlm: ")]
    return f"{(said or lines)[-1].removeprefix('jvlm: ')} (exit status {status})"
