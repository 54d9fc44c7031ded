#!/bin/sh
mkdir -p share/sub share/many aside
echo outside >secret
echo hello >share/sub/file
ln -s ../secret share/out
ln -s sub share/in
mkfifo share/pipe
dd if=/dev/urandom of=share/big bs=1M count=20 2>/dev/null
(cd share && md5sum big >sums)
echo 'as it was' >aside/file
mkdir aside/dir
i=0
while [ $i -lt 10000 ]; do
    echo $i >share/many/$i
    i=$((i + 1))
done
