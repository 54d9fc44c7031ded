#!/bin/sh
# The server has ended with its guest.
! pidof vfio_user_adder
