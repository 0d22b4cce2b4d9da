# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""How well a run uses its devices: model FLOPs against their peak, and their memory."""

from collections.abc import Callable, Sequence

import jax

from jvlm import chips

GIB = 2**30


class Meter:
    """Measures a run's devices.

    Args:
      flops: gives the model FLOPs of a step over all devices (`flops.step_flops`). It traces the
        step, and is asked only where the devices' peak is known.
      devices: of the run; default all.
    """

    def __init__(self, flops: Callable[[], float], devices: Sequence[jax.Device] | None = None):
        self._devices = list(jax.devices() if devices is None else devices)
        self._local = [d for d in self._devices if d.process_index == jax.process_index()]
        self._chip = chips.find(self._devices[0].device_kind)
        self._flops = None
        self._why = f"jvlm/chips.py does not know the peak of {self._devices[0].device_kind!r}"
        if self._chip:
            try:
                self._flops = flops()
            except NotImplementedError as error:  # Not worth a run.
                self._why = str(error)

    def describe(self) -> str:
        """The line at a run's start."""
        kind = self._devices[0].device_kind
        name = f"{len(self._devices)} x {kind}"
        if jax.process_count() > 1:
            name += f" in {jax.process_count()} processes"
        if self._flops is None:
            return f"{name}: no MFU, {self._why}"
        peak = self._chip.peak_flops / 1e12
        # The rule in few words; `flops.step_flops` has all of it.
        return (
            f"{name}: {self._flops / 1e12:.2f} TFLOP a step (matmuls and convolutions, forward and "
            f"backward once, no rematerialisation, causal attention half); MFU of {peak:g} "
            "TFLOP/s each"
        )

    def read(self, seconds: float) -> dict[str, float]:
        """Metrics of steps that take `seconds` each: `mfu`, a share; memory in GiB a device.

        `device_memory_gib` is what is in use now, `device_memory_peak_gib` at most so far, both of
        this host's fullest device. What the back end does not tell is left out.
        """
        metrics = {}
        if self._flops:
            metrics["mfu"] = self._flops / seconds / len(self._devices) / self._chip.peak_flops
        stats = [device.memory_stats() or {} for device in self._local]
        for name, key in (
            ("device_memory_gib", "bytes_in_use"),
            ("device_memory_peak_gib", "peak_bytes_in_use"),
        ):
            if all(key in s for s in stats):
                metrics[name] = max(s[key] for s in stats) / GIB
        return metrics
