#!/usr/bin/env bash
# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
# Trains on Cloud TPU slices that are got as a queued resource, with gcloud.
#
#   bash launch/tpu_pod.sh VERB NAME [options] [CONFIG --workdir=DIR [jvlm train arguments]]
#
#   train    all of what follows until the run is done, again after every preemption; a second call
#            goes on with what the first one left. Deletes the slices at the end.
#   create   request the slices and wait until they are there
#   copy     this checkout as it is, uncommitted and new files included, ignored ones not
#   install  jvlm on every host
#   run      start CONFIG on every host; it stays when the connection drops
#   status   of the slices, and of the process on every host
#   logs     follow host 0; with --out=FILE collect those of all hosts
#   stop     end the run as a preemption does: saved, status 75 (a `train` that is still attached
#            would start it again: end that first)
#   delete   the slices
#
#   --type=TYPE        accelerator type of a slice, such as v5litepod-16 or v6e-64
#   --slices=N         slices that train together (default 1)
#   --zone=ZONE, --project=PROJECT   default as gcloud is configured
#   --spot, --reserved               capacity (default on demand)
#   --runtime=VERSION  TPU software (default: the one for JAX on this type)
#   --setup=COMMAND    run on every host before the installation: mounts the shared folder
#   --env=KEY=VALUE    for the run, such as TFDS_DATA_DIR; may be repeated
#   --out=FILE         where the logs of all hosts go (train: default runs/NAME.log)
#   --poll=SECONDS     between two looks at the state (default 30)
#   --keep             train: do not delete the slices at the end
#   --dry-run          only show the commands, for the case that nothing goes wrong
#
# DIR must be a folder that all hosts share. Several hosts need the key in ssh-agent first:
# ssh-add ~/.ssh/google_compute_engine. The exit status of train is that of the run.
set -euo pipefail
called_from="$PWD"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh
answer_help "$@"

verb="${1:-}" name="${2:-}"
case "$verb" in
  train | create | copy | install | run | status | logs | stop | delete) ;;
  *) fail "unknown verb '$verb': train, create, copy, install, run, status, logs, stop, delete" ;;
esac
[[ "$name" =~ ^[a-z]([-a-z0-9]{0,40}[a-z0-9])?$ ]] \
  || fail "name '$name': small letters, digits and dashes, such as clip-l14"
