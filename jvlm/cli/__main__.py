# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`python -m jvlm.cli`."""

from jvlm.cli import main

main()
