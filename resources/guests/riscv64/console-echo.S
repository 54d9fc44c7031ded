# console-echo: prints each line of input in upper case, polling the UART.
#
# The VMM should show: `console-echo: ready`, then each line that is typed or
# piped in, and end with status 0 after the line `quit`. After the line `reset`
# the guest resets itself: `console-echo: ready` once more.
# Boot: ELF at its physical addresses.

    .include "start.inc"
    .include "console.inc"
    .include "fdt.inc"
    .include "line.inc"
    .include "power.inc"

main:
    print "console-echo: ready\n"
    li s0, UART
1:  lbu a0, UART_LSR(s0)
    andi a0, a0, LSR_DATA_READY
    beqz a0, 1b
    lbu a0, UART_THR(s0)
    call take_character
    beqz a0, 1b
    if_line "quit", power_off
    if_line "reset", reset
    j 1b
