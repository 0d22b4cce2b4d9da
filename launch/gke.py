# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Trains on TPU slices of a GKE cluster: writes a JobSet and applies it with kubectl.

python launch/gke.py NAME --topology=v5e:8x8 --image=IMAGE --volume=pvc:CLAIM [options] \
    CONFIG --workdir=/shared/runs/b32 [jvlm train arguments]

What the cluster must have: a node pool of this type and topology for each slice, the JobSet
controller (https://jobset.sigs.k8s.io), an image with jvlm[tpu] (launch/Dockerfile) and a volume
that every host mounts: a ReadWriteMany claim such as Filestore's (pvc:CLAIM), or a bucket through
the Cloud Storage FUSE driver (gcs:BUCKET, with a --service-account that may write). The bucket
needs a hierarchical namespace: a checkpoint is completed by renaming its folder.

A run that was preempted and saved (exit status 75), or whose pods were evicted, starts again; any
other failure ends it. Needs nothing but Python.
"""

import argparse
import json
import math
import pathlib
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

PREEMPTED, PEER_LOST = 75, 69  # Exit statuses of `jvlm train`.


class Chip(NamedTuple):
    """A TPU generation as GKE offers it.

    Attributes:
      accelerator: value of the node label cloud.google.com/gke-tpu-accelerator.
      single_host: topologies that are one host.
      max_chips: of the largest slice.
    """

    accelerator: str
    single_host: tuple[str, ...]
    max_chips: int


# Hosts of larger slices have four chips each.
# https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus
CHIPS = {
    "v4": Chip("tpu-v4-podslice", ("2x2x1",), 4096),
    "v5e": Chip("tpu-v5-lite-podslice", ("1x1", "2x2", "2x4"), 256),
    "v5p": Chip("tpu-v5p-slice", ("2x2x1",), 6144),
    "v6e": Chip("tpu-v6e-slice", ("1x1", "2x2", "2x4"), 256),
}
FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
SMALL_CUBOIDS = ("2x2x1", "2x2x2", "2x2x4", "2x4x4")


class Slice(NamedTuple):
    """`hosts` nodes with `chips` chips each, as the two node labels select them."""

    accelerator: str
    topology: str
    hosts: int
    chips: int


def parse_topology(text: str) -> Slice:
    """'v5e:4x4' -> the slice.

    Raises:
      ValueError: one line; unknown generation, or a shape that GKE does not offer.
    """
    name, _, topology = text.partition(":")
    if name not in CHIPS:
        raise ValueError(f"{text!r}: known are {', '.join(f'{c}:...' for c in CHIPS)}")
    chip = CHIPS[name]
    sides = (
        [int(side) for side in topology.split("x")] if re.fullmatch(r"\d+(x\d+)+", topology) else []
    )
    count = math.prod(sides)
    if "2x2" in chip.single_host:
        known = topology in FLAT
        hint = ", ".join(FLAT)
    else:
        cube = len(sides) == 3 and sides == sorted(sides) and all(s and s % 4 == 0 for s in sides)
        known = (cube and count <= chip.max_chips) or topology in SMALL_CUBOIDS
        hint = f"{', '.join(SMALL_CUBOIDS)}, or AxBxC in multiples of 4, A <= B <= C, up to "
        hint += f"{chip.max_chips} chips"
    if not known:
        raise ValueError(f"{text!r}: {name} slices are {hint}")
    hosts = 1 if topology in chip.single_host else count // 4
    return Slice(chip.accelerator, topology, hosts, count // hosts)


def jobset(
    name: str,
    tpu: Slice,
    command: Sequence[str],
    *,
    image: str,
    volume: str,
    mount: str = "/shared",
    slices: int = 1,
    env: Sequence[str] = (),
    namespace: str = "default",
    service_account: str | None = None,
    spot: bool = False,
    grace: int = 120,
    max_restarts: int = 100,
) -> dict[str, Any]:
    """The JobSet manifest of one run: a Job for each slice, a pod for each host.

    Args:
      name: of the JobSet; its pods and their DNS names begin with it.
      tpu: what each slice is.
      command: what every host runs.
      image: container image with jvlm[tpu].
      volume: pvc:CLAIM or gcs:BUCKET.
      mount: where the volume is.
      slices: that train together.
      env: KEY=VALUE, ...
      namespace: of the JobSet.
      service_account: of the pods.
      spot: whether on spot nodes.
      grace: seconds from SIGTERM to SIGKILL. Spot nodes give about 25 whatever is asked.
      max_restarts: bound on the restarts after preemptions.
    """
    variables = dict(item.split("=", 1) for item in env)
    processes = tpu.hosts * slices
    if processes > 1:  # GKE tells each pod its slice, its number and its peers.
        variables |= {"JVLM_DISTRIBUTED": "auto", "JVLM_NUM_PROCESSES": str(processes)}
    kind, _, source = volume.partition(":")
    if kind == "pvc":
        shared = {"persistentVolumeClaim": {"claimName": source}}
    else:
        attributes = {"bucketName": source, "mountOptions": "implicit-dirs"}
        shared = {"csi": {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": attributes}}
    container = {
        "name": "jvlm",
        "image": image,
        "command": list(command),
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "resources": {"limits": {"google.com/tpu": tpu.chips}},
        "volumeMounts": [
            {"name": "shared", "mountPath": mount},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }
    labels = {
        "cloud.google.com/gke-tpu-accelerator": tpu.accelerator,
        "cloud.google.com/gke-tpu-topology": tpu.topology,
    }
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": grace,
        "nodeSelector": labels | ({"cloud.google.com/gke-spot": "true"} if spot else {}),
        "containers": [container],
        "volumes": [
            {"name": "shared", **shared},
            # Input workers hand over batches in shared memory, of which a container has 64 MB.
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
        ],
    }
    if service_account:
        pod["serviceAccountName"] = service_account
    template: dict[str, Any] = {"spec": pod}
    if kind == "gcs":
        template["metadata"] = {"annotations": {"gke-gcsfuse/volumes": "true"}}

    def on_exit(action: str, status: int) -> dict[str, Any]:
        codes = {"containerName": "jvlm", "operator": "In", "values": [status]}
        return {"action": action, "onExitCodes": codes}

    job = {
        "completionMode": "Indexed",
        "parallelism": tpu.hosts,
        "completions": tpu.hosts,
        "backoffLimit": 0,
        "podFailurePolicy": {
            # FailJob ends the Job with the reason PodFailurePolicy, on which the JobSet restarts
            # all of them; a failure that no rule takes ends it with BackoffLimitExceeded.
            "rules": [
                on_exit("FailJob", PREEMPTED),
                {
                    "action": "FailJob",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                },
                # Another pod was lost: how that one ended decides.
                on_exit("Ignore", PEER_LOST),
            ]
        },
        "template": template,
    }
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if tpu.hosts > 1:  # The pods of a Job on one slice, each slice to one Job.
        topology = "alpha.jobset.sigs.k8s.io/exclusive-topology"
        metadata["annotations"] = {topology: "cloud.google.com/gke-nodepool"}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "network": {"enableDNSHostnames": True},
            "failurePolicy": {
                "maxRestarts": max_restarts,
                "rules": [
                    {
                        "name": "restartPreempted",
                        "action": "RestartJobSet",
                        "onJobFailureReasons": ["PodFailurePolicy"],
                    },
                    {"name": "failOtherwise", "action": "FailJobSet"},
                ],
            },
            "replicatedJobs": [
                {"name": "slice", "replicas": slices, "template": {"spec": job}},
            ],
        },
    }


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        print(f"gke.py: {message}; see --help", file=sys.stderr)
        sys.exit(2)


def _checked(pattern: str, what: str):
    """An argparse type: text that matches the pattern."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"{text!r}: {what}")
        return text

    return check


def _topology(text: str) -> Slice:
    try:
        return parse_topology(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]*", text):
        raise argparse.ArgumentTypeError(f"{text!r}: needs a positive number")
    return int(text)


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="gke.py",
        usage="python launch/gke.py NAME [options] CONFIG --workdir=DIR [jvlm train arguments]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    name = _checked("[a-z]([-a-z0-9]{0,38}[a-z0-9])?", "small letters, digits and dashes")
    add("name", metavar="NAME", type=name, help="of the run in the cluster")
    add("--topology", type=_topology, required=True, help="of a slice: v5e:4x4, v5p:4x4x8, ...")
    add("--slices", type=_positive, default=1, help="slices that train together (default 1)")
    add("--image", required=True, help="container image with jvlm[tpu]")
    volume = _checked("(pvc|gcs):.+", "pvc:CLAIM or gcs:BUCKET")
    add("--volume", type=volume, required=True, help="pvc:CLAIM or gcs:BUCKET")
    add("--mount", default="/shared", help="where the volume is mounted (default /shared)")
    variable = _checked(r"[A-Za-z_]\w*=.*", "needs KEY=VALUE")
    add("--env", type=variable, action="append", default=[], help="KEY=VALUE; may be repeated")
    add("--namespace", default="default")
    add("--service-account", help="of the pods; for gcs: one that may write to it")
    add("--spot", action="store_true", help="spot nodes")
    add("--grace", type=_positive, default=120, help="seconds from SIGTERM to SIGKILL (120)")
    add("--max-restarts", type=_positive, default=100, help="after preemptions (default 100)")
    add("--out", metavar="FILE.json", help="write the manifest there and apply nothing")
    add("--dry-run", action="store_true", help="only show the command, with the manifest")
    add("config", metavar="CONFIG", help="config file in the image, or a name below configs/")
    add("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser()
    args = parser.parse_args(argv)
    for item in args.arguments:
        if item.split("=")[0] in parser._option_string_actions:
            parser.error(f"{item} comes after CONFIG, where options are those of jvlm train")
    below = f"--workdir={args.mount.rstrip('/')}/"
    if not any(item.startswith(below) for item in args.arguments):
        parser.error(f"needs {below}..., a folder on the volume that all hosts share")
    if args.slices > 1 and args.topology.hosts == 1:
        parser.error(f"--slices={args.slices}: GKE joins only slices of several hosts")
    manifest = jobset(
        args.name,
        args.topology,
        ["jvlm", "train", f"--config={args.config}", *args.arguments],
        image=args.image,
        volume=args.volume,
        mount=args.mount,
        slices=args.slices,
        env=args.env,
        namespace=args.namespace,
        service_account=args.service_account,
        spot=args.spot,
        grace=args.grace,
        max_restarts=args.max_restarts,
    )
    text = json.dumps(manifest, indent=2)
    command = ["kubectl", "apply", "--filename=-"]
    if args.dry_run:
        print(f"{' '.join(command)} <<'EOF'\n{text}\nEOF")
        return 0
    try:
        if args.out:
            pathlib.Path(args.out).write_text(text + "\n")
            return 0
        status = subprocess.run(command, input=text, text=True).returncode
    except OSError as error:
        parser.error(f"{error.filename}: {error.strerror}")
    if status == 0:
        pods = f"--namespace={args.namespace} --selector=jobset.sigs.k8s.io/jobset-name={args.name}"
        print(f"pods: kubectl get pods {pods}")
        print(f"log:  kubectl logs --follow job/{args.name}-slice-0 --namespace={args.namespace}")
        print(f"end:  kubectl delete jobset {args.name} --namespace={args.namespace}")
    return status


if __name__ == "__main__":
    sys.exit(main())
