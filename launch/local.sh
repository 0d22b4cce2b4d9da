#!/usr/bin/env bash
# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
# Trains on this machine, from nothing: environment, data, training, evaluation, report.
#
#   bash launch/local.sh [CONFIG] [--workdir=DIR] [jvlm train arguments]
#
# CONFIG defaults to configs/clip/digits.py, DIR to runs/<config>. A second call goes on where the
# first one stopped.
set -euo pipefail
called_from="$PWD"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh
answer_help "$@"

read_train_arguments "$@"
overrides=()
for argument in "${arguments[@]}"; do
  if [[ "$argument" == --config.* ]]; then overrides+=("$argument"); fi
done

setup_environment ""
# The TPU's compiler, which the tests install, complains at length where there is no TPU.
if [[ -z "$(machine_extra)" ]]; then export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"; fi
jvlm data prepare "$config" "${overrides[@]}"
jvlm train --config="$config" --workdir="$workdir" "${arguments[@]}"
