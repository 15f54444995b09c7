#!/usr/bin/env bash
# Prints a Python that has OpenAI's SDK, which the examples use: a virtual environment in the cache, made at the first call.
set -euo pipefail

SDK=3.57.0
CACHE=${XDG_CACHE_HOME:-${HOME:?is not set}/.cache}/tollway
VENV=$CACHE/openai-$SDK

mkdir -p "$CACHE"
# Two that find it missing at the same time must not write over each other.
exec 8>"$VENV.lock"
flock 8
# Its stamp says that it is whole.
if [[ ! -e $VENV/whole ]]; then
  rm -rf "$VENV"
  python3 -m venv "$VENV" >&2
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "openai==$SDK" >&2
  touch "$VENV/whole"
fi
printf '%s\n' "$VENV/bin/python"
