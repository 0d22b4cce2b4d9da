# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
# Sourced by the launchers: a Python environment with jvlm and the extras "$1" in it.
#
# The active environment is used if there is one, else .venv is made. What was installed is
# remembered in the environment, so that a second call installs nothing.

fail() { echo "$0: $*" >&2; exit 2; }

find_python() {
  local candidate
  for candidate in python3 python python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "needs Python 3.11 to 3.13; none found on the PATH"
}

machine_extra() {
  if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
    echo gpu
  elif compgen -G '/dev/accel*' >/dev/null || compgen -G '/dev/vfio/[0-9]*' >/dev/null; then
    echo tpu
  fi
}

setup_environment() {
  local extras="$1" machine stamp wanted
  if [[ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]]; then
    if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
      rm -rf .venv
      local python
      python="$(find_python)"
      echo "making .venv with $("$python" --version)"
      "$python" -m venv .venv || { rm -rf .venv; fail "cannot make .venv (Debian: apt install python3-venv)"; }
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
