#!/bin/sh
card=$(basename "$(dirname "$(grep -l 02:00:00:00:00:02 /sys/class/net/*/address)")")
[ "$(cat /sys/class/net/"$card"/mtu)" = 65520 ]
ip link set "$card" up
[ "$(cat /sys/class/net/"$card"/carrier)" = 1 ]
cat >/tmp/lease <<'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add "$ip/$mask" dev "$interface"
ip route add default via "$router" dev "$interface"
END
chmod +x /tmp/lease
udhcpc -i "$card" -s /tmp/lease -n -q -f -t 20 -T 1
ip addr show dev "$card" | grep 'inet 192.0.2.2/24'
# The host's own services are at the gateway's address.
wget -q -O /tmp/data http://192.0.2.1:8001/data
[ "$(md5sum </tmp/data)" = "$(wget -q -O - http://192.0.2.1:8001/sum)" ]
rm /tmp/data
# Datagrams come to a port where nobody listens.
refused() { awk '/^Udp:/ { refused = $3 } END { print refused }' /proc/net/snmp; }
before=$(refused)
for _ in $(seq 300); do
    [ "$(refused)" = "$before" ] || break
    usleep 100000
done
[ "$(refused)" != "$before" ]
ends=$(wget -q -O - http://192.0.2.1:8001/ends)
# Somebody comes through the forwarded port.
printf 'HTTP/1.0 200 OK\r\n\r\nthe guest says hello\n' | timeout 120 nc -l -p 80
# At the network's end the cable is unplugged.
[ "$ends" = yes ] || exit 0
for _ in $(seq 300); do
    [ "$(cat /sys/class/net/"$card"/carrier)" = 1 ] || break
    usleep 100000
done
[ "$(cat /sys/class/net/"$card"/carrier)" = 0 ]
