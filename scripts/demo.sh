#!/usr/bin/env bash
#
# Builds runsnap and shows it at work on a real parameter sweep: 100 backtests
# of examples/sma_crossover, with the strategy edited six times on the way. Then
# one run from the middle is restored, compared byte for byte with a plain copy
# made at the time, and run again to the same result. Needs Rust and Python 3.9
# or newer; PYTHON names the interpreter. Any mismatch ends it with an error.

set -euo pipefail

readonly RUNS=100
readonly PROBED_RUN=50 # restored and run again; three edits come after it

usage() {
  cat <<'TEXT'
Usage: scripts/demo.sh [--keep]

  --keep   leave the temporary folder in place and print its path
TEXT
}

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

heading() {
  printf '\n== %s\n\n' "$*"
}

# Prints a command as one would type it, then runs it.
show() {
  printf '$ %s\n' "$*"
  "$@"
}

keep=no
for argument in "$@"; do
  case $argument in
    --keep) keep=yes ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done

# However the demo ends, it says so. The verdict of a success is printed
# below; whatever else stops it, a failed command included, is named here.
work=
# shellcheck disable=SC2317,SC2329  # called by the trap
finish() {
  local status=$?
  if [ -n "$work" ] && [ "$keep" = yes ]; then
    printf '\nkept: %s\n' "$work"
  elif [ -n "$work" ]; then
    rm -rf -- "$work"
  fi
  if [ "$status" -ne 0 ]; then
    printf '\ndemo failed (exit status %d)\n' "$status" >&2
  fi
}
trap finish EXIT

repository=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
command -v cargo >/dev/null || fail 'cargo is not on PATH: install Rust first'
command -v "${PYTHON:-python3}" >/dev/null || fail "no Python at '${PYTHON:-python3}': set PYTHON"
# The interpreter itself: a version manager's wrapper in front of it would cost
# more in each of the runs than the backtest does.
python=$("${PYTHON:-python3}" -c 'import sys; print(sys.executable)')
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' ||
  fail 'Python 3.9 or newer is needed: set PYTHON'
export PYTHONDONTWRITEBYTECODE=1 # no __pycache__ among the compared files

work=$(mktemp -d "${TMPDIR:-/tmp}/runsnap-demo.XXXXXX")
work=$(CDPATH='' cd -- "$work" && pwd -P)

project=$work/project   # the working copy of the example, edited on the way
plain=$work/plain       # one plain copy of the tracked files per run
restored=$work/restored # the same, each out of the store

# ---------------------------------------------------------------------------
heading "1. Build"

cd "$repository"
printf '$ cargo build --release --locked\n'
# Cargo itself says where the binary is; that holds for every way of choosing a
# target folder (CARGO_TARGET_DIR, configuration files, a build target).
binary=$(
  cargo build --release --locked --message-format=json-render-diagnostics |
    "$python" -c '
import json, sys

for line in sys.stdin:
    message = json.loads(line) if line.startswith("{") else {}
    if message.get("executable") and message["target"]["name"] == "runsnap":
        print(message["executable"])
'
)
[ -x "$binary" ] || fail 'the build gave no runsnap binary'
runsnap() { "$binary" "$@"; }
show runsnap --version

# ---------------------------------------------------------------------------
heading "2. A project to sweep"

cp -R "$repository/examples/sma_crossover" "$project"
cd "$project"
# Leftovers of running the example in place are no part of it.
rm -rf .runsnap runs
find . -name __pycache__ -prune -exec rm -rf {} +
mkdir "$plain" "$restored"

# What strategy.yaml tracks, spelled out independently of it.
tracked=(strategy.py strategy.yaml pyproject.toml config momentum)
show cat strategy.yaml

