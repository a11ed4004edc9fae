#!/usr/bin/env bash
#
# Runs every test of the project: the library's and the program's, the examples
# in the documentation, and the example strategy's own. Needs Rust and Python 3.9
# or newer; PYTHON names the interpreter. Works from any folder, and builds where
# CARGO_TARGET_DIR says, if it says anything.

set -euo pipefail

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Prints a command as one would type it, then runs it.
show() {
  printf '\n$ %s\n' "$*"
  "$@"
}

repository=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
command -v cargo >/dev/null || fail 'cargo is not on PATH: install Rust first'
command -v "$python" >/dev/null || fail "no Python at '$python': set PYTHON"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' ||
  fail 'Python 3.9 or newer is needed: set PYTHON'

cd "$repository"
printf '== Unit, integration and documentation tests\n'
show cargo test --locked --workspace

printf '\n== Tests of the example strategy\n'
cd examples/sma_crossover
export PYTHONDONTWRITEBYTECODE=1 # no __pycache__ in the checkout
show "$python" -m unittest tests/test_*.py

printf '\nall tests passed\n'
