# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""A trial on GKE: what `jvlm train` is to a worker, with the training in a JobSet of its own.

python -m jvlm.sweep.gke [options of launch/gke.py] --config=... --workdir=... --config.key=value

Applies the JobSet, or finds the one that is there, and waits for its end. On SIGTERM it deletes the
JobSet, whose pods then save, and exits with 75. The sweep itself runs wherever kubectl works and
the shared volume is mounted under the pods' path. `$JVLM_POLL_SECONDS` between two looks (10).
"""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jvlm
from jvlm.errors import UserError

MODULE = "jvlm.sweep.gke"
LAUNCHER = Path(jvlm.__file__).parents[1] / "launch" / "gke.py"


def trainer(options: Sequence[str]) -> list[str]:
    """The command to which a worker adds --config, --workdir and overrides."""
    return [sys.executable, "-m", MODULE, *options]


def launch(words: Sequence[str]) -> tuple[str, list[str]]:
    """Name of the JobSet and launch/gke.py's command, from the words of ours."""
    start = next(i for i, word in enumerate(words) if word.startswith("--config="))
    options, config, workdir, rest = words[:start], *words[start : start + 2], words[start + 2 :]
    folder = Path(workdir.removeprefix("--workdir="))
    # Sweeps of one name in two places must not meet.
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:6]
    sweep = re.sub("[^a-z0-9]+", "-", folder.parents[1].name.lower()).strip("-")[:20]
    name = "-".join(part for part in ("sweep", sweep, digest, folder.name) if part)
    config = config.removeprefix("--config=")
    return name, [sys.executable, str(LAUNCHER), name, *options, config, workdir, *rest]


def check(words: Sequence[str]) -> None:
    """Raises UserError for options that launch/gke.py does not take."""
    if not LAUNCHER.exists():
        raise UserError(f"--gke needs {LAUNCHER}: install jvlm from a checkout (pip install -e .)")
    # First of the options: what follows the config is the training's.
    done = subprocess.run(launch(["--dry-run", *words])[1], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"--gke: {done.stderr.strip()}")


def main(words: Sequence[str]) -> int:
    """Trains a trial; returns the exit status of `jvlm train`, or 1 where the JobSet failed."""
    name, command = launch(words)
    spaces = [word for word in words if word.startswith("--namespace=")]

    def kubectl(verb: str, *arguments: str) -> str | None:
        line = ["kubectl", verb, "jobset", name, *spaces, "--ignore-not-found", *arguments]
        done = subprocess.run(line, capture_output=True, text=True)
        if done.returncode and verb == "delete":
            print(done.stderr, file=sys.stderr)
        return None if done.returncode else done.stdout

    def look() -> str:
        """Completed, Failed, Gone; nothing while it runs, or where this look has failed."""
        found = kubectl("get", "--output=jsonpath={.kind}{.status.terminalState}")
        return "Gone" if found == "" else (found or "").removeprefix("JobSet")

    def on_terminate(*_):
        kubectl("delete")
        sys.exit(75)

    signal.signal(signal.SIGTERM, on_terminate)
    if look() == "Failed":  # Left by an earlier attempt, for its log.
        kubectl("delete")
    status = subprocess.run(command).returncode
    if status:
        return status
    while not (state := look()):
        time.sleep(float(os.environ.get("JVLM_POLL_SECONDS", 10)))
    if state == "Gone":
        print(f"jvlm: JobSet {name} has been deleted: --retry starts it again")
        return 1
    if state == "Failed":
        print(f"jvlm: JobSet {name} has failed: kubectl logs job/{name}-slice-0", *spaces)
        return 1
    kubectl("delete")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
