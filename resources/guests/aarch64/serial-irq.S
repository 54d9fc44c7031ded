# serial-irq: prints each line of input in upper case, and halts until the
# UART's interrupt comes through the GIC: a test that an interrupt wakes a
# halted CPU.
#
# The VMM should show: `serial-irq: ready`, then each line that is typed or
# piped in, and after the line `quit` `serial-irq: N interrupts`, and end with
# status 0. N is 0 only if all of it was there before `ready`. After the line
# `reset` the guest resets itself: `serial-irq: ready` once more. Where an
# interrupt is lost, the guest sleeps on.
# Boot: ELF at its physical addresses.

    .include "start.inc"
    .include "console.inc"
    .include "numbers.inc"
    .include "fdt.inc"
    .include "line.inc"
    .include "gic.inc"
    .include "vectors.inc"
    .include "power.inc"

.set UART_INTID, 33
.set UART_CR, 0x30
.set CR_ON, 1 << 0 | 1 << 8 | 1 << 9 // UARTEN, TXE, RXE
.set UART_IMSC, 0x38
.set IMSC_RECEIVED, 1 << 4 | 1 << 6 // RXIM, RTIM

main:
    mov x28, x0
    mov x20, #UART
    mov x21, #0                 // interrupts
    bl use_vectors
    mov w0, #UART_INTID
    bl gic_enable
    mov w9, #CR_ON
    str w9, [x20, #UART_CR]
    mov w9, #IMSC_RECEIVED
    str w9, [x20, #UART_IMSC]
    print "serial-irq: ready\n"

# Interrupts are masked but while it waits, and `wfi` ends with a pending one
# all the same: none falls between the look and the wait.
again:
    ldr w9, [x20, #UART_FR]
    tbz w9, #FR_RXFE_BIT, 1f
    wfi
    msr daifclr, #2
    isb
    msr daifset, #2
    b again
1:  bl drain
    b again

quit:
    print "serial-irq: "
    mov x0, x21
    bl put_decimal
    print " interrupts\n"
    b power_off

# The line is high until the input is read: it is read before the end.
on_irq:
    stp x30, x22, [sp, #-16]!
    bl gic_acknowledge
    mov x22, x0
    cmp w0, #UART_INTID
    b.ne 1f
    add x21, x21, #1
    bl drain
    mov x0, x22
    bl gic_end
1:  ldp x30, x22, [sp], #16
    ret

# Reads what the UART has.
drain:
    str x30, [sp, #-16]!
1:  ldr w9, [x20, #UART_FR]
    tbnz w9, #FR_RXFE_BIT, 2f
    ldr w0, [x20, #UART_DR]
    and w0, w0, #0xff
    bl take_character
    cbz x0, 1b
    if_line "quit", quit
    if_line "reset", reset
    b 1b
2:  ldr x30, [sp], #16
    ret
