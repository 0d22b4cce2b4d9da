# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""launch/gke.py: the manifest, the slices that there are, and what is applied."""

import importlib.util
import json

import pytest

from tests.launch.conftest import ROOT

spec = importlib.util.spec_from_file_location("gke", ROOT / "launch/gke.py")
gke = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gke)

SCRIPT = "gke.py"
OPTIONS = ("--topology=v5e:4x4", "--image=repo/jvlm:1", "--volume=pvc:claim")
RUN = ("clip/digits", "--workdir=/shared/w", "--config.x=a 'b'")


def written(stage, *options):
    """The manifest for these options, and what there is of it to look at first."""
    args = ("clip", "--out=m.json", *OPTIONS, *options, *RUN)
    assert stage.run(SCRIPT, *args).returncode == 0 and not stage.calls("kubectl")
    manifest = json.loads((stage.folder / "m.json").read_text())
    (replicated,) = manifest["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    return manifest, replicated, job, job["template"]["spec"]


def test_applies_what_the_dry_run_shows(stage):
    args = ("clip", *OPTIONS, *RUN)
    shown = stage.run(SCRIPT, "--dry-run", *args).stdout
    assert not stage.calls("kubectl")
    command, manifest = shown.split(" <<'EOF'\n")
    done = stage.run(SCRIPT, *args)
    assert done.returncode == 0, done.stderr
    (call,) = stage.calls("kubectl")
    assert ["kubectl", *call["args"]] == command.split()
    assert call["stdin"] + "\nEOF\n" == manifest
    assert "kubectl delete jobset clip" in done.stdout


def test_failed_kubectl_is_reported(stage):
    stage.play({"kubectl": [{"status": 1}]})
    assert stage.run(SCRIPT, "clip", *OPTIONS, *RUN).returncode == 1


def test_hosts_and_chips(stage):
    manifest, replicated, job, pod = written(stage, "--slices=2", "--env=TFDS_DATA_DIR=/shared/d")
    (container,) = pod["containers"]
    assert replicated["replicas"] == 2
    assert job["parallelism"] == job["completions"] == 4
    assert job["completionMode"] == "Indexed"
    assert container["resources"] == {"limits": {"google.com/tpu": 4}}
    assert container["command"] == ["jvlm", "train", "--config=clip/digits", *RUN[1:]]
    assert {item["name"]: item["value"] for item in container["env"]} == {
        "TFDS_DATA_DIR": "/shared/d",
        "JVLM_DISTRIBUTED": "auto",
        "JVLM_NUM_PROCESSES": "8",
    }
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x4",
    }
    mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
    assert mounts == {"shared": "/shared", "shm": "/dev/shm"}
    assert "exclusive-topology" in str(manifest["metadata"]["annotations"])


def test_restarts_on_75_and_on_disruption_only(stage):
    manifest, _, job, pod = written(stage, "--max-restarts=7", "--grace=60")
    preempted, disrupted, lost = job["podFailurePolicy"]["rules"]
    name = pod["containers"][0]["name"]
    codes = {"containerName": name, "operator": "In"}
    assert preempted == {"action": "FailJob", "onExitCodes": codes | {"values": [75]}}
    condition = {"type": "DisruptionTarget", "status": "True"}
    assert disrupted == {"action": "FailJob", "onPodConditions": [condition]}
    assert lost == {"action": "Ignore", "onExitCodes": codes | {"values": [69]}}
    assert job["backoffLimit"] == 0 and pod["restartPolicy"] == "Never"
    policy = manifest["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 7
    restart, fail = policy["rules"]
    assert restart["action"] == "RestartJobSet"
    assert restart["onJobFailureReasons"] == ["PodFailurePolicy"]
    assert fail["action"] == "FailJobSet" and "onJobFailureReasons" not in fail
    assert pod["terminationGracePeriodSeconds"] == 60


def test_bucket_and_spot_nodes(stage):
    options = ("--volume=gcs:bucket", "--spot", "--service-account=writer", "--topology=v5e:2x2")
    manifest, _, job, pod = written(stage, *options)
    assert pod["volumes"][0]["csi"]["volumeAttributes"]["bucketName"] == "bucket"
    assert job["template"]["metadata"]["annotations"] == {"gke-gcsfuse/volumes": "true"}
    assert pod["serviceAccountName"] == "writer"
    assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert pod["containers"][0]["env"] == []  # One host: nothing to join.
    assert "annotations" not in manifest["metadata"]


@pytest.mark.parametrize(
    ("text", "hosts", "chips"),
    [
        ("v5e:1x1", 1, 1),
        ("v5e:2x4", 1, 8),
        ("v6e:16x16", 64, 4),
        ("v4:2x2x1", 1, 4),
        ("v5p:2x2x2", 2, 4),
        ("v5p:4x4x8", 32, 4),
        ("v5p:16x16x24", 1536, 4),
    ],
)
def test_topologies(text, hosts, chips):
    tpu = gke.parse_topology(text)
    assert (tpu.hosts, tpu.chips) == (hosts, chips)


@pytest.mark.parametrize(
    "text", ["v5e", "v5e:4x5", "v5p:8x4x4", "v5p:2x4", "v4:32x32x32", "h100:8"]
)
def test_topologies_that_there_are_not(stage, text):
    stage.refuses(SCRIPT, "clip", *OPTIONS, f"--topology={text}", *RUN, says=repr(text))


def test_bad_arguments(stage):
    stage.refuses(SCRIPT, "Clip", *OPTIONS, *RUN, says="'Clip'")
    stage.refuses(SCRIPT, "clip", *OPTIONS, "--spto", *RUN, says="")
    stage.refuses(
        SCRIPT, "clip", *OPTIONS, "clip/digits", "--workdir=/w", says="--workdir=/shared/"
    )
    stage.refuses(SCRIPT, "clip", *OPTIONS, "--volume=nfs", *RUN, says="'nfs'")
    stage.refuses(SCRIPT, "clip", *OPTIONS, "--env=A", *RUN, says="'A'")
    stage.refuses(SCRIPT, "clip", *OPTIONS, *RUN, "--dry-run", says="comes after CONFIG")
    one = ("--topology=v5e:2x2", "--slices=2")
    stage.refuses(SCRIPT, "clip", *OPTIONS, *one, *RUN, says="several hosts")
