# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Devices of a machine that is not there, for the compiler: `v5e:8x8`, `cpu:8`, `gpu:h100:8`."""

import contextlib
import importlib.util
import math
import os
import re
from typing import NamedTuple

import jax
from jax.experimental import topologies

from jvlm import chips
from jvlm.errors import UserError, did_you_mean

FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
CUBIC = ("2x2x1", "2x2x2", "2x2x4", "2x4x4")
# Generation -> most chips of a slice (the pages named in jvlm/chips.py). v5e and v6e come as FLAT;
# the others as CUBIC, or as whole cubes of 4x4x4.
LARGEST = {"v4": 4096, "v5e": 256, "v5p": 6144, "v6e": 256, "tpu7x": 9216}
EXAMPLES = "v5e:8x8, 2xv5e:8x8 (two slices), cpu:8 or gpu:h100:8"


class Topology(NamedTuple):
    """Attributes:
    name: as asked for.
    chip: what each device is; None for a CPU.
    devices: to make a mesh of. Nothing runs on those that are not there.
    exact: they compile as the machine itself would; else they are CPUs that stand in for GPUs.
    """

    name: str
    chip: chips.Chip | None
    devices: list[jax.Device]
    exact: bool


def get_topology(name: str) -> Topology:
    """Finds the devices. To be called before anything that starts JAX.

    Args:
      name: `GENERATION:SLICE` (`v5p:4x4x8`), `COUNTxGENERATION:SLICE` for several slices,
        `cpu:COUNT`, or `gpu:CHIP:COUNT`.

    Raises:
      UserError: there is no such machine, by what there is; libtpu is not installed.
    """
    if found := re.fullmatch(r"cpu:([1-9]\d*)", name):
        return Topology(name, None, _cpus(name, int(found[1])), True)
    if found := re.fullmatch(r"gpu:([\w-]+):([1-9]\d*)", name):
        return _gpus(name, found[1], int(found[2]))
    if found := re.fullmatch(r"(?:([1-9]\d*)x)?((?:v|tpu)\w+):([\dx]+)", name):
        return _tpus(name, int(found[1] or 1), found[2], found[3])
    raise UserError(f"--topology {name!r}: give a slice or a machine, such as {EXAMPLES}")


def _cpus(name: str, count: int, platforms: str = "cpu") -> list[jax.Device]:
    """Fake CPU devices. They can only be asked for before JAX has started."""
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", count)
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = re.sub(r"--xla_force_host_platform_device_count=\d+", "", flags)
        jax.config.update("jax_platforms", platforms)  # What else there is, is not to be taken.
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise UserError(
            f"--topology {name}: JAX has started with {len(devices)} CPU devices: plan in a "
            "process of its own"
        )
    return devices[:count]


def _gpus(name: str, wanted: str, count: int) -> Topology:
    """The machine's own GPUs where they are those; CPUs for them where not."""
    cards = [chip for chip in chips.CHIPS if chip.name not in LARGEST]
    chip = next((chip for chip in cards if chip.name == wanted), None)
    if chip is None:
        hint = did_you_mean(wanted, [chip.name for chip in cards])
        raise UserError(f"--topology {name}: GPU {wanted!r} is unknown.{hint}")
    has_card = os.path.exists("/dev/nvidiactl")
    stand_ins = _cpus(name, count, platforms="cuda,cpu" if has_card else "cpu")
    own = [device for device in jax.devices() if device.device_kind in chip.kinds]
    exact = len(own) >= count
    return Topology(name, chip, own[:count] if exact else stand_ins, exact)


def _tpus(name: str, slices: int, generation: str, shape: str) -> Topology:
    if generation not in LARGEST:
        hint = did_you_mean(generation, LARGEST)
        raise UserError(f"--topology {name}: TPU {generation!r} is unknown.{hint}")
    sizes = [int(size) for size in shape.split("x") if size]
    cubes = generation not in ("v5e", "v6e")
    listed = CUBIC if cubes else FLAT
    is_cube = len(sizes) == 3 and all(size and size % 4 == 0 for size in sizes)
    is_cube &= sizes == sorted(sizes) and math.prod(sizes) <= LARGEST[generation]
    if shape not in listed and not (cubes and is_cube):
        more = f", and AxBxC of multiples of 4, A <= B <= C, up to {LARGEST[generation]:,} chips"
        raise UserError(
            f"--topology {name}: there is no such slice; {generation} has {', '.join(listed)}"
            f"{more if cubes else ''}"
        )
    if importlib.util.find_spec("libtpu") is None and "TPU_LIBRARY_PATH" not in os.environ:
        raise UserError(f"--topology {name} needs the TPU compiler: pip install 'jvlm[plan]'")
    # libtpu then neither looks for a TPU nor minds another process that has loaded it, and keeps no
    # log. Any known type will do: the slice is the one asked for.
    settings = dict(
        TPU_SKIP_MDS_QUERY="1",
        ALLOW_MULTIPLE_LIBTPU_LOAD="1",
        TPU_ACCELERATOR_TYPE="v5litepod-16",
        TPU_WORKER_HOSTNAMES="localhost",
        TPU_LOG_DIR="disabled",
        TPU_MIN_LOG_LEVEL="3",
    )
    for key, value in settings.items():
        os.environ.setdefault(key, value)
    _cpus(name, 1)
    # A torus closes along sides of 16 (v5e, v6e), or on whole cubes.
    options = {"wrap": [is_cube if cubes else size == 16 for size in sizes]}
    options["wrap"] += [False] * (3 - len(sizes))
    if shape == "1x1":  # The smallest machine has one chip, the others four or more.
        options["chips_per_host_bounds"] = [1, 1, 1]
    if generation == "v4":  # Both cores of a chip as one device, as JAX has them on the machine.
        options["chip_config_name"] = "megacore"
    if slices > 1:
        options["num_slices"] = slices
    found = topologies.get_topology_desc(f"{generation}:{shape}", "tpu", **options)
    chip = next(chip for chip in chips.CHIPS if chip.name == generation)
    return Topology(name, chip, list(found.devices), True)
