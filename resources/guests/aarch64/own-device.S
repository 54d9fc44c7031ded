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
    mov x9, #DOUBLER
    mov w10, #21
    str w10, [x9]
    ldr w0, [x9]
    print "own-device: 21 doubled is "
    bl put_decimal
    print "\n"
    b power_off
