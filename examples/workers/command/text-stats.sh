#!/bin/sh
# A job as a program: the body comes on standard input, the result goes to standard output, exit code 0 completes the
# job. Counts lines, words and characters of a text.
set -eu
export LC_ALL=C.UTF-8
text=$(mktemp)
trap 'rm -f "$text"' EXIT
trap 'exit 143' TERM # the attempt's time is up
cat >"$text"
if ! iconv -f UTF-8 -t UTF-8 "$text" >/dev/null 2>&1; then
    echo "job $TIDEGATE_JOB_ID: the body is not UTF-8" >&2 # the last line is the message of the failure
    exit 1
fi
# shellcheck disable=SC2046,SC2183 # wc prints three numbers
printf '{"lines":%d,"words":%d,"characters":%d}\n' $(wc -lwm <"$text")
