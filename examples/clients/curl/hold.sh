#!/usr/bin/env bash
# Waits for the answer in the request itself. What takes longer comes as 202 with the job's URL: the job goes on.
# usage: hold.sh TYPE BODY
set -euo pipefail
base=${TIDEGATE_URL:-http://127.0.0.1:8080}
# Above what is asked for, so that the gateway has the last word and not the clock of this program.
exec curl -sS --fail-with-body --max-time 40 "$base/v1/jobs/$1" -H "x-api-key: ${TIDEGATE_API_KEY:-}" \
    -H 'content-type: application/json' -H 'prefer: wait=25' -d "$2"
