#!/bin/sh
# The network that the guest is to be in, as it were: that of the host's default route.
brctl addbr br0
ip addr add 192.0.2.2/24 dev br0
ip link set br0 up
ip route add default via 192.0.2.1
# Debian's passt ends with a segmentation fault when no more fits into the socket between it and a slow guest.
echo 33554432 >/proc/sys/net/core/wmem_max
mkdir www
dd if=/dev/urandom of=www/data bs=64k count=64 2>/dev/null
md5sum <www/data >www/sum
httpd -f -p 127.0.0.1:8001 -h "$PWD/www" &
echo $! >httpd.pid
# Datagrams to the guest's port.
while :; do timeout 1 tftp -g -r none -l none 127.0.0.1 8053 || :; done >/dev/null 2>&1 &
echo $! >sender.pid
# passt ends with its guest, or before that.
if [ "$TRANSPORT" = mmio ]; then echo yes >www/ends; else echo no >www/ends; fi
# What comes from the guest through the forwarded port.
{
    until wget -q -O tcp http://127.0.0.1:8080/ && [ -s tcp ]; do usleep 100000; done
    if [ "$(cat www/ends)" = yes ]; then
        grep -l '^passt' /proc/[0-9]*/comm | while read -r process; do
            kill -9 "$(basename "$(dirname "$process")")"
        done
    fi
} 2>/dev/null &
