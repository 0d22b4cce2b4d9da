# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The one exception that stands for "the user can fix this"."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The message is one line: what is wrong, and what to do.

    The command line prints it without a traceback and exits with status 2; library callers
    catch it like any exception.
    """


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Returns ' Did you mean X?' for the closest option, else the whole list."""
    options = sorted(str(option) for option in options)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(options)}." if options else ""
