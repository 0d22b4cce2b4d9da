#!/usr/bin/env bash
# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
# Trains with N processes on this machine, as N hosts of a pod would: to try what crosses hosts.
#
#   bash launch/simulate_pod.sh N [options] [CONFIG] [--workdir=DIR] [jvlm train arguments]
#
#   --devices=D      fake CPU devices of each process (default 1)
#   --requeue        start again as long as the run ends preempted and saved (status 75)
#   --grace=SECONDS  after a process has failed, the others get this long to end (default 60)
#   --dry-run        only show the commands
#
# CONFIG and DIR default as in launch/local.sh. Process 0 writes to the terminal, process I to
# DIR/processes/I.log. SIGTERM and Ctrl-C are handed to every process as a preemption notice, a
# second one kills them. The exit status is 0, 75 if the run was preempted, 69 if a process was
# lost that nobody saw fail, else that of the process that failed first.
set -euo pipefail
called_from="$PWD"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh
answer_help "$@"

count="" devices=1 grace=60 requeue=""
while [[ $# -gt 0 ]]; do
  case "$1" in
    --devices=*) devices="${1#*=}" ;;
    --grace=*) grace="${1#*=}" ;;
    --requeue) requeue=1 ;;
    --dry-run) dry_run=1 ;;
    *) if [[ -n "$count" ]]; then break; else count="$1"; fi ;;
  esac
  shift
done
is_count "$count" || fail "needs the number of processes first, such as 2; see --help"
is_count "$devices" || fail "--devices=$devices: needs a positive number"
is_count "$grace" || fail "--grace=$grace: needs seconds, a positive number"
read_train_arguments "$@"
train=(jvlm train --config="$config" --workdir="$workdir" "${arguments[@]}")

free_port() { python -c 'from jvlm.roll_call import free_port; print(free_port())'; }

# Starts all processes and waits for them; puts the exit status of the run into $result.
attempt() {
  local port=PORT index status last deadline="" process
  if [[ -z "$dry_run" ]]; then port="$(free_port)"; fi
  pids=() result=0
  for ((index = 0; index < count; index++)); do
    process=(
      env JVLM_COORDINATOR="localhost:$port" JVLM_NUM_PROCESSES="$count" JVLM_PROCESS_ID="$index"
      JAX_PLATFORMS=cpu
      XLA_FLAGS="${XLA_FLAGS:+$XLA_FLAGS }--xla_force_host_platform_device_count=$devices"
      "${train[@]}"
    )
    if [[ -n "$dry_run" ]]; then
      quoted "${process[@]}"
    elif ((index == 0)); then
      "${process[@]}" &
      pids[index]="$!"
    else
      "${process[@]}" >>"$logs/$index.log" 2>&1 &
      pids[index]="$!"
    fi
  done
  while ((${#pids[@]})); do
    for index in "${!pids[@]}"; do
      if kill -0 "${pids[index]}" 2>/dev/null; then continue; fi
      status=0
      wait "${pids[index]}" || status="$?"
      unset "pids[index]"
      if ((status == 0)); then continue; fi
      deadline="${deadline:-$((SECONDS + grace))}"
      last=""
      if ((index)); then last=": $(tail -n 1 "$logs/$index.log") (all of it in $logs/$index.log)"; fi
      say "process $index ended with $status$last"
      result="$(worse "$result" "$status")"
    done
    if ((${#pids[@]})) && [[ -n "$deadline" ]] && ((SECONDS >= deadline)); then
      say "killing ${#pids[@]} process(es) that did not end within $grace s after the first"
      signal KILL
      wait "${pids[@]}" 2>/dev/null || true
      pids=()
    fi
    sleep 0.1 || true  # Ctrl-C ends it too.
  done
}

signal() { if ((${#pids[@]})); then kill "-$1" "${pids[@]}" 2>/dev/null || true; fi; }

stopping="" pids=()
stop() {
  if [[ -n "$stopping" ]]; then signal KILL; else signal TERM; fi
  stopping=1
}
trap stop TERM INT

if [[ -z "$dry_run" ]]; then
  command -v jvlm >/dev/null || setup_environment ""
  logs="$workdir/processes"
  mkdir -p "$logs" || fail "cannot make $logs"
fi
while true; do
  attempt
  if ((result != 75)) || [[ -z "$requeue" || -n "$stopping" ]]; then exit "$result"; fi
  say "preempted and saved: starting again"
done
