#!/usr/bin/env bash
# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
# Trains on this machine, from nothing: environment, data, training, evaluation, report.
#
#   bash launch/local.sh [CONFIG] [--workdir=DIR] [--config.key=value ...]
#
# CONFIG defaults to configs/clip/digits.py, DIR to runs/<config>. A second call goes on where the
# first one stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh

config=configs/clip/digits.py
if [[ $# -gt 0 && "$1" != --* ]]; then
  config="$1"
  shift
fi
name="${config#configs/}"
workdir="runs/$(echo "${name/.py/}" | tr '/:,=' '____')"
for argument in "$@"; do
  if [[ "$argument" == --workdir=* ]]; then workdir="${argument#--workdir=}"; fi
done

setup_environment ""
jvlm data prepare "$config"
jvlm train --config="$config" --workdir="$workdir" "$@"
