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
    mov x20, #UART
1:  ldr w0, [x20, #UART_FR]
    tbnz w0, #FR_RXFE_BIT, 1b
    ldr w0, [x20, #UART_DR]
    and w0, w0, #0xff
    bl take_character
    cbz x0, 1b
    if_line "quit", power_off
    if_line "reset", reset
    b 1b
