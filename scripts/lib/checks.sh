# shellcheck shell=bash
# shellcheck disable=SC2154  # $LOGS, $RUN and $WHICH_TESTS are scripts/test's
# What scripts/test looks at, and its count. To be sourced by it.

PASSED=0
FAILED=0

# check NAME COMMAND…: a check that passes or fails.
check() {
  local name=$1 began=$SECONDS log status=0
  log=$LOGS/$(tr -cs 'a-z\n' - <<<"$1").log
  shift
  if [[ $(type -t "$1") == function ]]; then
    "$@" >"$log" 2>&1 || { status=$? && told <"$log"; }
  else
    watched "$name" "$log" "$@" || status=$?
  fi
  if ((status == 0)); then
    PASSED=$((PASSED + 1))
    tell "ok      $name, $(clock $((SECONDS - began)))"
  else
    FAILED=$((FAILED + 1))
    tell "FAILED  $name; all that was said is in $log"
  fi
}

need_components() {
  if ! { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1; then
    fail 'rustfmt or clippy is missing.' 'Install them, then run this again:' '  rustup component add rustfmt clippy'
  fi
}

# All tests, and with them the program that the stories run. Against a live schema when something may have changed that .sqlx
# depends on: one compilation then does for both. Clippy compiles against .sqlx in any case.
compile_tests() {
  local stamp=$CARGO_TARGET_DIR/sqlx-checked fingerprint
  own_checkout
  fingerprint=$(sqlx_fingerprint)
  if [[ $(cat "$stamp" 2>/dev/null) == "$fingerprint" ]]; then
    PROGRESS=build_progress watched 'compiling' "$LOGS/build.log" cargo test --locked --workspace --no-run || cannot_compile
    tell 'ok      .sqlx, unchanged since it was last compared with the schema'
  else
    sqlx_prepare "$RUN/sqlx" "$LOGS/build.log" --workspace || cannot_compile
    check '.sqlx' same_queries .sqlx "$RUN/sqlx"
    ((FAILED > 0)) || echo "$fingerprint" >"$stamp"
  fi
}

cannot_compile() { fail "The tests do not compile; all that cargo said is in $LOGS/build.log" '' '0 passed, 1 failed'; }

# Reports run in a process of their own, so that polars never shares prod's memory.
links_no_frames() {
  local tree
  tree=$(cargo tree --locked -p "$1" -e normal --prefix none) || return
  ! grep -E '^(polars|arrow|parquet)' <<<"$tree"
}

# Every metric that a dashboard or an alert names is one that the code counts.
metrics_exist() {
  local name missing=0
  while read -r name; do
    grep -rqF "\"$name\"" crates --include='*.rs' && continue
    [[ $name =~ ^(.*)_(bucket|sum|count)$ ]] && grep -rqF "\"${BASH_REMATCH[1]}\"" crates --include='*.rs' && continue
    echo "dashboards/ uses $name, which nothing in crates/ counts"
    missing=1
  done < <(grep -rohE '\btollway_[a-z_]+' dashboards | sort -u)
  return "$missing"
}

# The guard is tested before it is trusted.
check_structure() { scripts/structure --self-test && scripts/structure --check; }

# Runs all tests; a line for each group of them, and the words of those that fail.
run_tests() {
  local status=0 passed failed output reader
  exec {output}> >(python3 scripts/lib/summarise.py "$LOGS/tests.log" "$LOGS/counts" | told)
  reader=$!
  DATABASE_URL=$DATABASE_SERVER/postgres waited cargo test --locked --workspace --no-fail-fast "${WHICH_TESTS[@]}" \
    >&"$output" 2>&1 || status=$?
  exec {output}>&-
  wait "$reader"
  read -r passed failed <"$LOGS/counts"
  PASSED=$((PASSED + passed))
  FAILED=$((FAILED + failed))
  # Cargo may call something a failure that is no test.
  if ((status != 0 && failed == 0)); then
    FAILED=$((FAILED + 1))
    tail -n 20 "$LOGS/tests.log" | told
  fi
}
