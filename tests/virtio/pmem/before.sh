#!/bin/sh
truncate -s 32M disk.img
yes axvmm | head -c 1000000 >image
cp image image.before