# replace FILE OLD NEW: an edit that must find its place. OLD has to be in FILE
# exactly once, or the demo would go on with code it does not mean to test.
replace() {
  "$python" - "$@" <<'PY'
import sys

path, old, new = sys.argv[1:]
with open(path, encoding="utf-8", newline="") as file:
    text = file.read()
found = text.count(old)
if found != 1:
    sys.exit(f"error: {path}: {found} times instead of once in it:\n{old}")
with open(path, "w", encoding="utf-8", newline="") as file:
    file.write(text.replace(old, new))
PY
}

edit_constant() {
  replace momentum/portfolio.py 'REBALANCE_BAND = 0.10' 'REBALANCE_BAND = 0.05'
}

edit_helper() {
  cat >>momentum/indicators.py <<'PY'


def ewma_volatility(closes: Sequence[float], span: int) -> Series:
    """Annualised volatility that weighs recent log returns more than old ones.

    It forgets a shock gradually; the plain one drops it all at once when it
    leaves the window, and the position jumps on a day on which nothing happened.
    """
    decay = 1.0 - 2.0 / (span + 1)
    variance = 0.0
    volatility: Series = [None]
    for day, value in enumerate(log_returns(closes), start=1):
        weight = max(1.0 - decay, 1.0 / day)  # a plain mean until enough is known
        variance += weight * (value * value - variance)
        volatility.append(math.sqrt(TRADING_DAYS * variance) if day >= span else None)
    return volatility
PY
  replace strategy.py \
    'from momentum.indicators import realised_volatility' \
    'from momentum.indicators import ewma_volatility'
  replace strategy.py \
    'volatility = realised_volatility(closes, config.volatility_window)' \
    'volatility = ewma_volatility(closes, config.volatility_window)'
}

edit_comment() {
  replace momentum/metrics.py \
    '    peak = equity[0]
' \
    '    # Closes only: a fall within the day that is made good by the close is not
    # seen, so the true figure is somewhat deeper.
    peak = equity[0]
'
}

edit_fees() {
  replace momentum/portfolio.py \
    '    slippage_bps: float
' \
    '    slippage_bps: float
    sales_tax_bps: float = 0.0
'
  replace momentum/portfolio.py \
    '        """Commission for one fill of that value, bought or sold."""
        return abs(value) * self.commission_bps * BASIS_POINT' \
    '        """Commission for one fill of that value, and the tax if it is a sale."""
        rate = self.commission_bps + (self.sales_tax_bps if value < 0.0 else 0.0)
        return abs(value) * rate * BASIS_POINT'
  replace config/params.ini \
    'slippage_bps = 3.0
' \
    'slippage_bps = 3.0
; Sales only.
sales_tax_bps = 5.0
'
}

edit_module() {
  cat >momentum/stops.py <<'PY'
"""Stops: leaving a position before its signal does."""

from __future__ import annotations


class TrailingStop:
    """Closes a position that has fallen too far from its best close.

    Once stopped out it stays out until the signal itself has been flat, or it
    would buy back the next day what it has just sold.
    """

    def __init__(self, distance: float) -> None:
        self._distance = distance
        self._peak = 0.0
        self._stopped = False

    def apply(self, target: float, close: float) -> float:
        """Return `target`, or zero while stopped out; called once for each close."""
        if target == 0.0:
            self._peak = 0.0
            self._stopped = False
            return target
        self._peak = max(self._peak, close)
        if close < self._peak * (1.0 - self._distance):
            self._stopped = True
        return 0.0 if self._stopped else target
PY
  replace momentum/backtest.py \
    'from momentum.prices import Bar
' \
    'from momentum.prices import Bar
from momentum.stops import TrailingStop

STOP_DISTANCE = 0.08
'
  replace momentum/backtest.py \
    '    days_held = 0
' \
    '    days_held = 0
    stop = TrailingStop(STOP_DISTANCE)
'
  replace momentum/backtest.py \
    '        target = targets[today - 1]
' \
    '        target = stop.apply(targets[today - 1], bars[today - 1].close)
'
}

edit_settings() {
  replace config/params.ini 'target_volatility = 0.15' 'target_volatility = 0.12'
}

