# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Several processes, one run."""

import os
from collections.abc import Callable
from typing import TypeVar

import jax

from jvlm.errors import UserError

T = TypeVar("T")


def initialize() -> None:
    """Joins the other processes of the run, if the launcher says that there are any.

    Reads JVLM_COORDINATOR (host:port), JVLM_NUM_PROCESSES and JVLM_PROCESS_ID. Must come before
    anything that touches a device.
    """
    coordinator = os.environ.get("JVLM_COORDINATOR")
    if not coordinator or jax.distributed.is_initialized():
        return
    try:
        count, index = (int(os.environ[f"JVLM_{key}"]) for key in ("NUM_PROCESSES", "PROCESS_ID"))
    except (KeyError, ValueError) as error:
        raise UserError(f"JVLM_COORDINATOR is set, but {error} is missing or no number") from None
    jax.distributed.initialize(coordinator, count, index)


def first_host_first(make: Callable[[], T]) -> T:
    """Calls `make` on the first host, then on the others: for what is made once and then loaded."""
    if jax.process_count() == 1:
        return make()
    from jax.experimental import multihost_utils

    value = make() if jax.process_index() == 0 else None
    multihost_utils.sync_global_devices("first_host_first")
    return value if jax.process_index() == 0 else make()
