# shellcheck shell=bash
# Downloading and compiling crates, with progress. To be sourced after processes.sh.

CRATES=0 # at most so many a build compiles

# get_crates LOG WHICH…: downloads the crates that `cargo tree` names for WHICH, and counts them.
get_crates() {
  local log=$1
  shift
  watched 'downloading crates' "$log" cargo tree --locked --prefix none "$@" ||
    fail 'The crates could not be downloaded; what cargo said is above.' 'It takes a connection to crates.io, this once.'
  CRATES=$(sed -nE 's/^([a-zA-Z0-9_-]+ v[0-9][^ ]*).*/\1/p' "$log" | sort -u | wc -l)
}

# own_checkout: cargo tells the crates of two checkouts apart by nothing but their files' times, so what was built of the other
# one may pass for this one's. To be called before compiling.
own_checkout() {
  local stamp=$CARGO_TARGET_DIR/checkout
  [[ $(cat "$stamp" 2>/dev/null) == "$PWD" ]] && return
  find crates tests -name '*.rs' -exec touch {} +
  mkdir -p "$CARGO_TARGET_DIR"
  echo "$PWD" >"$stamp"
}

# What cargo's output in the file $1 says of how far it is.
build_progress() {
  local last
  last=$(grep -E '^ *(Compiling|Blocking)' "$1" | tail -n 1) || return 0
  case $last in
    *Blocking*) printf ': waiting for another build' ;;
    *) printf ' %d of %d crates: %s' "$(grep -cE '^ *Compiling' "$1")" "$CRATES" "$(awk '{print $2}' <<<"$last")" ;;
  esac
}
