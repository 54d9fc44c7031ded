#!/bin/sh
truncate -s 16M raw.img
head -c 1048576 /dev/urandom >only-read.img

# An empty qcow2 image of 16 MiB: header, refcount table, refcount block and L1 table are a cluster of
# 64 KiB each (QEMU's docs/interop/qcow2.rst).
truncate -s 256K cow
at() { dd of=cow bs=1 seek="$1" conv=notrunc 2>/dev/null; }
printf 'QFI\373\0\0\0\003' | at 0
printf '\0\0\0\020\0\0\0\0\001\0\0\0' | at 20                # cluster bits, size
printf '\0\0\0\0\0\0\0\001\0\0\0\0\0\003\0\0' | at 32        # no encryption, L1: entries, place
printf '\0\0\0\0\0\001\0\0\0\0\0\001' | at 48                # refcount table: place, clusters
printf '\0\0\0\004\0\0\0\150' | at 96                        # refcounts of 16 bits, header length
printf '\0\0\0\0\0\002\0\0' | at 65536
printf '\0\001\0\001\0\001\0\001' | at 131072
