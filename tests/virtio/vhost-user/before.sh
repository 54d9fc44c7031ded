#!/bin/sh
# $1 is the folder with the backend, which ends with its guest.
"$1/vhost_user_rng" rng.sock >log 2>&1 &
echo $! >backend
until [ -S rng.sock ]; do usleep 10000; done
