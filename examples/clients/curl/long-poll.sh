#!/usr/bin/env bash
# Asks for the status in requests that the gateway holds until something changes.
# usage: long-poll.sh TYPE BODY
set -euo pipefail
base=${TIDEGATE_URL:-http://127.0.0.1:8080}
key="x-api-key: ${TIDEGATE_API_KEY:-}"
url=$base$(curl -sS --fail-with-body "$base/v1/jobs/$1" -H "$key" \
    -H 'content-type: application/json' -H 'prefer: respond-async' -d "$2" | sed 's/.*"statusUrl":"\([^"]*\)".*/\1/')
document=$(mktemp)
trap 'rm -f "$document"' EXIT
tag='"none"' # not that of any status, so that the first answer comes at once
while :; do
    read -r code pause tag < <(curl -sS --max-time 45 -o "$document" -H "$key" -H "if-none-match: $tag" \
        -w '%{http_code} 0%header{retry-after} %header{etag}\n' "$url?wait=30")
    case $code in
    200)
        [[ $(<"$document") =~ \"status\":\"([a-z-]+)\" ]]
        echo "${BASH_REMATCH[1]}"
        case ${BASH_REMATCH[1]} in
        completed) cat "$document" && exit 0 ;;
        failed | dead-lettered | cancelled | expired) cat "$document" && exit 1 ;;
        esac
        ;;
    304) ;; # nothing in all that time
    503) sleep "$((10#$pause > 0 ? 10#$pause : 1))" ;;
    *) cat "$document" >&2 && exit 1 ;;
    esac
done
