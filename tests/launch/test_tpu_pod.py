# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""launch/tpu_pod.sh against a gcloud that plays the states of a queued resource."""

import os
import time

import pytest

SCRIPT = "tpu_pod.sh"
OPTIONS = ("--type=v5litepod-16", "--zone=us-west4-a", "--poll=0")
RUN = ("clip/digits", "--workdir=/shared/w", "--config.x=a 'b'")
FAILING = {"err": "ERROR: the network is down", "status": 1}
ABSENT = {"err": "ERROR: NOT_FOUND: Resource 'clip' was not found", "status": 1}


def state(*names):
    return [ABSENT if name is None else {"out": name} for name in names]


def hosts(*answers):
    """What four hosts say; an answer is of all of them."""
    return [{"out": "\n".join(f"jvlm-host h{i} {a}" for i in range(4))} for a in answers]


def verbs(stage):
    """The calls in short: the action, and for ssh which of ours."""
    short = []
    for _, _, _, _, action, *words in stage.words("gcloud"):
        (command,) = [w for w in words if w.startswith("--command=")] or [""]
        ours = [v for v in ("install", "start", "status", "stop", "jvlm_run/log") if v in command]
        short.append(ours[0] if ours else "unpack" if "tar" in command else action)
    return short


CREATED = ["describe", "create", "describe"]
STARTED = ["scp", "unpack", "install", "start"]
ENDED = ["jvlm_run/log", "delete"]


def test_train_does_what_the_dry_run_shows(stage):
    options = (*OPTIONS, "--slices=2", "--spot", "--project=p", "--setup=mount /shared")
    options += ("--env=TFDS_DATA_DIR=/shared/my data", "--out=log")
    stage.play({"describe": state(None, "ACTIVE"), "status": hosts("ended 0")})
    shown = stage.shows(SCRIPT, "train", "clip", "--dry-run", *options, *RUN)
    done = stage.run(SCRIPT, "train", "clip", *options, *RUN)
    assert done.returncode == 0, done.stderr
    assert stage.words("gcloud") == shown
    look = ["describe", "status"]
    assert verbs(stage) == CREATED + STARTED + look + ENDED
    assert {"--node-count=2", "--node-prefix=clip", "--spot"} <= set(shown[1])
    assert "--runtime-version=v2-alpha-tpuv5-lite" in shown[1]
    start = "start JVLM_DISTRIBUTED=auto JVLM_NUM_PROCESSES=8 'TFDS_DATA_DIR=/shared/my data' jvlm "
    assert start in shown[6][-1]
    assert all({"--zone=us-west4-a", "--project=p"} <= set(words) for words in shown)


@pytest.mark.parametrize("verb", ["create", "copy", "install", "status", "stop", "delete", "logs"])
def test_each_verb_does_what_the_dry_run_shows(stage, verb):
    stage.play({"describe": state(None, "ACTIVE") if verb == "create" else state("ACTIVE")})
    args = (verb, "clip", *OPTIONS)
    shown = stage.shows(SCRIPT, *args, "--dry-run")
    assert stage.run(SCRIPT, *args).returncode == 0
    assert stage.words("gcloud") == shown


def test_preempted_slices_are_requested_again(stage):
    states = (None, "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE", "ACTIVE", "SUSPENDING")
    states += ("SUSPENDING", "SUSPENDED", "ACTIVE")
    looks = state(*states)
    looks[2:2] = looks[6:6] = [FAILING]  # For a moment, while waiting and while following.
    stage.play({"describe": looks, "status": hosts("running", "ended 0")})
    done = stage.run(SCRIPT, "train", "clip", *OPTIONS, *RUN)
    assert done.returncode == 0, done.stderr
    calls = [v for v in verbs(stage) if v not in ("describe", "status")]
    assert calls == ["create", *STARTED, "delete", "create", *STARTED, *ENDED]


@pytest.mark.parametrize("ended", ["ended 75", "gone"])
def test_75_starts_again_on_the_same_slices(stage, ended):
    """So does a host that was restarted under the run."""
    stage.play({"describe": state(None, "ACTIVE"), "status": hosts(ended, "running", "ended 0")})
    done = stage.run(SCRIPT, "train", "clip", *OPTIONS, *RUN)
    assert done.returncode == 0, done.stderr
    calls = [v for v in verbs(stage) if v not in ("describe", "status")]
    assert calls == ["create", *STARTED, *STARTED, *ENDED]


@pytest.mark.parametrize("status", [1, 2, 69, 134])
def test_nothing_but_75_starts_again(stage, status):
    stage.play({"describe": state(None, "ACTIVE"), "status": hosts(f"ended {status}")})
    done = stage.run(SCRIPT, "train", "clip", *OPTIONS, *RUN)
    assert done.returncode == status
    calls = [v for v in verbs(stage) if v not in ("describe", "status")]
    assert calls == ["create", *STARTED, *ENDED]


def test_a_crash_counts_more_than_the_loss_of_a_peer(stage):
    lines = ["jvlm-host a ended 69", "jvlm-host b ended 1", "jvlm-host c ended 69"]
    stage.play({"describe": state(None, "ACTIVE"), "status": [{"out": "\n".join(lines)}]})
    assert stage.run(SCRIPT, "train", "clip", *OPTIONS, *RUN).returncode == 1


