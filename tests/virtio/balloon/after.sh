#!/bin/sh
kill "$(cat sampler)"
# Of the 160 MiB.
[ "$(cat fallen)" -gt $((100 * 1024)) ]
