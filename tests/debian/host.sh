#!/bin/sh
# In an emulated host, with the arguments of `axvmm run`: a guest in the user's own network, where the gateway is the
# host with what it serves for itself alone.
set -e
# The network of the host's default route, as it were.
brctl addbr br0
ip addr add 192.0.2.2/24 dev br0
ip link set br0 up
ip route add default via 192.0.2.1
httpd -p 127.0.0.1:8000 -h repository
exec axvmm run --net user "$@"
