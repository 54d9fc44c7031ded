#!/bin/sh
# The interface is axvmm's to make; it gets its address as soon as it is there.
mkdir www
dd if=/dev/urandom of=www/data bs=64k count=64 2>/dev/null
md5sum <www/data >www/sum
{
    until ip addr add 10.0.8.1/24 dev tap1 2>/dev/null; do usleep 10000; done
    ip link set tap1 up
    # The kernel's threads that do the work are axvmm's.
    until grep -h '^vhost-' /proc/[0-9]*/task/*/comm >threads 2>/dev/null; do usleep 100000; done
} &
httpd -f -p 8004 -h "$PWD/www" &
echo $! >httpd.pid