# change FUNCTION EXPECTED DESCRIPTION: makes one edit and runs the strategy on
# both sides of it. The edited code must still run, and the result must be
# EXPECTED: `other` than before, or the `same`.
edits=0
change() {
  local outcome=other
  edits=$((edits + 1))
  "$python" strategy.py --output "$work/before" >/dev/null
  "$1"
  "$python" strategy.py --output "$work/after" >/dev/null
  if cmp -s "$work/before/results/result.json" "$work/after/results/result.json"; then
    outcome=same
  fi
  [ "$outcome" = "$2" ] || fail "edit '$3' should give the $2 result"
  printf '  edit %d: %s (%s result)\n' "$edits" "$3" "$outcome"
}

# ---------------------------------------------------------------------------
heading "3. A sweep of $RUNS backtests, the code edited on the way"

# Every pair of windows once, in an order shuffled from a fixed seed. The
# generator is spelled out: RANDOM gives other numbers in other versions of bash.
grid=()
for ((fast = 5; fast <= 24; fast++)); do
  for ((slow = 30; slow <= 120; slow += 10)); do
    grid+=("$fast $slow")
  done
done
state=2024
for ((last = ${#grid[@]} - 1; last > 0; last--)); do
  state=$(((state * 1103515245 + 12345) % 2147483648))
  pick=$(((state >> 8) % (last + 1)))
  pair=${grid[last]}
  grid[last]=${grid[pick]}
  grid[pick]=$pair
done

# Prints the two metrics that the sweep logs, as `runsnap log` takes them.
logged_metrics() {
  "$python" -I -S -c '
import json, sys

with open(sys.argv[1], encoding="utf-8") as file:
    metrics = json.load(file)["metrics"]
print("sharpe={sharpe} total_return={total_return}".format(**metrics))
' "$1"
}

names=()
started=$SECONDS
for ((i = 1; i <= RUNS; i++)); do
  case $i in
    12) change edit_constant other 'a changed constant in portfolio.py' ;;
    28) change edit_helper other 'a new helper in indicators.py, used by strategy.py' ;;
    44) change edit_comment same 'a comment in metrics.py' ;;
    61) change edit_fees other 'a changed fee model in portfolio.py and params.ini' ;;
    75) change edit_module other 'a new module, stops.py, used by backtest.py' ;;
    90) change edit_settings other 'a changed setting in params.ini' ;;
  esac

  read -r fast slow <<<"${grid[i - 1]}"
  name=$(printf 'sma-%03d-f%02d-s%03d' "$i" "$fast" "$slow")
  names+=("$name")
  run_dir=runs/$name
  mkdir -p "$run_dir" "$plain/$name"

  # The snapshot comes first: it holds the code that is about to run, even if
  # somebody saves an edit while it does.
  runsnap capture strategy.py --run "$name" --run-dir "$run_dir" --sweep sma \
    --param "fast=$fast" --param "slow=$slow" --quiet
  cp -R "${tracked[@]}" "$plain/$name/"

  "$python" strategy.py --fast "$fast" --slow "$slow" --output "$run_dir" >"$run_dir/output.log"

  metrics=$(logged_metrics "$run_dir/results/result.json")
  read -r sharpe total_return <<<"$metrics"
  runsnap log "$name" --metric "$sharpe" --metric "$total_return" >/dev/null

  for file in manifest.json backtest_metadata.json; do
    [ -s "$run_dir/metadata/$file" ] || fail "$run_dir/metadata/$file was not written"
  done
  if ((i % 10 == 0)); then
    printf '  %3d runs, the last with %s\n' "$i" "$(cat "$run_dir/output.log")"
  fi
done
[ -d .runsnap ] || fail "the store is not at the project root, $project"
printf '\n%d runs and %d edits in %d s\n' "$RUNS" "$edits" "$((SECONDS - started))"

# ---------------------------------------------------------------------------
heading "4. What the store knows"

