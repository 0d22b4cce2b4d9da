# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Kills a run with SIGKILL at random moments, again and again, and compares what it ends with.

    PYTHONPATH=. python tests/benchmarks/kills.py [--kills=50] [--processes=1] [--seed=0]

The run is the quickstart in miniature, saved at every third step, so that many kills hit a save;
one in four hits the start. With --processes=2 one of two is killed, and the other has to end by
itself, with status 69, within 30 s. After the last kill the run goes on to its end. Its parameters
and those of a run that nothing happened to must have the same hash. Prints a line per kill and, at
the end, JSON. Exit status 1 if anything is not as it should be.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jvlm.roll_call import free_port

EVERY = 3
CONFIG = f"""
from configs.clip import digits
def get_config(arg=""):
    c = digits.get_config("test")
    c.eval.evaluators = {{"val": c.eval.evaluators.val}}
    del c.eval.picture
    c.eval.every_steps, c.checkpoint.every_steps = 1_000_000, {EVERY}
    c.checkpoint.best, c.log.tensorboard, c.optim.schedule = None, False, "constant"
    return c
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1_500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    os.environ["JAX_PLATFORMS"] = "cpu"
    began, lost, survivors, early = time.time(), [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        hit, spared = Path(folder, "hit"), Path(folder, "spared")
        config = Path(folder, "config.py")
        config.write_text(CONFIG)
        for number in range(args.kills):
            run = start(config, hit, args)
            in_start = rng.random() < 0.25
            resumed = steps_logged(hit)
            moment = time.time() + rng.uniform(0, 8 if in_start else 2.5)
            while time.time() < moment or not (in_start or steps_logged(hit) != resumed):
                if all(process.poll() is not None for process in run):
                    break
                if steps_logged(hit) == resumed and not in_start:
                    moment = max(moment, time.time() + rng.uniform(0, 2.5))
                time.sleep(0.01)
            victim = rng.choice(run)
            if victim.poll() is not None:
                early += 1
            victim.send_signal(signal.SIGKILL)
            killed = time.time()
            statuses = [process.wait(timeout=60) for process in run if process is not victim]
            survivors += [(status, time.time() - killed) for status in statuses]
            victim.wait()
            done, saved = steps_logged(hit), steps_saved(hit)
            lost.append(done - saved)
            print(f"kill {number + 1}: at step {done}, {saved} is saved", flush=True)
        digests = {}
        for workdir in (hit, spared):
            if any(process.wait() for process in start(config, workdir, args)):
                sys.exit(f"{workdir} did not end well")
            digests[workdir.name] = digest(workdir)
    result = {
        "kills": args.kills,
        "processes": args.processes,
        "steps": args.steps,
        "killed_after_the_end": early,
        "steps_lost_at_most": max(lost),
        "save_interval": EVERY,
        "survivors_status": sorted({status for status, _ in survivors}),
        "survivors_seconds_at_most": round(max((s for _, s in survivors), default=0.0), 1),
        "same_parameters": digests["hit"] == digests["spared"],
        **digests,
        "minutes": round((time.time() - began) / 60, 1),
    }
    print(json.dumps(result))
    fine = result["same_parameters"] and not early and set(result["survivors_status"]) <= {69}
    sys.exit(not fine)


def start(config: Path, workdir: Path, args: argparse.Namespace) -> list[subprocess.Popen]:
    """The run's processes; one device each."""
    command = [sys.executable, "-m", "jvlm.cli", "train", f"--config={config}"]
    command += [f"--workdir={workdir}", f"--config.steps={args.steps}"]
    environment = dict(os.environ)
    if args.processes > 1:
        port = free_port()
        environment["JVLM_COORDINATOR"] = f"localhost:{port}"
        environment["JVLM_NUM_PROCESSES"] = str(args.processes)
        # One that is killed before it has said a word is waited for this long.
        environment["JVLM_START_SECONDS"] = "25"
    return [
        subprocess.Popen(
            command,
            env={**environment, "JVLM_PROCESS_ID": str(index)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for index in range(args.processes)
    ]


def steps_logged(workdir: Path) -> int:
    try:
        lines = (workdir / "log.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return 0
    whole = [line for line in lines if line.endswith("}")]
    return json.loads(whole[-1])["step"] if whole else 0


def steps_saved(workdir: Path) -> int:
    return max((int(p.name) for p in workdir.glob("checkpoints/*") if p.name.isdigit()), default=0)


def digest(workdir: Path) -> str:
    from jvlm import checkpoint, pretrained

    return checkpoint.content_hash(pretrained.load(workdir, step="latest").params)


if __name__ == "__main__":
    main()
