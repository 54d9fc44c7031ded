# own-device: uses the device that examples/own_device.rs has beside the board's.
#
# The VMM should show: `own-device: 21 doubled is 42`, and end with status 0.
# Without the device 4294967295 stands there.
# Boot: ELF at its physical addresses.

    .include "start.inc"
    .include "console.inc"
    .include "numbers.inc"
    .include "power.inc"

.set DOUBLER, 0xd0000000

main:
    li t0, DOUBLER
    li t1, 21
    sw t1, 0(t0)
    lwu a0, 0(t0)
    print "own-device: 21 doubled is "
    call put_decimal
    print "\n"
    j power_off
