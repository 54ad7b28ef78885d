#!/usr/bin/env bash
# Follows a job as server-sent events. A stream that breaks is taken up again where it was.
# usage: events.sh TYPE BODY
set -euo pipefail
base=${TIDEGATE_URL:-http://127.0.0.1:8080}
key="x-api-key: ${TIDEGATE_API_KEY:-}"
job=$(curl -sS --fail-with-body "$base/v1/jobs/$1" -H "$key" \
    -H 'content-type: application/json' -H 'prefer: respond-async' -d "$2" | sed 's/.*"jobId":"\([^"]*\)".*/\1/')
last='' event='' data='' failures=0
while ((failures < 10)); do
    failures=$((failures + 1))
    while IFS= read -r line; do
        case $line in
        'id: '*) last=${line#id: } ;;
        'event: '*) event=${line#event: } ;;
        'data: '*) data+=${line#data: } ;;
        '') # an event is whole
            if [[ -z $data ]]; then continue; fi
            echo "$event $data"
            case $event in
            completed) exit 0 ;;
            failed | dead-lettered | cancelled | expired) exit 1 ;;
            esac
            event='' data='' failures=0
            ;;
        esac
    # Heartbeats come every 15 s: a stream that is silent for longer is dead.
    done < <(curl -sSN --fail --speed-limit 1 --speed-time 45 -H "$key" -H "last-event-id: $last" "$base/v1/jobs/$job/events")
    event='' data=''
    sleep 1
done
echo "no stream of job $job can be had" >&2
exit 1
