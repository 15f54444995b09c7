#!/bin/sh
# Vectors of two texts in one call.
set -eu
url=${TOLLWAY_URL:-http://127.0.0.1:8787}

curl --silent --show-error --fail-with-body "$url/v1/embeddings" \
  --header "Authorization: Bearer $TOLLWAY_API_KEY" \
  --header 'Content-Type: application/json' \
  --data '{"model": "embed-sim", "input": ["The first text.", "The second text."]}'
