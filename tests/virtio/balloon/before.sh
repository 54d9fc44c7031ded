#!/bin/sh
# Writes down how far the guest's memory in the host falls below the most that it has been, in KiB.
(
    most=0 fallen=0
    while sleep 0.2; do
        pid=$(pidof axvmm) || continue
        now=$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/${pid%% *}/status")
        [ -n "$now" ] || continue
        [ "$now" -le "$most" ] || most=$now
        [ $((most - now)) -le $fallen ] || {
            fallen=$((most - now))
            echo $fallen >fallen
        }
    done
) >/dev/null 2>&1 &
echo $! >sampler
