#!/bin/sh
# $1 is the folder, beside which are the programs of others.
dd if=/dev/urandom of=disk.img bs=1M count=32 2>/dev/null
md5sum <disk.img >before.sum
backends=$1/../../backends
LD_LIBRARY_PATH=$backends/lib "$backends/qemu-storage-daemon" \
    --blockdev driver=file,filename=disk.img,node-name=disk,discard=unmap \
    --export type=vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path=disk.sock,writable=on,num-queues=2 \
    >log 2>&1 &
echo $! >daemon.pid
until [ -S disk.sock ]; do usleep 10000; done
