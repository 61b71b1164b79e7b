#!/usr/bin/env bash
# Kills the short demo with SIGKILL at several moments and starts it again each time.
# What the journal had acknowledged must still be there, and the last start must finish the story.
#
#   tests/kill-demo.sh [BINARY] [SECONDS...]     default: target/release/understudy, 3 12 30 25 20
set -euo pipefail
binary=${1:-target/release/understudy}
shift || true
moments=("$@")
[ ${#moments[@]} -gt 0 ] || moments=(3 12 30 25 20)
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT

# Exchanges and outcomes in the journal, counted by a process of its own.
recorded() {
  python3 - "$home/demo/journal.db" <<'PY'
import sqlite3, sys
try:
    rows = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True).execute("SELECT count(*) FROM records")
    print(rows.fetchone()[0])
except sqlite3.Error:
    print(0)
PY
}

before=0
for seconds in "${moments[@]}"; do
  "$binary" --data-dir "$home" demo --short >"$home/log" 2>&1 &
  pid=$!
  sleep "$seconds"
  if kill -9 "$pid" 2>/dev/null; then
    wait "$pid" 2>/dev/null || true
    pkill -9 -f "train-worker $home" 2>/dev/null || true
    now=$(recorded)
    echo "killed after $seconds s: $now records, $before before; $(grep -c . "$home/log") lines told"
    [ "$now" -ge "$before" ] || { echo "records were lost"; exit 1; }
    before=$now
  fi
done
"$binary" --data-dir "$home" demo --short >"$home/log" 2>&1 || { tail -40 "$home/log"; exit 1; }
"$binary" --data-dir "$home/demo" audit verify
now=$(recorded)
[ "$now" -ge "$before" ] || { echo "records were lost"; exit 1; }
grep -E "failed requests|serving now" "$home/log"
echo "finished with $now records after ${#moments[@]} kills"
