# shellcheck shell=sh
# Exits of all guests of this x86_64 host, by their reason (AMD64 Architecture Programmer's Manual, volume 2, appendix C).
[ -e /sys/kernel/tracing/events ] || mount -t tracefs trace /sys/kernel/tracing
event=/sys/kernel/tracing/events/kvm/kvm_exit

# take_turns PART ROUNDS NAME=COMMAND…: runs each COMMAND, a guest that says `PART: begin` and `PART: end JOB FIGURE COUNT`,
# and prints `PART: NAME JOB FIGURE EXITS…` for each job, exits for each of COUNT. before_each comes before each guest.
take_turns() {
    part=$1 rounds=$2
    shift 2
    for _ in $(seq "$rounds"); do
        for contender; do
            name=${contender%%=*}
            before_each
            sh -c "${contender#*=}" </dev/null 2>/tmp/errors | tr -d '\r' | while read -r word what job figure count; do
                case "$word $what" in
                    "$part: begin") mark ;;
                    "$part: end") echo "$part: $name $job $figure $(since "$count")" ;;
                esac
            done
            [ ! -s /tmp/errors ] || sed "s/^/$name: /" /tmp/errors >&2
        done
    done
}

# Counts from here.
mark() {
    echo '!hist:keys=exit_reason' >$event/trigger
    echo 'hist:keys=exit_reason' >$event/trigger
}

# since COUNT: exits since the mark, divided by COUNT: all, for accesses to devices' memory or ports, halts, accesses to
# MSRs, and for interrupts of the host's, which are its timer's and kicks.
since() {
    awk -v n="$1" '
        /exit_reason:/ {
            reason = $3 + 0
            count = $NF
            all += count
            if (reason == 1024 || reason == 123) access += count
            if (reason == 120) halt += count
            if (reason == 124) msr += count
            if (reason == 96) host += count
        }
        END {
            if (!n) n = 1
            printf "%.3f %.3f %.3f %.3f %.3f\n", all / n, access / n, halt / n, msr / n, host / n
        }' $event/hist
}
