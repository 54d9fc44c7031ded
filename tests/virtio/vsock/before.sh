#!/bin/sh
# $1 is the folder with socket_peer. A program that gives back what it gets, for the guest's port 1000, and one that sends
# to the guest's port 2000 as soon as somebody listens there.
"$1/socket_peer" echo unix:guest.sock_1000 >echoed 2>&1 &
{
    until "$1/socket_peer" send unix:guest.sock:2000 2 >sent 2>&1; do usleep 200000; done
} &
echo $! >sender
