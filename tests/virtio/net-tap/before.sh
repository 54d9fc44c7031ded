#!/bin/sh
# The interface is axvmm's to make; it gets its address as soon as it is there.
mkdir www
dd if=/dev/urandom of=www/data bs=64k count=64 2>/dev/null
md5sum <www/data >www/sum
{
    until ip addr add 10.0.7.1/24 dev tap0 2>/dev/null; do usleep 10000; done
    ip link set tap0 up
} &
httpd -f -p 8000 -h "$PWD/www" &
echo $! >httpd.pid
