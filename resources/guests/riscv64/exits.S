# exits: a benchmark of what one exit costs. Reads the UART's line status register
# over and over between two lines of text.
#
# Command line: nothing, or `reads=N` for how many (300000); with the word `halt` it
# then halts with interrupts off, so that what is left can be looked at.
# The VMM should show: `exits: start`, then `exits: done`, and end with status 0.
# Boot: ELF at its physical addresses.

    .include "start.inc"
    .include "console.inc"
    .include "fdt.inc"
    .include "cmdline.inc"
    .include "power.inc"

.set READS, 300000

main:
    mv s11, a1
    print "exits: start\n"
    if_arg "reads=", given
    li a0, READS
    j 1f
given:
    call parse_number
1:  li t0, UART
2:  lbu t1, UART_LSR(t0)
    addi a0, a0, -1
    bnez a0, 2b
    print "exits: done\n"
    if_arg "halt", halt
    j power_off
