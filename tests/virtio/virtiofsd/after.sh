#!/bin/sh
# What the guest has done is here, and each daemon ends with its guest.
(cd named && md5sum -c sums moved.sums)
[ ! -e named/made/150 ]
[ "$(cat named/made/99)" = 99 ]
for name in named nameless; do
    for _ in $(seq 100); do
        kill -0 "$(cat $name.pid)" 2>/dev/null || break
        usleep 100000
    done
    cat $name.log
    if kill -0 "$(cat $name.pid)" 2>/dev/null; then exit 1; fi
done
