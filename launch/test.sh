#!/usr/bin/env bash
# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
# Sets everything up and runs the tests, two at a time.
#
#   bash launch/test.sh [--parity] [pytest arguments]
#
# --parity runs the comparisons with PyTorch instead, which it installs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh
answer_help "$@"

if [[ "${1:-}" == --parity ]]; then
  shift
  setup_environment "test parity"
  # The official code. Without their dependencies: they ask for torchvision, of which no build
  # without CUDA is published and which nothing here uses (tests/parity/stubs.py).
  python -m pip install -q --disable-pip-version-check --no-deps \
    open_clip_torch==3.3.0 cn_clip==1.6.0 clip-anytorch==2.6.0 2>&1 | { grep -v '^WARNING' || true; }
  # Fewer than these collected means that something was skipped or lost.
  if [[ $# -eq 0 ]]; then export JVLM_MIN_PARITY_TESTS=253; fi
  exec python -m pytest -n 2 -m parity "$@"
fi
setup_environment "test plan"  # libtpu, whose compiler needs no TPU.
ruff check .
ruff format --check .
exec python -m pytest -n 2 --dist loadgroup -m "not parity" "$@"
