#!/bin/sh
# shellcheck disable=SC2164 # `sh -e` runs it
mkdir -p /tmp/named /tmp/nameless
mount -t virtiofs by-daemon /tmp/named
mount -t virtiofs by-config /tmp/nameless
[ "$(cat /tmp/nameless/file)" = hello ]
cd /tmp/named
md5sum -c sums
dd if=/dev/urandom of=written bs=64k count=160 2>/dev/null
mkdir made
mv written made/moved
md5sum made/moved >moved.sums
md5sum -c moved.sums
i=0
while [ $i -lt 200 ]; do
    echo $i >made/$i
    i=$((i + 1))
done
[ "$(cat made/?? | wc -l)" = 90 ]
rm made/1??
cd /
umount /tmp/named /tmp/nameless
# Once more: what the host has of it is there.
mount -t virtiofs by-daemon /tmp/named
(cd /tmp/named && md5sum -c moved.sums)
umount /tmp/named
