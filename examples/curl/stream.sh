#!/bin/sh
# A streamed chat call: server-sent events, the last one is [DONE].
set -eu
url=${TOLLWAY_URL:-http://127.0.0.1:8787}

curl --silent --show-error --fail-with-body --no-buffer "$url/v1/chat/completions" \
  --header "Authorization: Bearer $TOLLWAY_API_KEY" \
  --header 'Content-Type: application/json' \
  --data '{"model": "gpt-sim", "messages": [{"role": "user", "content": "Where is my parcel?"}], "stream": true}'
