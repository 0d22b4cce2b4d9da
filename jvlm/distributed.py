# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Several processes, one run: how they find each other, and how they end together."""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from jvlm import roll_call, versions
from jvlm.errors import Preempted, UserError

T = TypeVar("T")

_roll_call: roll_call.RollCall | None = None
_coordinator: Any = None  # On the first process; it ends when this is forgotten.


class Place(NamedTuple):
    """This process's place in a run.

    Attributes:
      host, port: of the coordinator.
      count: of processes.
      index: of this one.
      local_devices: which of the host's devices are its own; None is all.
    """

    host: str
    port: int
    count: int
    index: int
    local_devices: list[int] | None = None


def initialize(agree: Mapping[str, Any] | None = None) -> None:
    """Joins the other processes of the run, if the launcher says that there are any.

    Reads either JVLM_COORDINATOR (host:port; port + 1 is used too), JVLM_NUM_PROCESSES and
    JVLM_PROCESS_ID; or JVLM_DISTRIBUTED=auto, where JAX knows the cluster (TPU slices, GKE, Slurm),
    with JVLM_NUM_PROCESSES for the number that is expected. With neither, the process is alone,
    whatever else its environment says. The others are waited for JVLM_START_SECONDS (300).

    Before training starts all hosts are checked: all there, same versions, same devices, a first
    all-reduce in time. From then on a process that is lost ends the others within 30 s, with a line
    that names it and status 69.

    Args:
      agree: name -> value that must be the same in every process.

    Raises:
      UserError: hosts that differ, by name; wrong variables; a device was used before.
      PeerLost: hosts that are missing, by name.
    """
    global _roll_call, _coordinator
    if _roll_call is not None:
        check_equal(_roll_call.exchange("again", agree or {}, 300))
    if _roll_call is not None or jax.distributed.is_initialized():
        return
    place = _place(os.environ)
    if place is None:
        return
    seconds = _number("JVLM_START_SECONDS", os.environ.get("JVLM_START_SECONDS", 300))
    if place.index == 0:
        _coordinator = roll_call.start_coordinator(place.port, place.count)
    _roll_call = calls = roll_call.RollCall(place.host, place.port + 1, place.index, seconds)
    atexit.register(calls.close)
    here = {**(agree or {}), **versions.of_packages()}
    check_equal(calls.exchange("start", here, seconds))
    try:
        jax.distributed.initialize(
            f"{place.host}:{place.port}",
            place.count,
            place.index,
            place.local_devices,
            # All that is needed has been given; Slurm's own rule would hide devices.
            cluster_detection_method="deactivate",
            # The service that is used is the coordinator's; JAX starts one that nobody joins.
            coordinator_bind_address="localhost:0",
        )
    except RuntimeError as error:
        raise UserError(f"the processes of the run cannot join: {error}") from error
    calls.open("the devices", seconds)  # A back end may hang.
    devices = {"devices": jax.local_device_count(), "device kind": jax.devices()[0].device_kind}
    check_equal(calls.put("the devices", devices))
    calls.open("a first all-reduce", 120)
    _all_reduce()
    calls.put("a first all-reduce")


def first_host_first(make: Callable[[], T]) -> T:
    """Calls `make` on the first host, then on the others: for what is made once and then loaded."""
    if jax.process_count() == 1:
        return make()
    from jax.experimental import multihost_utils

    value = make() if jax.process_index() == 0 else None
    multihost_utils.sync_global_devices("first_host_first")
    return value if jax.process_index() == 0 else make()


def from_first(value: T) -> T:
    """The first process's value, JSON-ready: hosts may see a shared folder at different times."""
    return _roll_call.exchange("the first one's", value, 300)[0] if _roll_call else value


@contextlib.contextmanager
def joined(**agree: Any) -> Iterator[None]:
    """What all processes do together: `initialize`, and who fails tells the others why."""
    try:
        initialize(agree)
        yield
    except Preempted:  # They have agreed on it.
        raise
    except BaseException as error:
        line = (str(error) or type(error).__name__).splitlines()[0]
        is_runtime = isinstance(error, jax.errors.JaxRuntimeError)
        if _roll_call and is_runtime and "RESOURCE_EXHAUSTED" not in line:
            # Of a collective, it is the consequence of a lost process: the coordinator names that,
            # and `roll_call.leave` ends this one. After a while it is this one's own.
            time.sleep(roll_call.SILENCE + 5)
        if _roll_call:
            _roll_call.end(line)
        raise


