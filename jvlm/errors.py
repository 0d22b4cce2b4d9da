# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What ends a run with one line: bad input, a preemption, a process of the run that was lost."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The message is one line: what is wrong, and what to do.

    The command line prints it without a traceback and exits with `status`; library callers catch it
    like any exception.

    Attributes:
      status: exit status of the command line.
    """

    status = 2


class Preempted(UserError):
    """The machine is taken away; the state is saved and the same command goes on.

    Launchers start the run again on its status (EX_TEMPFAIL of sysexits.h) and on no other.
    """

    status = 75


class PeerLost(UserError):
    """Another process of the run is gone, so this one cannot go on (EX_UNAVAILABLE)."""

    status = 69


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Returns ' Did you mean X?' for the closest option, else the whole list."""
    options = sorted(str(option) for option in options)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(options)}." if options else ""
