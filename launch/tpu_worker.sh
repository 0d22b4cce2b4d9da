#!/usr/bin/env bash
# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
# One host of a TPU slice, as launch/tpu_pod.sh calls it there. State is kept in ~/jvlm_run.
#
#   bash launch/tpu_worker.sh install
#   bash launch/tpu_worker.sh start [KEY=VALUE ...] COMMAND   detached; its output goes to ~/jvlm_run/log
#   bash launch/tpu_worker.sh status   "jvlm-host NAME running", "ended STATUS" or "gone"
#   bash launch/tpu_worker.sh stop     SIGTERM to the command
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh
answer_help "$@"

folder="$HOME/jvlm_run"
# Process ids of before a reboot say nothing.
boot="$(cat /proc/sys/kernel/random/boot_id)"
is_running() { kill -0 "$(cat "$folder/pid_$boot" 2>/dev/null)" 2>/dev/null; }

verb="${1:-}"
shift || true
case "$verb" in
  install)
    # Of Ubuntu 22.04, which TPU VMs boot, the system's Python is too old.
    export PATH="$HOME/.local/bin:$PATH"
    if ! find_python >/dev/null && ! command -v uv >/dev/null; then
      python3 -m pip install --quiet --user uv
    fi
    setup_environment ""
    ;;
  start)
    if is_running; then fail "a run is going on here: stop it first"; fi
    mkdir -p "$folder"
    rm -f "$folder"/{status,pid_*}
    setsid nohup bash launch/tpu_worker.sh supervise "$@" >>"$folder/log" 2>&1 </dev/null &
    echo "$!" >"$folder/pid_$boot"
    ;;
  supervise)
    if [[ -f .venv/bin/activate ]]; then
      # shellcheck disable=SC1091
      source .venv/bin/activate
    fi
    # A preemption shuts the host down, and that sends SIGTERM to this shell and to the command.
    trap 'kill -TERM "$command" 2>/dev/null || true' TERM
    env "$@" &
    command="$!"
    status=0
    wait_for "$command" || status="$?"
    echo "$status" >"$folder/status"
    ;;
  status)
    if is_running; then
      what=running
    elif [[ -f "$folder/status" ]]; then
      what="ended $(cat "$folder/status")"
    else
      what=gone
    fi
    echo "jvlm-host $(hostname) $what"
    ;;
  stop) if is_running; then kill -TERM "$(cat "$folder/pid_$boot")"; fi ;;
  *) fail "unknown verb '$verb'; see --help" ;;
esac
