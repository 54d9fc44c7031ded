# shellcheck shell=sh
# Runs in the emulated host: host.sh ROUNDS NAME=COMMAND…
# Each COMMAND runs a guest that runs guest.sh. Prints `io: NAME JOB OPERATIONS/S EXITS…` for each job, exits for each
# operation, as counters.sh has them. Nothing else may run guests on this host.
. ./counters.sh

# A block device that nobody has open is in no cache.
exec 5</dev/vdb
before_each() { cat /dev/vdb >/dev/null; }
take_turns io "$@"
