#!/bin/sh
./socket_peer echo vsock:2000 &
echoing=$!
./socket_peer send vsock:1000 4
if ./socket_peer send vsock:1001 1; then
    echo "who is at port 1001?"
    exit 1
fi
wait $echoing
