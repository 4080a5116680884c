#!/usr/bin/env bash
# Builds Tandem and shows it: one coordinator and two workers on loopback, the bundled model cut in two, an answer streamed over gRPC.
# Everything it starts is stopped at the end, also after Ctrl-C.
#   deploy/demo.sh [--port=7070] [PROMPT]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

port=7070
prompt=""
for arg in "$@"; do
  case "$arg" in
    --port=*) port=${arg#--port=} ;;
    --help | -h) sed -n '2,4p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;;
    -*) echo "deploy/demo.sh: unknown argument '$arg'; see --help" >&2; exit 2 ;;
    *) prompt=$arg ;;
  esac
done

deploy/install-packages.sh build
echo "build: release (the first build takes some minutes)"
cmake --preset release >/dev/null
cmake --build build/release --parallel "$(nproc)"
bin=$root/build/release/bin
model=$root/models/tandem-demo.gguf

logs=$(mktemp -d)
pids=()
stop() {
  trap - EXIT INT TERM
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do kill -TERM "${pids[i]}" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$logs"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

server=127.0.0.1:$port
fail() {
  echo "demo: $1" >&2
  tail -n 20 "$logs"/*.log >&2
  exit 1
}

echo "start: coordinator on $server and two workers"
"$bin/tandem-coordinator" --model "$model" --listen "$server" --min-workers 2 >"$logs/coordinator.log" 2>&1 &
pids+=($!)
for name in left right; do
  "$bin/tandem-worker" --coordinator "$server" --name "$name" --threads 1 >"$logs/$name.log" 2>&1 &
  pids+=($!)
done
"$bin/tandem" status --server "$server" --wait 60 >/dev/null || fail "the cluster did not come up within 60 seconds"
kill -0 "${pids[@]}" 2>/dev/null || fail "a process ended early"

echo
"$bin/tandem" status --server "$server"
echo
if [ -n "$prompt" ]; then
  echo "> $prompt"
  "$bin/tandem" generate --server "$server" --chat "$prompt"
else
  echo "> Once upon a time"
  "$bin/tandem" generate --server "$server" --max-tokens 160 "Once upon a time"
  for question in "What is Tandem?" "What is 17 plus 25?"; do
    echo
    echo "> $question"
    "$bin/tandem" generate --server "$server" --chat "$question"
  done
fi
echo
echo "stop: everything started here"
