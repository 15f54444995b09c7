#!/bin/sh
# What a job would cost, and how long it would take. Nothing is stored and no model is called.
set -eu
url=${TOLLWAY_URL:-http://127.0.0.1:8787}
lines=$(dirname "$0")/../reindex.jsonl

curl --silent --show-error --fail-with-body --upload-file "$lines" --request POST "$url/api/v1/quotes?tags=feature=reindex" \
  --header "Authorization: Bearer $TOLLWAY_API_KEY" \
  --header 'Content-Type: application/jsonl'
