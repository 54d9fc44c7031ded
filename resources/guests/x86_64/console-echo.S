# console-echo: prints each line of input in upper case, polling COM1.
#
# The VMM should show: `console-echo: ready`, then each line that is typed or
# piped in, and end with status 0 after the line `quit`. After the line `reset`
# the guest resets itself: `console-echo: ready` once more.
# Boot: PVH, 32-bit.

    .include "pvh.inc"
    .include "console.inc"
    .include "line.inc"
    .include "power.inc"

main:
    print "console-echo: ready\n"
1:  mov $COM1_LSR, %edx
    in %dx, %al
    test $LSR_DATA_READY, %al
    jz 1b
    mov $COM1, %edx
    in %dx, %al
    call take_character
    jne 1b
    if_line "quit", power_off
    if_line "reset", reset
    jmp 1b
