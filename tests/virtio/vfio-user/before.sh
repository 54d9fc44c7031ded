#!/bin/sh
# $1 is the folder with the server, which axvmm starts.
cp "$1/vfio_user_adder" .
