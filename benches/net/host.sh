# shellcheck shell=sh
# Runs in the emulated host: host.sh ROUNDS NAME=COMMAND…
# Each COMMAND runs a guest that runs guest.sh, and talks to servers here. Prints `net: NAME JOB FIGURE EXITS…` for
# each job, exits for each MiB or request, as counters.sh has them. Nothing else may run guests on this host.
. ./counters.sh

./programs/run iperf3 -s >/dev/null 2>&1 &
./programs/run sockperf server --tcp -i 0.0.0.0 -p 5555 >/dev/null 2>&1 &
# The network that a user's guest is to be in, as it were: that of the host's default route.
brctl addbr br0
ip addr add 192.0.2.2/24 dev br0
ip link set br0 up
ip route add default via 192.0.2.1
# What a VMM makes gets its address as soon as it is there.
while true; do
    ip addr add 10.0.7.1/24 dev tap0 2>/dev/null && ip link set tap0 up
    usleep 100000
done &

before_each() { :; }
take_turns net "$@"
