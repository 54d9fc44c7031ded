#!/bin/sh
card=$(basename "$(dirname "$(grep -l 02:00:00:00:00:01 /sys/class/net/*/address)")")
ip addr add 10.0.7.2/24 dev "$card"
ip link set "$card" up
[ -d "/sys/class/net/$card/queues/rx-1" ]
ping -c 3 -w 30 10.0.7.1
# Through segmentation and checksum offloads, which Linux uses when they are there.
wget -q -O /tmp/data http://10.0.7.1:8000/data
[ "$(md5sum </tmp/data)" = "$(wget -q -O - http://10.0.7.1:8000/sum)" ]
# The longest packets that fit.
ping -c 1 -w 30 -s 1472 10.0.7.1
rm /tmp/data