def check_shared(workdir: Path) -> None:
    """Every process must see what the first one writes.

    Raises:
      UserError: names the processes that do not.
    """
    if not _roll_call:
        return
    token = _roll_call.exchange("token", uuid.uuid4().hex, 60)[0]
    probe = workdir / f".shared-{token}"
    if jax.process_index() == 0:
        probe.touch()
    _roll_call.exchange("probe", None, 60)
    # Listing the folder asks a network file system anew where a look-up may answer from its cache.
    seen = _roll_call.exchange("seen", probe.name in os.listdir(workdir), 60)
    if jax.process_index() == 0:
        probe.unlink()
    blind = [str(index) for index, sees in enumerate(seen) if not sees]
    if blind:
        raise UserError(
            f"--workdir {workdir}: process {', '.join(blind)} does not see what process 0 writes: "
            "give a folder that all hosts share"
        )


class Preemption:
    """Notice, by SIGTERM, that the machine is taken away. A context, which handles the signal."""

    def __init__(self):
        self._noticed = False
        self._handles = (
            jax.process_count() == 1 and threading.current_thread() is threading.main_thread()
        )

    def __enter__(self):
        if self._handles:
            self._before = signal.signal(signal.SIGTERM, self._notice)
        return self

    def __exit__(self, *_):
        if self._handles:
            signal.signal(signal.SIGTERM, self._before)

    def reached(self, step: int) -> bool:
        """Whether to save after this step and end: the same answer in every process.

        Several processes agree on a step that none has passed; every one has to ask at every step.
        """
        if jax.process_count() == 1:
            return self._noticed
        from jax.experimental import multihost_utils

        return multihost_utils.reached_preemption_sync_point(step)

    def _notice(self, number, frame):
        self._noticed = True


def check_equal(facts: list[Mapping[str, Any]]) -> None:
    """Raises UserError where a process has something else than process 0; names both values."""
    for index, theirs in enumerate(facts):
        for key, value in facts[0].items():
            if theirs.get(key) != value:
                raise UserError(
                    f"process {index} has {key} {theirs.get(key)}, process 0 has {value}: make "
                    "the hosts equal"
                )


def _place(environment: Mapping[str, str]) -> Place | None:
    """Decides, without touching a device, whether the process is alone."""
    coordinator = environment.get("JVLM_COORDINATOR")
    mode = environment.get("JVLM_DISTRIBUTED", "")
    if mode not in ("", "auto"):
        raise UserError(f"JVLM_DISTRIBUTED={mode}: set it to auto, or not at all")
    if coordinator:
        count, index = (
            _number(key, environment.get(key)) for key in ("JVLM_NUM_PROCESSES", "JVLM_PROCESS_ID")
        )
        host, _, port = coordinator.rpartition(":")
        place = Place(host, _number("the port of JVLM_COORDINATOR", port), count, index)
    elif mode == "auto":
        place = _detect()
        expected = environment.get("JVLM_NUM_PROCESSES")
        if expected and _number("JVLM_NUM_PROCESSES", expected) != place.count:
            raise UserError(
                f"{expected} processes were expected, the cluster has {place.count}: start the "
                "command on every host, or mend JVLM_NUM_PROCESSES"
            )
    else:
        hosts = [host for host in environment.get("TPU_WORKER_HOSTNAMES", "").split(",") if host]
        if len(hosts) > 1:
            print(
                f"jvlm: this host is one of {len(hosts)} (TPU_WORKER_HOSTNAMES), and goes on "
                "alone: JVLM_DISTRIBUTED=auto on every host joins them",
                file=sys.stderr,
            )
        return None
    if not 0 <= place.index < place.count:
        raise UserError(f"JVLM_PROCESS_ID is {place.index}: it counts from 0 to {place.count - 1}")
    return place if place.count > 1 else None


def _detect() -> Place:
    from jax._src.clusters import ClusterEnv

    found = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, 300)
    if None in found[:3]:
        raise UserError(
            "JVLM_DISTRIBUTED=auto: JAX knows no cluster here; set JVLM_COORDINATOR, "
            "JVLM_NUM_PROCESSES and JVLM_PROCESS_ID"
        )
    host, _, port = found[0].rpartition(":")
    return Place(host, int(port), *found[1:])


def _number(name: str, text: Any) -> int:
    try:
        return int(text)
    except (TypeError, ValueError):
        raise UserError(f"{name} is {text!r}: give a number") from None


def _all_reduce() -> None:
    """One number from every device, added up."""
    mesh = jax.make_mesh((jax.device_count(),), ("all",), (jax.sharding.AxisType.Auto,))
    rows = jax.NamedSharding(mesh, jax.P("all"))
    ones = np.ones(jax.device_count(), np.int32)
    ones = jax.make_array_from_callback(ones.shape, rows, ones.__getitem__)
    total = jax.jit(lambda x: x.sum(), out_shardings=jax.NamedSharding(mesh, jax.P()))(ones)
    if int(total) != jax.device_count():
        raise UserError(f"an all-reduce over {jax.device_count()} devices gave {int(total)}")
