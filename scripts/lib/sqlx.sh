# shellcheck shell=bash
# .sqlx: what the macros of sqlx know of each query, so that compiling needs no database. To be sourced after database.sh.

# sqlx_prepare DIR LOG WHICH…: compiles the crates that WHICH tells cargo, the tests too, against a database with the schema,
# and has the macros write what they find into DIR.
sqlx_prepare() {
  local dir=$1 log=$2
  shift 2
  migrated_database prepare
  # Macros only write when they run, and cargo does not know of the database. All SQL is in this crate.
  touch crates/store/src/lib.rs
  mkdir -p "$dir"
  PROGRESS=build_progress watched 'compiling' "$log" \
    env SQLX_OFFLINE=false SQLX_OFFLINE_DIR="$dir" DATABASE_URL="$DATABASE_SERVER/prepare" \
    cargo test --locked --no-run "$@"
}

# Changes with everything that .sqlx depends on.
sqlx_fingerprint() {
  find crates/store migrations .sqlx Cargo.lock -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum
}

# same_queries KEPT FRESH: whether two such folders agree; tells where not.
same_queries() {
  diff -rq "$1" "$2" && return
  echo "$1 is not what the code and the schema give: run scripts/sqlx-prepare, and commit $1."
  return 1
}
