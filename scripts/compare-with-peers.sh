#!/usr/bin/env bash
#
# Measures runsnap beside git, restic and borg on histories of real code, and
# prints a table for each history in Markdown. Builds the release binary of this
# checkout; what is missing of the other tools it installs with apt-get, if it
# runs as root. Needs Rust and Python 3.9 or newer; PYTHON names the interpreter.

set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: scripts/compare-with-peers.sh [options] HISTORIES

HISTORIES is a folder of histories as make_history.py makes them, or one of
them. (make_history.py and replay.py are kept beside the project.) A history is
a folder with two things in it:

  steps.json    a list of versions, oldest first: {"label": TEXT,
                "write": {PATH: SHA256}, "delete": [PATH],
                "files": NUMBER, "bytes": NUMBER}
  blobs/SHA256  the contents

Options:

  --steps N     no more than the first N versions of each history
  --peers LIST  of git,restic,borg; all three unless told
  --files N     files in the generated tree of which the first capture is
                measured; 50000 unless told, 0 for none
  --work DIR    where stores and work trees are made, /var/tmp unless told. What
                kind of file system that is matters more than anything else
  --keep        leave them in place and print where they are
TEXT
}

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

wrong() {
  printf 'error: %s\n\n' "$*" >&2
  usage >&2
  exit 2
}

peers=git,restic,borg
files=50000
work=/var/tmp
histories=
passed_on=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --keep) passed_on+=("$1") ;;
    --steps | --peers | --files | --work)
      [ $# -gt 1 ] || wrong "$1 needs a value"
      case $1 in
        --steps) passed_on+=(--steps "$2") ;;
        --peers) peers=$2 ;;
        --files) files=$2 ;;
        --work) work=$2 ;;
      esac
      shift
      ;;
    -*) wrong "there is no option $1" ;;
    *)
      [ -z "$histories" ] || wrong 'one folder of histories is enough'
      histories=$1
      ;;
  esac
  shift
done
[ -n "$histories" ] || wrong 'which histories?'
[ -d "$histories" ] || fail "no such folder: $histories"
histories=$(CDPATH='' cd -- "$histories" && pwd)

repository=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
command -v cargo >/dev/null || fail 'cargo is not on PATH: install Rust first'
command -v "$python" >/dev/null || fail "no Python at '$python': set PYTHON"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' ||
  fail 'Python 3.9 or newer is needed: set PYTHON'

# What the tools are called, and the Debian packages that they are in.
missing=()
need() {
  command -v "$1" >/dev/null || missing+=("$2")
}
need strace strace
[ "$files" = 0 ] || [ -x /usr/bin/time ] || missing+=(time)
IFS=, read -r -a chosen <<<"$peers"
for peer in "${chosen[@]}"; do
  case $peer in
    git | restic) need "$peer" "$peer" ;;
    borg) need borg borgbackup ;;
    *) wrong "no peer is called '$peer'" ;;
  esac
done
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    fail "not installed: ${missing[*]}; install them, or run this as root where there is apt-get"
  fi
  {
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
  } >&2 || fail "apt-get could not install ${missing[*]}"
fi

(cd "$repository" && cargo build --release --locked >&2)
target=${CARGO_TARGET_DIR:-$repository/target}
exec "$python" "$repository/scripts/compare_with_peers.py" \
  --runsnap "$target/release/runsnap" --peers "$peers" --files "$files" --work "$work" \
  ${passed_on[@]+"${passed_on[@]}"} "$histories"
