# shellcheck shell=bash
# Processes that a script starts, and the promise that none of them outlives it. To be sourced after say.sh.
# Each gets a session of its own: Ctrl-C then reaches this script alone, which ends them in order. None of them inherits
# descriptor 9, the lock of a script that runs once at a time.

CHILD=           # the one that is waited for
CHILD_MAY_END=   # set: it is let to its end, as a package manager has to be
SERVICES=()      # process ids of what runs beside, in the order in which to end it
declare -A END_BY=() # process id → the signal that ends it in order, where that is not TERM

# watched LABEL LOG COMMAND…: runs it with its output in LOG and shows that it is alive; on failure shows the log's end.
# A function named by $PROGRESS tells more of the state than the label.
watched() {
  local label=$1 log=$2 began=$SECONDS status=0
  shift 2
  setsid "$@" >"$log" 2>&1 </dev/null 9>&- &
  CHILD=$!
  while [[ -d /proc/$CHILD ]]; do
    progress "$(clock $((SECONDS - began)))  $label$(${PROGRESS:-true} "$log")"
    sleep 0.5
  done
  wait "$CHILD" || status=$?
  CHILD=
  progress_end
  if ((status != 0)); then
    printf '\n' >&2
    tail -n 25 "$log" >&2
  fi
  return "$status"
}

# waited COMMAND…: runs it with its output shown, such that a signal to this script is heeded at once.
waited() {
  local status=0
  setsid "$@" </dev/null 9>&- &
  CHILD=$!
  wait "$CHILD" || status=$?
  CHILD=
  return "$status"
}

# service LOG COMMAND…: runs it beside; its process id is in $SERVICE.
service() {
  local log=$1
  shift
  setsid "$@" >"$log" 2>&1 </dev/null 9>&- &
  SERVICE=$!
  SERVICES=("$SERVICE" "${SERVICES[@]}")
}

# until_ready WHAT PID LOG SECONDS CHECK…: waits for CHECK to hold.
until_ready() {
  local what=$1 pid=$2 log=$3 deadline=$((SECONDS + $4))
  shift 4
  until "$@"; do
    if [[ ! -d /proc/$pid ]]; then
      tail -n 25 "$log" >&2
      fail "$what ended at its start. What it said is above, and in $log."
    fi
    ((SECONDS < deadline)) || fail "$what does not answer." "Its log: $log"
    progress "waiting for $what"
    sleep 0.2
  done
  progress_end
}

# end_processes: everything above, the newest service first, each with time to end in order.
end_processes() {
  local pid tries
  if [[ -n $CHILD ]]; then
    [[ -n $CHILD_MAY_END ]] || kill -TERM -- "-$CHILD" 2>/dev/null || true
    wait "$CHILD" 2>/dev/null || true
    CHILD=
  fi
  for pid in "${SERVICES[@]}"; do
    kill -"${END_BY[$pid]:-TERM}" "$pid" 2>/dev/null || continue
    for ((tries = 0; tries < 450; tries++)); do
      [[ -d /proc/$pid ]] || break
      sleep 0.1
    done
    if [[ -d /proc/$pid ]]; then kill -KILL "$pid" 2>/dev/null || true; fi
    wait "$pid" 2>/dev/null || true
  done
  SERVICES=()
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# answers URL: whether a GET of it succeeds, whatever proxy the environment names.
answers() {
  python3 - "$1" 2>/dev/null <<'PY'
import sys, urllib.request
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1], timeout=5).read()
PY
}