shift 2
type="" slices=1 capacity=() place=() runtime="" setup="" variables=() out="" poll=30 keep=""
while [[ "${1:-}" == --* ]]; do
  case "$1" in
    --type=*) type="${1#*=}" ;;
    --slices=*) slices="${1#*=}" ;;
    --zone=* | --project=*) place+=("$1") ;;
    --spot | --reserved) capacity+=("$1") ;;
    --runtime=*) runtime="${1#*=}" ;;
    --setup=*) setup="${1#*=}" ;;
    --env=[A-Za-z_]*=*) variables+=("${1#--env=}") ;;
    --out=/*) out="${1#*=}" ;;
    --out=*) out="$called_from/${1#*=}" ;;
    --poll=*) poll="${1#*=}" ;;
    --keep) keep=1 ;;
    --dry-run) dry_run=1 ;;
    *) fail "unknown option $1; see --help" ;;
  esac
  shift
done
[[ -n "$dry_run" ]] || command -v gcloud >/dev/null || fail "gcloud is not on the PATH"
is_count "$slices" || fail "--slices=$slices: needs a positive number"
[[ "$poll" =~ ^[0-9.]+$ ]] || fail "--poll=$poll: needs seconds"
((${#capacity[@]} < 2)) || fail "--spot and --reserved exclude each other"

# Hosts of a slice, and the software that it boots. v2 to v5p count cores, two on a chip, v5e and v6e
# chips; a host has four chips, or all of a slice of up to eight v5e or v6e chips.
# https://cloud.google.com/tpu/docs/supported-tpu-configurations
# https://cloud.google.com/tpu/docs/runtimes
describe_type() {
  local size="${type##*-}" default
  [[ "$size" =~ ^(1|[0-9]*[02468])$ ]] || size=0
  case "$type" in
    v5litepod-[1-9]* | v6e-[1-9]*) hosts=$((size <= 8 ? 1 : size / 4)) ;;
    v[234]-[1-9]* | v5p-[1-9]*) hosts=$((size / 8)) ;;
    *) fail "--type='$type': known are v5litepod-N, v6e-N, v5p-N, v4-N, v3-N and v2-N" ;;
  esac
  ((size && hosts)) || fail "--type=$type: there is no such size"
  case "$type" in
    v5litepod-*) default=v2-alpha-tpuv5-lite ;;
    v6e-*) default=v2-alpha-tpuv6e ;;
    v5p-*) default=v2-alpha-tpuv5 ;;
    *) default=tpu-ubuntu2204-base ;;
  esac
  runtime="${runtime:-$default}"
}

if [[ "$verb" == train || "$verb" == create || "$verb" == run ]]; then describe_type; fi
if [[ "$verb" == train || "$verb" == run ]]; then
  [[ $# -gt 0 ]] || fail "$verb needs a CONFIG after the options, such as clip/openai_vit_b32"
  config="$1"
  shift
  [[ " $*" == *" --workdir=/"* ]] || fail "$verb needs --workdir=/..., a folder that all hosts share"
elif [[ $# -gt 0 ]]; then
  fail "$verb takes no argument $1; see --help"
fi

queued() {
  local action="$1"
  shift
  run gcloud compute tpus queued-resources "$action" "$name" "${place[@]}" --quiet "$@"
}

on_hosts() { queued ssh --node=all --worker=all --command="$1"; }

# What the hosts say of their processes, one line each, into $output.
ask_hosts() {
  capture gcloud compute tpus queued-resources ssh "$name" "${place[@]}" --quiet \
    --node=all --worker=all --command="bash jvlm/launch/tpu_worker.sh status"
}

# Puts the state of the queued resource into $state: MISSING if there is none, UNKNOWN if gcloud
# fails, as it may for a while; $1 is what a dry run takes it to be.
known=""
look() {
  local error
  error="$(mktemp)"
  if capture gcloud compute tpus queued-resources describe "$name" "${place[@]}" \
    --format='value(state.state)' 2>"$error"; then
    state="$output" known=1
    if [[ -n "$dry_run" ]]; then state="$1"; fi
  elif grep -q NOT_FOUND "$error"; then
    state=MISSING known=1
  else
    cat "$error" >&2
    state=UNKNOWN
  fi
  rm -f "$error"
}

# Ends with slices that are ACTIVE, requested anew where they were preempted.
create() {
  local nodes=(--node-id="$name")
  if ((slices > 1)); then nodes=(--node-count="$slices" --node-prefix="$name"); fi
  requested=""
  remark "if there is none of this name yet:"
  look MISSING
  while [[ "$state" != ACTIVE ]]; do
    case "$state" in
      MISSING | FAILED | SUSPENDED)
        if [[ "$state" != MISSING ]]; then
          say "$name is $state"
          if [[ "$state" == FAILED && -n "$requested" ]]; then fail "the request failed: see status"; fi
          queued delete --force
        fi
        queued create "${nodes[@]}" --accelerator-type="$type" --runtime-version="$runtime" \
          "${capacity[@]}"
        requested=1
        ;;
      UNKNOWN) if [[ -n "$known" ]]; then sleep "$poll"; else fail "gcloud gives no state"; fi ;;
      *) sleep "$poll" ;;
    esac
    remark "every $poll s until it is ACTIVE:"
    look ACTIVE
  done
}

copy() {
  local tree="${TMPDIR:-/tmp}/jvlm_$name.tar.gz"
  remark "this checkout in $tree, unpacked in place of what was there (but for .venv):"
  if [[ -z "$dry_run" ]]; then
    git ls-files -z --cached --others --exclude-standard --deduplicate \
      | while IFS= read -r -d '' file; do if [[ -e "$file" ]]; then printf '%s\0' "$file"; fi; done \
      | tar --create --gzip --file="$tree" --null --files-from=- || fail "copy needs a git checkout"
    say "copying $(git rev-parse --short HEAD), $(git status --porcelain | wc -l) file(s) not committed"
  fi
  run gcloud compute tpus queued-resources scp "$tree" "$name:jvlm.tar.gz" "${place[@]}" --quiet \
    --node=all --worker=all \
    && on_hosts "mkdir -p jvlm && find jvlm -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} + \
&& tar -xzf jvlm.tar.gz -C jvlm"
}

install() { on_hosts "${setup:+$setup && }bash jvlm/launch/tpu_worker.sh install"; }

start() {
  local join=()
  if ((hosts * slices > 1)); then
    join=(JVLM_DISTRIBUTED=auto JVLM_NUM_PROCESSES="$((hosts * slices))")
  fi
  on_hosts "bash jvlm/launch/tpu_worker.sh start $(
    quoted "${join[@]}" "${variables[@]}" jvlm train --config="$config" "$@"
  )"
}

# Waits until the run has ended and puts its exit status into $result: 75 also where the slices, or
# a host, went away before it could say so.
follow() {
  local lines="" before="" doubted="" what status
  while true; do
    remark "every $poll s until the run has ended on every host:"
    look ACTIVE
    case "$state" in
      ACTIVE) ;;
      MISSING | DELETING) fail "$name was deleted" ;;
      UNKNOWN) sleep "$poll"; continue ;;
      *) say "the slices are $state"; result=75; return ;;
    esac
    if ! ask_hosts; then say "not every host answers"; sleep "$poll"; continue; fi
    result=0
    if [[ -n "$dry_run" ]]; then return; fi
    lines="$(grep '^jvlm-host ' <<<"$output" | sort || true)"
    if [[ "$lines" != "$before" ]]; then echo "$lines"; fi
    before="$lines"
    if [[ -z "$lines" || "$lines" == *" running"* ]]; then sleep "$poll"; continue; fi
    while read -r _ _ what status; do
      if [[ "$what" == ended ]]; then result="$(worse "$result" "$status")"; fi
    done <<<"$lines"
    # The others notice the loss of a host before its slice is seen to go.
    if [[ "$lines" == *" gone"* ]]; then result=75; fi
    if ((result == 69)) && [[ -z "$doubted" ]]; then doubted=1; sleep "$poll"; continue; fi
    return
  done
}

collect() {
  local command="sed \"s/^/\$(hostname): /\" jvlm_run/log"
  remark "into $out:"
  if [[ -n "$dry_run" ]]; then on_hosts "$command"; return; fi
  mkdir -p "$(dirname "$out")"
  on_hosts "$command" >"$out" || say "not every host gave its log"
  say "the logs of all hosts are in $out"
}

train() {
  local attached=1
  if [[ -z "$dry_run" ]]; then
    trap 'if [[ "$state" != MISSING ]]; then say "the slices stay: go on with train, or delete"; fi' EXIT
  fi
  while true; do
    create
    # What an earlier call started is only followed.
    if [[ -n "$attached" && -z "$requested" ]] && ask_hosts && [[ "$output" == *" running"* ]]; then
      say "the run goes on"
      follow
    elif copy && install && start "$@"; then
      follow
    else
      look ACTIVE
      [[ "$state" != ACTIVE ]] || fail "the hosts could not be set up"
      result=75
    fi
    if ((result != 75)); then break; fi
    say "preempted: going on"
    attached=""
  done
  collect
  if [[ -z "$keep" ]]; then
    queued delete --force
    state=MISSING
  fi
  exit "$result"
}

state=MISSING
case "$verb" in
  train) out="${out:-runs/$name.log}"; train "$@" ;;
  create | copy | install) "$verb" ;;
  run) start "$@" ;;
  status) queued describe; on_hosts "bash jvlm/launch/tpu_worker.sh status" ;;
  logs)
    if [[ -n "$out" ]]; then collect; else
      queued ssh --node=0 --worker=0 --command="tail -n 100 -F jvlm_run/log"
    fi
    ;;
  stop) on_hosts "bash jvlm/launch/tpu_worker.sh stop" ;;
  delete) queued delete --force ;;
esac
