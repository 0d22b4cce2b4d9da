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
called_from="$PWD"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh

config=configs/clip/digits.py
if [[ $# -gt 0 && "$1" != --* ]]; then
  config="$1"
  # Paths are the caller's; configs/... and clip/digits are the repository's.
  if [[ "$config" != /* && -f "$called_from/${config%%:*}" ]]; then config="$called_from/$config"; fi
  shift
fi
name="${config##*configs/}"
workdir="runs/$(echo "${name/.py/}" | tr '/:,=' '____')"
overrides=()
for argument in "$@"; do
  case "$argument" in
    --workdir=/*) workdir="${argument#--workdir=}" ;;
    --workdir=*) workdir="$called_from/${argument#--workdir=}" ;;
    --config.*) overrides+=("$argument") ;;
    *) fail "unknown argument $argument; give --workdir=DIR or --config.key=value" ;;
  esac
done

setup_environment ""
jvlm data prepare "$config" "${overrides[@]}"
jvlm train --config="$config" --workdir="$workdir" "${overrides[@]}"
