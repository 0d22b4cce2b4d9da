#!/usr/bin/env bash
# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
# Trains on GPU nodes of a Slurm cluster: submits launch/slurm.sbatch.
#
#   bash launch/slurm.sh [options] [CONFIG] [--workdir=DIR] [jvlm train arguments]
#
#   --nodes=N        nodes (default 1)
#   --gpus=N         GPUs of each node, with a process each (default 8)
#   --time=TIME      as in sbatch; the run is saved two minutes before, and goes on in the queue
#   --sbatch=OPTION  any other option of sbatch, such as --sbatch=--partition=gpu; may be repeated
#   --dry-run        only show the command, and the job that it submits
#
# CONFIG and DIR default as in launch/local.sh; DIR and this checkout lie on a file system that the
# nodes share. The job uses the jvlm that is on the PATH here, or makes .venv. Its output goes to
# DIR/slurm_JOB.log. `scancel JOB` ends it for good.
set -euo pipefail
called_from="$PWD"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh
answer_help "$@"

nodes=1 gpus=8 options=()
while [[ "${1:-}" == --* ]]; do
  case "$1" in
    --nodes=*) nodes="${1#*=}" ;;
    --gpus=*) gpus="${1#*=}" ;;
    --time=*) options+=("$1") ;;
    --sbatch=--*) options+=("${1#--sbatch=}") ;;
    --dry-run) dry_run=1 ;;
    --workdir=* | --config.*) break ;;
    *) fail "unknown option $1; see --help" ;;
  esac
  shift
done
is_count "$nodes" || fail "--nodes=$nodes: needs a positive number"
is_count "$gpus" || fail "--gpus=$gpus: needs a positive number"
read_train_arguments "$@"

# Slurm does not make the folder of the log.
run mkdir -p "$workdir"
run sbatch --job-name="jvlm_${workdir##*/}" --nodes="$nodes" --ntasks-per-node="$gpus" \
  --gpus-per-node="$gpus" --output="$workdir/slurm_%j.log" "${options[@]}" \
  launch/slurm.sbatch --config="$config" --workdir="$workdir" "${arguments[@]}"
if [[ -n "$dry_run" ]]; then sed 's/^/# /' launch/slurm.sbatch; fi
