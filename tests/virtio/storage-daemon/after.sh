#!/bin/sh
# What the guest has read, and what it has written, is what is here.
[ "$(dd if=disk.img bs=512 skip=2048 count=1 2>/dev/null | head -n 1)" = "$(cat before.sum)" ]
[ "$(dd if=disk.img bs=512 skip=4096 count=1 2>/dev/null | head -n 1)" = "$(dd if=disk.img bs=1M skip=16 count=8 2>/dev/null | md5sum)" ]
# It waits for the next guest.
kill "$(cat daemon.pid)"
cat log
[ ! -s log ]
