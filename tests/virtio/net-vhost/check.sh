#!/bin/sh
find_card() {
    card=$(basename "$(dirname "$(grep -l 02:00:00:00:00:04 /sys/class/net/*/address)")")
    ip addr add 10.0.8.2/24 dev "$card"
    ip link set "$card" up
}
fetch() {
    wget -q -O /tmp/data http://10.0.8.1:8004/data
    [ "$(md5sum </tmp/data)" = "$(wget -q -O - http://10.0.8.1:8004/sum)" ]
    rm /tmp/data
}
find_card
[ -d "/sys/class/net/$card/queues/rx-1" ]
ping -c 3 -w 30 10.0.8.1
fetch
# The driver resets the device in the middle of traffic, and comes back.
device=$(basename "$(dirname "$(dirname "$(readlink -f "/sys/class/net/$card")")")")
for _ in 1 2 3; do
    ping -q -A -s 1400 -w 60 10.0.8.1 &
    wget -q -O /dev/null http://10.0.8.1:8004/data &
    usleep 200000
    echo "$device" >/sys/bus/virtio/drivers/virtio_net/unbind
    kill %1 %2 || true
    echo "$device" >/sys/bus/virtio/drivers/virtio_net/bind
    find_card
    ping -c 1 -w 30 10.0.8.1
done
fetch