def test_slices_that_go_after_69_are_requested_again(stage):
    """The hosts notice the loss of one before the queued resource shows it."""
    states = (None, "ACTIVE", "ACTIVE", "SUSPENDED", "SUSPENDED", "ACTIVE")
    stage.play({"describe": state(*states), "status": hosts("ended 69", "ended 0")})
    done = stage.run(SCRIPT, "train", "clip", *OPTIONS, *RUN)
    assert done.returncode == 0, done.stderr
    assert verbs(stage).count("create") == 2


def test_a_second_call_follows_the_run_of_the_first(stage):
    stage.play({"describe": state("ACTIVE"), "status": hosts("running", "running", "ended 0")})
    assert stage.run(SCRIPT, "train", "clip", *OPTIONS, "--keep", *RUN).returncode == 0
    assert not {"create", "start", "delete"} & set(verbs(stage))


def test_a_request_that_fails_is_not_repeated(stage):
    stage.play({"describe": state(None, "FAILED")})
    done = stage.run(SCRIPT, "train", "clip", *OPTIONS, *RUN)
    assert done.returncode == 2 and verbs(stage).count("create") == 1


def test_slices_that_someone_deletes_are_not_requested_again(stage):
    stage.play({"describe": state(None, "ACTIVE", "DELETING"), "status": hosts("running")})
    done = stage.run(SCRIPT, "train", "clip", *OPTIONS, *RUN)
    assert done.returncode == 2 and verbs(stage).count("create") == 1


def test_gcloud_that_fails_from_the_start(stage):
    stage.play({"describe": [FAILING]})
    done = stage.run(SCRIPT, "create", "clip", *OPTIONS)
    assert done.returncode == 2 and "the network is down" in done.stderr
    assert verbs(stage) == ["describe"]


def test_hosts_that_cannot_be_set_up_stop_it(stage):
    stage.play({"describe": state(None, "ACTIVE"), "install": [{"status": 1}]})
    done = stage.run(SCRIPT, "train", "clip", *OPTIONS, *RUN)
    assert done.returncode == 2 and "could not be set up" in done.stderr
    assert "start" not in verbs(stage)
    assert "the slices stay" in done.stderr


def test_bad_arguments(stage):
    train = ("train", "clip", "--zone=z")
    stage.refuses(SCRIPT, "trian", "clip", says="unknown verb 'trian'")
    stage.refuses(SCRIPT, "delete", says="name ''")
    stage.refuses(SCRIPT, *train, *RUN, says="--type=''")
    stage.refuses(SCRIPT, *train, "--type=v5litepod-7", *RUN, says="--type=v5litepod-7")
    stage.refuses(SCRIPT, *train, "--type=v5p-1x8", *RUN, says="--type=v5p-1x8")
    stage.refuses(SCRIPT, *train, "--type=v9-8", *RUN, says="--type='v9-8'")
    stage.refuses(SCRIPT, *train, *OPTIONS, says="needs a CONFIG")
    stage.refuses(SCRIPT, *train, *OPTIONS, "clip/digits", "--workdir=w", says="--workdir=/")
    stage.refuses(SCRIPT, *train, *OPTIONS, "--sopt", *RUN, says="unknown option --sopt")
    stage.refuses(SCRIPT, "delete", "clip", "more", says="no argument more")


@pytest.mark.parametrize(
    ("type_", "count"),
    [("v5litepod-8", 1), ("v5litepod-256", 64), ("v6e-16", 4), ("v5p-8", 1), ("v4-64", 8)],
)
def test_hosts_of_a_type(stage, type_, count):
    (shown,) = stage.shows(SCRIPT, "run", "clip", f"--type={type_}", "--dry-run", *RUN)
    assert (f"JVLM_NUM_PROCESSES={count} " in shown[-1]) == (count > 1)


def test_on_a_host(stage):
    """The commands as the host runs them: copied, started detached, asked, stopped, collected."""
    execute = [{"execute": True}]
    stage.play(
        dict.fromkeys((" scp ", "tar -xzf", "worker.sh st", "jvlm_run/log"), execute)
        | {"jvlm": [{"out": "step 1", "sleep": 60, "on_term": 75}]}
    )
    run = ("run", "clip", "--type=v5p-8", "--env=TFDS_DATA_DIR=/my data", *RUN)

    def says(verb, text):
        end = time.monotonic() + 20
        while text not in stage.run(SCRIPT, verb, "clip").stdout:
            assert time.monotonic() < end
            time.sleep(0.1)

    (stage.folder / "home/jvlm/.venv").mkdir(parents=True)
    (stage.folder / "home/jvlm/left_over.py").touch()
    assert stage.run(SCRIPT, "copy", "clip").returncode == 0
    assert (stage.folder / "home/jvlm/.venv").exists()
    assert not (stage.folder / "home/jvlm/left_over.py").exists()
    says("status", f"jvlm-host {os.uname().nodename} gone")
    assert stage.run(SCRIPT, *run).returncode == 0
    says("status", "running")
    while not (stage.folder / "ready_jvlm").exists():
        time.sleep(0.05)
    assert stage.run(SCRIPT, *run).returncode == 2  # One run at a time.
    (call,) = stage.calls("jvlm")
    assert call["args"] == ["train", "--config=clip/digits", *RUN[1:]]
    assert call["env"]["TFDS_DATA_DIR"] == "/my data"
    assert stage.run(SCRIPT, "stop", "clip").returncode == 0
    says("status", "ended 75")
    stage.run(SCRIPT, "logs", "clip", "--out=all.log")
    assert f"{os.uname().nodename}: step 1" in (stage.folder / "all.log").read_text()
