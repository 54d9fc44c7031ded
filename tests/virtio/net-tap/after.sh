#!/bin/sh
# It goes with axvmm, which made it.
[ ! -e /sys/class/net/tap0 ]
kill "$(cat httpd.pid)"
