# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm train --profile=10:13`: a trace of a few steps, host and devices."""

from pathlib import Path
from typing import Any

import jax

from jvlm.errors import UserError


def parse_span(text: str) -> tuple[int, int]:
    """'10:13' -> (10, 13), as Python's slices: three steps, counted from 0."""
    start, colon, stop = text.partition(":")
    if not (colon and start.isdigit() and stop.isdigit() and int(start) < int(stop)):
        raise UserError(f"--profile={text}: give two steps, such as --profile=10:13")
    return int(start), int(stop)


class Trace:
    """Traces steps `start` to `stop` of a run.

    Args:
      span: (start, stop), or None for no trace.
      folder: gets one trace a process, under plugins/profile/<time>.
      first, steps: where the run goes on, and its length.
    """

    def __init__(self, span: tuple[int, int] | None, folder: Path, first: int, steps: int):
        if span and not first <= span[0] < span[1] <= steps:
            raise UserError(
                f"--profile={span[0]}:{span[1]}: the run does steps {first} to {steps} now"
            )
        self._start, self._stop = span or (-1, -1)
        self._folder, self._runs = folder, False

    def before(self, step: int) -> None:
        if step == self._start:
            jax.profiler.start_trace(str(self._folder))
            self._runs = True

    def after(self, done: int, result: Any) -> None:
        if self._runs and done == self._stop:
            jax.block_until_ready(result)  # The devices may be behind.
            self.close()

    def close(self) -> None:
        """Ends the trace of a run that ends before its last step."""
        if self._runs:
            self._runs = False
            jax.profiler.stop_trace()
