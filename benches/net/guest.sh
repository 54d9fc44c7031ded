# shellcheck shell=sh
# Runs in the guest: guest.sh tap|user. TCP between it and the host by its one card, in both directions, and requests that
# wait for their answers. For each job a line `net: begin JOB` before it, and `net: end JOB FIGURE COUNT` after it: KiB/s
# and MiB, or requests/s and requests.
card=$(basename "$(dirname "$(ls -d /sys/class/net/*/device)")")
ip link set lo up
ip link set "$card" up
case $1 in
    tap)
        server=10.0.7.1
        ip addr add 10.0.7.2/24 dev "$card"
        ;;
    user)
        cat >/tmp/lease <<'END_LEASE'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip link set "$interface" mtu "${mtu:-1500}"
ip addr add "$ip/$mask" dev "$interface"
ip route add default via "$router" dev "$interface"
END_LEASE
        chmod +x /tmp/lease
        udhcpc -i "$card" -s /tmp/lease -n -q -f -t 20 -T 1 -O mtu >/dev/null 2>&1 || exit
        # Where the host's own services are.
        server=192.0.2.1
        ;;
esac

# bulk JOB [OPTION]…: iperf3's figures of what arrived.
bulk() {
    job=$1
    shift
    # Not the first touch of anything.
    /programs/run iperf3 -c $server -t 1 "$@" >/dev/null
    echo "net: begin $job"
    /programs/run iperf3 -c $server -t 5 -f K "$@" >/tmp/log
    awk -v job="$job" '/receiver/ { for (i = 1; i < NF; i++) if ($(i + 1) == "KBytes/sec") rate = $i
        printf "net: end %s %d %d\n", job, rate, rate * 5 / 1024 }' /tmp/log
}

bulk $1-to-host
bulk $1-to-guest -R
/programs/run sockperf ping-pong --tcp -i $server -p 5555 -t 1 >/dev/null
echo "net: begin $1-requests"
/programs/run sockperf ping-pong --tcp -i $server -p 5555 -t 5 >/tmp/log
sed -n 's/.*\[Total Run\] RunTime=\([0-9.]*\) sec;.*ReceivedMessages=\([0-9]*\).*/\1 \2/p' /tmp/log |
    awk -v job="$1-requests" '{ printf "net: end %s %d %d\n", job, $2 / $1, $2 }'
