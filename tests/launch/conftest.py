# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for jvlm, gcloud, kubectl and Slurm that record their calls and play a part."""

import json
import os
import pathlib
import shlex
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
NAMES = ("jvlm", "gcloud", "kubectl", "sbatch", "scontrol", "scancel", "squeue", "srun")

# Every call is written down with its own environment. What it does is the answer of the first text
# of play.json that its words contain: one answer for each call, the last one from then on.
STUB = """
import json, os, pathlib, signal, subprocess, sys, time
folder = pathlib.Path(__file__).parent.parent
name, words = os.path.basename(sys.argv[0]), " ".join(sys.argv[1:])
process = os.environ.get("JVLM_PROCESS_ID", "")
log = folder / f"{name}{process}.jsonl"
calls = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
env = {k: v for k, v in os.environ.items() if k.startswith(("JVLM_", "JAX_", "XLA_", "TFDS_"))}
stdin = sys.stdin.read() if name == "kubectl" else ""
with log.open("a") as file:
    print(json.dumps({"args": sys.argv[1:], "env": env, "stdin": stdin}), file=file)
subject = f"{name}{process} {words}"
answer = {}
for match, answers in json.loads((folder / "play.json").read_text()).items():
    if match in subject:
        index = sum(match in f"{name}{process} {' '.join(call['args'])}" for call in calls)
        answer = answers[min(index, len(answers) - 1)]
        break
print(answer.get("out", ""), flush=True)
print(answer.get("err", ""), file=sys.stderr, flush=True)
if "on_term" in answer:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(answer["on_term"]))
(folder / f"ready_{name}{process}").touch()
if answer.get("execute"):
    home = folder / "home"
    if sys.argv[4] == "scp":
        (home / "jvlm.tar.gz").write_bytes(pathlib.Path(sys.argv[5]).read_bytes())
        sys.exit()
    command = next(w for w in sys.argv if w.startswith("--command=")).removeprefix("--command=")
    os.environ["HOME"] = str(home)
    sys.exit(subprocess.run(["bash", "-c", command], cwd=home).returncode)
if "exec" in answer:
    os.execvp(answer["exec"], [answer["exec"], *sys.argv[sys.argv.index(answer["exec"]) + 1 :]])
time.sleep(answer.get("sleep", 0))
sys.exit(answer.get("status", 0))
"""


class Stage:
    """A folder with the stand-ins in front of the PATH."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        (folder / "bin").mkdir()
        (folder / "home").mkdir()
        for name in NAMES:
            stub = folder / "bin" / name
            stub.write_text(f"#!{sys.executable} -SE\n{STUB}")
            stub.chmod(0o755)
        self.play({})
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("JVLM_", "XLA_"))}
        # `python` is this one.
        path = [folder / "bin", pathlib.Path(sys.executable).parent, os.environ["PATH"]]
        self.env |= {"PATH": os.pathsep.join(map(str, path)), "TMPDIR": str(folder)}

    def play(self, answers: dict[str, list[dict]]) -> None:
        (self.folder / "play.json").write_text(json.dumps(answers))

    def run(self, script: str, *args, **kwargs) -> subprocess.CompletedProcess:
        return self.start(script, *args, **kwargs).finish()

    def start(self, script: str, *args, env: dict | None = None) -> "Started":
        program = [sys.executable] if script.endswith(".py") else ["bash"]
        command = [*program, str(ROOT / "launch" / script), *map(str, args)]
        return Started(command, cwd=self.folder, env=self.env | (env or {}))

    def calls(self, name: str) -> list[dict]:
        log = self.folder / f"{name}.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def words(self, name: str) -> list[list[str]]:
        return [[name, *call["args"]] for call in self.calls(name)]

    def refuses(self, script: str, *args, says: str) -> None:
        """Bad input: one line that names it, exit status 2, and nothing is called."""
        done = self.run(script, *args)
        assert done.returncode == 2, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1 and says in done.stderr, done.stderr
        assert not list(self.folder.glob("*.jsonl"))

    def shows(self, script: str, *args) -> list[list[str]]:
        """The commands of a dry run, which must not call anything."""
        done = self.run(script, *args)
        assert done.returncode == 0 and not list(self.folder.glob("*.jsonl")), done.stderr
        lines = [line for line in done.stdout.splitlines() if line and line[0] != "#"]
        return [shlex.split(line) for line in lines]


class Started(subprocess.Popen):
    def __init__(self, command, **kwargs):
        super().__init__(
            # A shell starts background jobs with SIGINT ignored, and their children inherit it.
            ["env", "--default-signal=INT", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **kwargs,
        )

    def finish(self) -> subprocess.CompletedProcess:
        out, err = self.communicate(timeout=300)
        return subprocess.CompletedProcess(self.args, self.returncode, out, err)


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)
