# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the numbers depend on besides the code."""

import platform
from importlib import metadata

PACKAGES = (
    *("jvlm", "jax", "jaxlib", "libtpu", "flax", "optax", "orbax-checkpoint", "numpy"),
    *("grain", "pillow", "simplejpeg", "cykooz.resizer"),
)


def of_packages() -> dict[str, str]:
    """Python's version and those of the installed packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
