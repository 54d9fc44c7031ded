# own-device: uses the device that examples/own_device.rs has beside the board's.
#
# The VMM should show: `own-device: 21 doubled is 42`, and end with status 0.
# Without the device 4294967295 stands there.
# Boot: PVH, 32-bit.

    .include "pvh.inc"
    .include "console.inc"
    .include "power.inc"

.set DOUBLER, 0xd0000000

main:
    movl $21, DOUBLER
    mov DOUBLER, %eax
    print "own-device: 21 doubled is "
    call print_dec
    print "\n"
    ret
