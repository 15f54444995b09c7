# shellcheck shell=bash
# What a script tells: numbered steps with the time that has passed, and calm lines below them. To be sourced.

INDENT='             '
STEP=0
STEPS=0
LAST_PROGRESS=0

# Seconds as m:ss.
clock() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }

# steps N: so many will be announced.
steps() { STEPS=$1; }

step() {
  STEP=$((STEP + 1))
  printf '\n[%6s] %d/%d  %s\n' "$(clock "$SECONDS")" "$STEP" "$STEPS" "$1"
}

tell() { printf '%s%s\n' "$INDENT" "$1"; }

# Lines of standard input, indented.
told() { sed -u "s/^/$INDENT/"; }

# What goes on now: rewritten in place on a terminal, elsewhere a line every 15 seconds.
progress() {
  if [[ -t 1 ]]; then
    local width=${COLUMNS:-$(tput cols 2>/dev/null || echo 80)}
    printf '\r\033[K%.*s' "$((width - 1))" "$INDENT$1"
  elif ((SECONDS >= LAST_PROGRESS + 15)); then
    LAST_PROGRESS=$SECONDS
    tell "$1"
  fi
}

progress_end() { if [[ -t 1 ]]; then printf '\r\033[K'; fi; }

# fail SENTENCE [WHAT TO DO…]: the end.
fail() {
  progress_end
  printf '\n%s\n' "$1" >&2
  shift
  local advice
  for advice in "$@"; do printf '  %s\n' "$advice" >&2; done
  exit 1
}
