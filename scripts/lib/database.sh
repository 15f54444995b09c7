# shellcheck shell=bash
# shellcheck disable=SC2034  # END_BY is read in processes.sh
# A PostgreSQL cluster for tests, thrown away afterwards. To be sourced after needs.sh.
# fsync is off: what has to survive a crash is tested on clusters that those tests make themselves.

# start_database DIR: the cluster is in DIR; its URL, without a database's name, is in $DATABASE_SERVER.
start_database() {
  local dir=$1 password port user
  local -a as=()
  password=$(head -c 24 /dev/urandom | base64 | tr -dc a-zA-Z0-9)
  port=$(free_port)
  mkdir "$dir"
  echo "$password" >"$dir/password"
  if ((EUID == 0)); then
    user=$(postgres_user) || fail 'PostgreSQL refuses to run as root, and there is neither a user postgres nor a user nobody.' \
      'Run this as an ordinary user.'
    chown -R "$user" "$dir"
    as=(setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups)
  fi
  (cd "$dir" && "${as[@]}" "$POSTGRES_BIN/initdb" -D "$dir/data" -U postgres -E UTF8 --locale=C -N -A scram-sha-256 \
    --pwfile="$dir/password") >"$dir.log" 2>&1 || fail 'PostgreSQL could not make a cluster:' "$(tail -n 5 "$dir.log")"
  service "$dir.log" "${as[@]}" "$POSTGRES_BIN/postgres" -D "$dir/data" -k "$dir" -p "$port" \
    -c listen_addresses=127.0.0.1 -c max_connections=300 -c shared_buffers=256MB -c max_wal_size=4GB \
    -c fsync=off -c synchronous_commit=off -c full_page_writes=off
  END_BY["$SERVICE"]=INT
  until_ready PostgreSQL "$SERVICE" "$dir.log" 60 grep -q 'ready to accept connections' "$dir.log"
  DATABASE_SERVER=postgres://postgres:$password@127.0.0.1:$port
}

# Whom PostgreSQL, which refuses to run as root, runs as.
postgres_user() {
  local name
  for name in postgres nobody; do
    if id -u "$name" >/dev/null 2>&1; then
      echo "$name"
      return
    fi
  done
  return 1
}

# migrated_database NAME: a database with the schema.
migrated_database() {
  local file
  "$POSTGRES_BIN/psql" -qX "$DATABASE_SERVER/postgres" -c "create database $1"
  for file in migrations/*.sql; do
    "$POSTGRES_BIN/psql" -qX1 -v ON_ERROR_STOP=1 -o /dev/null "$DATABASE_SERVER/$1" -f "$file"
  done
}
