# stop: ends, or does not end, in every way that a VMM tells apart. The first
# of these words on the command line says how:
#
#   poweroff         PSCI SYSTEM_OFF                             status 0
#   reset            PSCI SYSTEM_RESET                           reset, or 32
#   panic            pvpanic                                     34
#   pair             loads two registers from a device at once   33
#   post-index       stores and moves the address on             33
#   jump             runs into memory that is not there          runs on: its
#                    exception's vector is not there either, for ever
#   halt             halts with interrupts off                   runs on, idle
#   spin             reads an address that nobody owns, for ever runs on
#   poll             polls the UART for a bit that never comes   runs on
#   loop             loops without any exit                      runs on
#   flood            prints for ever                             runs on
#
# The VMM should show: `stop: WORD`, then end with the status above. Without a
# known word: `stop: no known word on the command line`, and a power-off.
# After what should have ended it: `stop: still here`, then halts.
# Boot: ELF at its physical addresses.

    .include "start.inc"
    .include "console.inc"
    .include "fdt.inc"
    .include "cmdline.inc"
    .include "power.inc"

.set PVPANIC, 0x090d0000
.set PVPANIC_PANICKED, 1
.set FR_RI_BIT, 8
.set NOBODY, 0x0b000000         // no device, and below all RAM

main:
    mov x28, x0
    if_arg "poweroff", do_poweroff
    if_arg "reset", do_reset
    if_arg "panic", do_panic
    if_arg "pair", do_pair
    if_arg "post-index", do_post_index
    if_arg "jump", do_jump
    if_arg "halt", do_halt
    if_arg "spin", do_spin
    if_arg "poll", do_poll
    if_arg "loop", do_loop
    if_arg "flood", do_flood
    print "stop: no known word on the command line\n"
    b power_off

do_poweroff:
    print "stop: poweroff\n"
    ldr w0, =PSCI_SYSTEM_OFF
    hvc #0
    b still_here

do_reset:
    print "stop: reset\n"
    ldr w0, =PSCI_SYSTEM_RESET
    hvc #0
    b still_here

do_panic:
    print "stop: panic\n"
    mov x9, #PVPANIC & 0xffff0000
    mov w10, #PVPANIC_PANICKED
    strb w10, [x9]
    b still_here

do_pair:
    print "stop: pair\n"
    mov x9, #NOBODY
    ldp x10, x11, [x9]
    b still_here

do_post_index:
    print "stop: post-index\n"
    mov x9, #NOBODY
    str w10, [x9], #4
    b still_here

do_jump:
    print "stop: jump\n"
    mov x9, #NOBODY
    msr vbar_el1, x9
    isb
    br x9

do_halt:
    print "stop: halt\n"
    b halt

do_spin:
    print "stop: spin\n"
    mov x9, #NOBODY
1:  ldr w10, [x9]
    b 1b

do_poll:
    print "stop: poll\n"
    mov x9, #UART
1:  ldr w10, [x9, #UART_FR]
    tbz w10, #FR_RI_BIT, 1b
    b still_here

do_loop:
    print "stop: loop\n"
1:  b 1b

do_flood:
    print "stop: flood\n"
1:  print "stop: flood, and more of it\n"
    b 1b

still_here:
    print "stop: still here\n"
    b halt
    .ltorg