first=${names[0]}
probed=${names[PROBED_RUN - 1]}
newest=${names[RUNS - 1]}
# The best five.
show runsnap list --sweep sma --sort=-metrics.sharpe --limit 5
printf '\n'
show runsnap diff "$probed" "$newest" --stat
printf '\n'
show runsnap report

# ---------------------------------------------------------------------------
heading "5. Run $PROBED_RUN, restored and run again"

read -r fast slow <<<"${grid[PROBED_RUN - 1]}"
show runsnap restore "$probed" --output "$restored/$probed"
diff -r "$plain/$probed" "$restored/$probed" ||
  fail "the restored code of $probed is not what it was captured from"
printf 'the restored code is byte for byte the plain copy made at that run\n\n'

result=results/result.json
"$python" "$restored/$probed/strategy.py" --fast "$fast" --slow "$slow" --output "$work/again"
cmp "runs/$probed/$result" "$work/again/$result" ||
  fail "the restored code of $probed gives another result"
printf 'the restored code with the same parameters: the same result.json\n\n'

# Only because the edits matter does the comparison above prove anything.
"$python" strategy.py --fast "$fast" --slow "$slow" --output "$work/today"
if cmp -s "runs/$probed/$result" "$work/today/$result"; then
  fail "today's code gives the result of $probed as well: the edits change nothing"
fi
printf "today's code with the same parameters: another result.json\n"

# ---------------------------------------------------------------------------
heading "6. Every run, restored"

for name in "${names[@]}"; do
  [ "$name" = "$probed" ] && continue
  runsnap restore "$name" --output "$restored/$name" >"$work/restore.log" 2>&1 ||
    fail "runsnap restore $name: $(cat "$work/restore.log")"
done
diff -r "$plain" "$restored" || fail 'restored code differs from the plain copies'
# It must be the copies that agree, not two empty folders.
[ -s "$restored/$first/momentum/backtest.py" ] || fail 'the first run was restored without its code'
if diff -rq "$restored/$first" "$restored/$newest" >/dev/null; then
  fail 'the first and the newest run were restored to the same code'
fi
printf 'all %d runs are byte for byte the plain copies made at their time\n\n' "$RUNS"
# The store's own word on it: every content read and hashed.
show runsnap verify --read-data

# ---------------------------------------------------------------------------
heading "7. What it takes to keep them"

# Sizes are read off the files that are there, the plain copies included.
kib_on_disk() { du -sk "$1" | cut -f1; }
measure() { # measure LABEL FOLDER: sets files, bytes and disk
  files=$(find "$2" -type f | wc -l)
  bytes=$(find "$2" -type f -exec cat {} + | wc -c)
  disk=$(kib_on_disk "$2")
  printf '%-34s %7d %11d %11d\n' "$1" "$files" "$bytes" "$disk"
}

# The metadata is part of the price, too; a copy of it alone can be measured.
for name in "${names[@]}"; do
  mkdir -p "$work/metadata/$name"
  cp -R "runs/$name/metadata" "$work/metadata/$name/"
done

printf '%-34s %7s %11s %11s\n' '' 'files' 'bytes' 'KiB on disk'
measure "$RUNS plain copies, made with cp" "$plain"
plain_bytes=$bytes plain_disk=$disk
measure 'the store, .runsnap' .runsnap
store_bytes=$bytes store_disk=$disk
measure 'metadata in the run folders' "$work/metadata"
((store_bytes + bytes < plain_bytes && store_disk + disk < plain_disk)) ||
  fail 'the store and the metadata are no smaller than the plain copies'

printf '\ndemo passed: %d runs through %d edits, all restored byte for byte; ' "$RUNS" "$edits"
printf 'run %d ran again to the same result; ' "$PROBED_RUN"
printf '%d KiB on disk (store %d, metadata %d) instead of %d\n' \
  "$((store_disk + disk))" "$store_disk" "$disk" "$plain_disk"
