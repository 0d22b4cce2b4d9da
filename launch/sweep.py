# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Sweeps hyperparameters over a config file; `jvlm sweep` under another name.

python launch/sweep.py --config=clip/digits --workdir=runs/sweep --grid optim.lr=1e-3,2e-3
python launch/sweep.py --help
"""

import sys

from jvlm import cli

if __name__ == "__main__":
    cli.main(["sweep", *sys.argv[1:]])
