#!/bin/sh
# $1 is the folder, beside which are the programs of others. One of the daemons knows its own name, the other has none.
backends=$1/../../backends
mkdir named nameless
dd if=/dev/urandom of=named/big bs=1M count=20 2>/dev/null
(cd named && md5sum big >sums)
echo hello >nameless/file
serve() {
    name=$1
    shift
    LD_LIBRARY_PATH=$backends/lib "$backends/virtiofsd" --socket-path "$name.sock" --shared-dir "$name" \
        --sandbox none --log-level warn "$@" >"$name.log" 2>&1 &
    echo $! >"$name.pid"
    until [ -S "$name.sock" ]; do usleep 10000; done
}
serve named --tag by-daemon
serve nameless --cache auto
