#!/bin/sh
# The backend ends with its guest, and has had nothing to complain of.
for _ in $(seq 100); do
    kill -0 "$(cat backend)" 2>/dev/null || break
    usleep 100000
done
if kill -0 "$(cat backend)" 2>/dev/null; then
    echo "the backend still runs"
    exit 1
fi
cat log
[ ! -s log ]
