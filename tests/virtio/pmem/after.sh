#!/bin/sh
cmp image image.before
[ "$(wc -c <disk.img)" = $((32 << 20)) ]
[ "$(uname -m)" = riscv64 ] || grep -q "this was written by the guest" disk.img
