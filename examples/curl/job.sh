#!/bin/sh
# A job: submit a file of requests, wait for its end, read the result lines in the order of the file.
set -eu
url=${TOLLWAY_URL:-http://127.0.0.1:8787}
lines=$(dirname "$0")/../reindex.jsonl
key="Authorization: Bearer $TOLLWAY_API_KEY"

# A second run on the same day finds the first run's job: the Idempotency-Key is the same.
job=$(curl --silent --show-error --fail-with-body --upload-file "$lines" --request POST \
  "$url/api/v1/jobs?lane=bulk&tags=feature=reindex&max_cost=5" \
  --header "$key" --header 'Content-Type: application/jsonl' --header "Idempotency-Key: reindex-$(date +%F)" |
  sed -n 's/.*"id": *"\(job_[a-z0-9]*\)".*/\1/p')
[ -n "$job" ] # else the error is above
echo "submitted $job" >&2

# follow=true waits for each line that has no result yet, and ends with the job.
curl --silent --show-error --fail-with-body "$url/api/v1/jobs/$job/results?follow=true" --header "$key"
