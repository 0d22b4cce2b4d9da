# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by the launchers, from the root of the repository: what they share.
#
# Exit statuses of `jvlm train`: 0 done; 2 bad input; 69 another process was lost; 75 preempted and
# saved, the only one on which a run is started again; anything else a crash.

dry_run=""

say() { echo "${0##*/}: $*" >&2; }
fail() { say "$*"; exit 2; }

# The help of a launcher is the comment at its top.
answer_help() {
  if [[ "${1:-}" == --help || "${1:-}" == -h ]]; then
    sed -n '4,${/^#/!q; /^#SBATCH/q; s/^# \{0,1\}//p;}' "launch/${0##*/}"
    exit 0
  fi
}

# The words as one line that a shell reads back as the same words.
quoted() {
  local word line=""
  for word in "$@"; do
    if [[ ! "$word" =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then word="'${word//\'/\'\\\'\'}'"; fi
    line+="$word "
  done
  echo "${line% }"
}

# Runs a command and shows it; a dry run only shows it.
run() {
  if [[ -n "$dry_run" ]]; then quoted "$@"; return; fi
  echo "+ $(quoted "$@")" >&2
  "$@"
}

# Puts what a command writes into $output; a dry run only shows the command.
capture() {
  output=""
  if [[ -n "$dry_run" ]]; then quoted "$@"; return; fi
  output="$("$@")"
}

# A remark between the commands of a dry run.
remark() { if [[ -n "$dry_run" ]]; then echo "# $*"; fi; }

is_count() { [[ "$1" =~ ^[1-9][0-9]*$ ]]; }

# Reads "[CONFIG] [--workdir=DIR] [arguments of jvlm train]" into config, workdir and arguments.
# Paths are relative to $called_from; configs/... and clip/digits are the repository's.
read_train_arguments() {
  local argument name
  config=configs/clip/digits.py arguments=()
  if [[ $# -gt 0 && "$1" != --* ]]; then
    config="$1"
    if [[ "$config" != /* && -f "$called_from/${config%%:*}" ]]; then config="$called_from/$config"; fi
    shift
  fi
  name="${config##*configs/}"
  name="${name/.py/}"
  workdir="runs/${name//[\/:,=]/_}"
  for argument in "$@"; do
    case "$argument" in
      --workdir=/*) workdir="${argument#--workdir=}" ;;
      --workdir=*) workdir="$called_from/${argument#--workdir=}" ;;
      --*) arguments+=("$argument") ;;
      *) fail "unknown argument $argument; give --workdir=DIR, --config.key=value, ..." ;;
    esac
  done
}

# Waits for the child $1 also when signals interrupt the waiting; returns its exit status.
wait_for() {
  while kill -0 "$1" 2>/dev/null; do wait "$1" || true; done
  wait "$1"
}

# The status of a run whose processes ended so far with $1 and now with $2. A crash says more than
# those that lost a peer by it, and these more than a preemption; of two crashes the first counts.
worse() {
  case "$1" in
    0) echo "$2" ;;
    75) if [[ "$2" == 0 ]]; then echo 75; else echo "$2"; fi ;;
    69) if [[ "$2" == 0 || "$2" == 75 ]]; then echo 69; else echo "$2"; fi ;;
    *) echo "$1" ;;
  esac
}

find_python() {
  local candidate
  for candidate in python3 python python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

make_venv() {
  local python
  if python="$(find_python)"; then
    echo "making .venv with $("$python" --version)"
    "$python" -m venv .venv
  elif command -v uv >/dev/null; then  # It brings a Python along.
    uv venv --quiet --seed --python 3.12 .venv
  else
    fail "needs Python 3.11 to 3.13 or uv; none found on the PATH"
  fi
}

machine_extra() {
  if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
    echo gpu
  elif compgen -G '/dev/accel*' >/dev/null || compgen -G '/dev/vfio/[0-9]*' >/dev/null; then
    echo tpu
  fi
}

# A Python environment with jvlm and the extras "$1" in it.
#
# The active environment is used if there is one, else .venv is made. What was installed is
# remembered in the environment, so that a second call installs nothing.
setup_environment() {
  local extras="$1" machine stamp wanted
  if [[ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]]; then
    if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
      rm -rf .venv
      make_venv || { rm -rf .venv; fail "cannot make .venv (Debian: apt install python3-venv)"; }
    fi
    # shellcheck disable=SC1091
    source .venv/bin/activate
  fi
  python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
    || fail "the active environment has $(python --version), jvlm needs 3.11 to 3.13: deactivate it"
  machine="$(machine_extra)"
  extras="$(echo "$extras $machine" | xargs | tr ' ' ,)"
  stamp="$(python -c 'import sys; print(sys.prefix)')/.jvlm-installed"
  wanted="$PWD $extras $(cat setup.py jvlm/__init__.py | cksum)"
  if ! grep -qsxF "$wanted" "$stamp"; then
    echo "installing jvlm${extras:+[$extras]}"
    python -m pip install -q --disable-pip-version-check -e ".${extras:+[$extras]}" 2>&1 \
      | { grep -v '^WARNING' || true; }
    (cd / && python -c 'import jvlm.train') || fail "the installation failed"
    echo "$wanted" >>"$stamp"
  fi
}
