#!/usr/bin/env bash
# Has the end of a job told to a URL, such as that of a receiver in examples/webhooks.
# usage: webhook.sh TYPE BODY URL
set -euo pipefail
base=${TIDEGATE_URL:-http://127.0.0.1:8080}
exec curl -sS --fail-with-body "$base/v1/jobs/$1" -H "x-api-key: ${TIDEGATE_API_KEY:-}" \
    -H 'content-type: application/json' -H 'prefer: respond-async' \
    -H "tidegate-callback-url: $3" -H 'tidegate-callback-events: job.completed, job.failed, job.dead_lettered, job.expired' -d "$2"
