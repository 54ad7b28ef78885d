#!/usr/bin/env bash
# Asks for the status again and again: as seldom as the gateway says, and with the tag of what is known already.
# usage: poll.sh TYPE BODY
set -euo pipefail
base=${TIDEGATE_URL:-http://127.0.0.1:8080}
key="x-api-key: ${TIDEGATE_API_KEY:-}"
url=$base$(curl -sS --fail-with-body "$base/v1/jobs/$1" -H "$key" \
    -H 'content-type: application/json' -H 'prefer: respond-async' -d "$2" | sed 's/.*"statusUrl":"\([^"]*\)".*/\1/')
document=$(mktemp)
trap 'rm -f "$document"' EXIT
tag=
while :; do
    read -r code pause tag < <(curl -sS -o "$document" -H "$key" -H "if-none-match: $tag" \
        -w '%{http_code} 0%header{retry-after} %header{etag}\n' "$url")
    case $code in
    200) # The first status in the text is the job's own.
        [[ $(<"$document") =~ \"status\":\"([a-z-]+)\" ]]
        echo "${BASH_REMATCH[1]}"
        case ${BASH_REMATCH[1]} in
        completed) cat "$document" && exit 0 ;;
        failed | dead-lettered | cancelled | expired) cat "$document" && exit 1 ;;
        esac
        ;;
    304 | 503) ;; # nothing new; or not now, come again
    *) cat "$document" >&2 && exit 1 ;;
    esac
    sleep "$((10#$pause > 0 ? 10#$pause : 1))"
done
