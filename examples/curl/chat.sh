#!/bin/sh
# One chat call, tagged with what it is for. The response headers name the deployment, the attempts and the cost.
set -eu
url=${TOLLWAY_URL:-http://127.0.0.1:8787}

curl --silent --show-error --fail-with-body --include "$url/v1/chat/completions" \
  --header "Authorization: Bearer $TOLLWAY_API_KEY" \
  --header 'Content-Type: application/json' \
  --header 'x-tollway-tags: feature=support,customer=acme' \
  --data '{"model": "gpt-sim", "messages": [{"role": "user", "content": "Where is my parcel?"}], "max_tokens": 100}'
