#!/bin/sh
# shellcheck disable=SC2010,SC2012,SC2086,SC2164 # names of our own; `sh -e` runs it
# As set -e takes no notice of what ! turns round.
not() {
    if "$@"; then exit 1; fi
}

mkdir -p /tmp/plain /tmp/fixed /tmp/aside
mount -t virtiofs plain /tmp/plain
mount -t virtiofs -o ro fixed /tmp/fixed
mount -t virtiofs aside /tmp/aside

# Reading: contents, large ones whole, again from the cache, and at odd places.
cd /tmp/plain
[ "$(cat sub/file in/file)" = "$(printf 'hello\nhello')" ]
md5sum -c sums
md5sum -c sums
[ "$(dd if=big bs=12345 skip=1000 count=3 2>/dev/null | md5sum)" = "$(tail -c +12345001 big | head -c 37035 | md5sum)" ]

# A link out of the share leads to a place of the guest's own.
[ "$(readlink out)" = ../secret ]
not cat out
not cat /tmp/plain/../secret
echo mine >/tmp/secret
[ "$(cat out)" = mine ]
rm /tmp/secret

# Writing, changing, renaming, removing.
dd if=/dev/urandom of=written bs=64k count=160 2>/dev/null
md5sum written >written.sums
echo patch | dd of=written bs=1 seek=1000000 conv=notrunc 2>/dev/null
not md5sum -c written.sums 2>/dev/null
mkdir made
mv written made/moved
md5sum made/moved >moved.sums
echo more >>made/log
echo more >>made/log
[ "$(wc -l <made/log)" = 2 ]
ln made/log made/link
[ "$(stat -c %h made/log)" = 2 ]
chmod 640 made/log
[ "$(stat -c %a made/link)" = 640 ]
touch -d '2001-02-03 04:05:06' made/log
[ "$(stat -c %Y made/log)" = "$(date -d '2001-02-03 04:05:06' +%s)" ]
truncate -s 5 made/link
[ "$(cat made/log)" = more ]
exec 3<made/link
rm made/log made/link
[ "$(cat <&3)" = more ]
exec 3<&-
not rmdir made
ln -s nowhere made/dangling
[ "$(readlink made/dangling)" = nowhere ]
not mknod device c 1 3

# Many small files of the host's, and some of the guest's own.
[ "$(ls many | wc -l)" = 10000 ]
[ "$(ls -l many/1?? | grep -c '^-')" = 100 ]
[ "$(cat many/99?? | wc -l)" = 100 ]
[ "$(cat many/9999)" = 9999 ]
mkdir few
i=0
while [ $i -lt 200 ]; do
    echo $i >few/$i
    i=$((i + 1))
done
[ "$(ls few | wc -l)" = 200 ]
[ "$(cat few/*99 | sort -n | tail -n 1)" = 199 ]
rm -r few
[ ! -e few ]

# The same directory, to be read only: what the other mount writes is there.
cd /tmp/fixed
cmp /tmp/plain/made/moved made/moved
for change in 'touch new' 'rm -f sums' 'mkdir dir' 'mv sums sum' 'chmod 777 sums' 'ln sums new'; do
    not $change 2>/dev/null
done
mount -o remount,rw /tmp/fixed
not touch new 2>/dev/null
not sh -c 'echo x >>sums' 2>/dev/null

# What changes here is for this guest alone.
cd /tmp/aside
[ "$(cat file)" = 'as it was' ]
echo changed >file
mv file dir/moved
mknod null c 1 3
echo x >null
chown 12:34 dir
[ "$(stat -c %u:%g dir)" = 12:34 ]
mkdir -p deep/er
cp /tmp/plain/big deep/er/big
cmp /tmp/plain/big deep/er/big
[ "$(cat dir/moved)" = changed ]
[ "$(ls | tr '\n' ' ')" = 'deep dir null ' ]
cd /
umount /tmp/plain /tmp/fixed /tmp/aside
