# stop: ends, or does not end, in every way that a VMM tells apart. The first
# of these words on the command line says how:
#
#   poweroff         SBI SRST, shutdown                          status 0
#   poweroff-legacy  the SBI's first, legacy shutdown            status 0, where the
#                    host kernel's KVM has legacy calls (Debian's has none)
#   pass             the finisher (sifive_test): pass            status 0
#   reset            SBI SRST, cold reboot                       reset, or 32
#   reset-warm       SBI SRST, warm reboot                       reset, or 32
#   reset-finisher   the finisher: reset                         reset, or 32
#   exit=N           the finisher: fail with code N              N
#   panic            pvpanic                                     34
#   jump             runs into memory that is not there          33
#   misaligned       loads from a device where none can          33
#   atomic           an atomic instruction on a device           33
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

.set FINISHER, 0x00100000
.set FINISHER_FAIL, 0x3333
.set FINISHER_PASS, 0x5555
.set FINISHER_RESET, 0x7777
.set PVPANIC, 0x00102000
.set PVPANIC_PANICKED, 1
.set SBI_LEGACY_SHUTDOWN, 8
.set SRST_WARM_REBOOT, 2
.set LSR_FIFO_ERROR, 0x80
.set NOBODY, 0x40000000         # no device, and below all RAM

main:
    mv s11, a1
    if_arg "poweroff", do_poweroff
    if_arg "poweroff-legacy", do_poweroff_legacy
    if_arg "pass", do_pass
    if_arg "reset", do_reset
    if_arg "reset-warm", do_reset_warm
    if_arg "reset-finisher", do_reset_finisher
    if_arg "exit=", do_exit
    if_arg "panic", do_panic
    if_arg "jump", do_jump
    if_arg "misaligned", do_misaligned
    if_arg "atomic", do_atomic
    if_arg "halt", do_halt
    if_arg "spin", do_spin
    if_arg "poll", do_poll
    if_arg "loop", do_loop
    if_arg "flood", do_flood
    print "stop: no known word on the command line\n"
    j power_off

do_poweroff:
    print "stop: poweroff\n"
    li a0, SRST_SHUTDOWN
    j system_reset

do_poweroff_legacy:
    print "stop: poweroff-legacy\n"
    li a7, SBI_LEGACY_SHUTDOWN
    ecall
    j still_here

do_pass:
    print "stop: pass\n"
    li a0, FINISHER_PASS
    j finish

do_reset:
    print "stop: reset\n"
    li a0, SRST_COLD_REBOOT
    j system_reset

do_reset_warm:
    print "stop: reset-warm\n"
    li a0, SRST_WARM_REBOOT
system_reset:
    li a1, 0
    li a6, 0
    li a7, SBI_SRST
    ecall
    j still_here

do_reset_finisher:
    print "stop: reset-finisher\n"
    li a0, FINISHER_RESET
    j finish

do_exit:
    print "stop: exit\n"
    call parse_number
    slli a0, a0, 16
    li t0, FINISHER_FAIL
    or a0, a0, t0
finish:
    li t0, FINISHER
    sw a0, 0(t0)
    j still_here

do_panic:
    print "stop: panic\n"
    li t0, PVPANIC
    li t1, PVPANIC_PANICKED
    sb t1, 0(t0)
    j still_here

do_jump:
    print "stop: jump\n"
    li t0, NOBODY
    jr t0

do_misaligned:
    print "stop: misaligned\n"
    li t0, NOBODY
    ld t1, 1(t0)
    j still_here

do_atomic:
    print "stop: atomic\n"
    li t0, NOBODY
    amoadd.w t1, t1, (t0)
    j still_here

do_halt:
    print "stop: halt\n"
    j halt

do_spin:
    print "stop: spin\n"
    li t0, NOBODY
1:  lw t1, 0(t0)
    j 1b

do_poll:
    print "stop: poll\n"
    li t0, UART
1:  lbu t1, UART_LSR(t0)
    andi t1, t1, LSR_FIFO_ERROR
    beqz t1, 1b
    j still_here

do_loop:
    print "stop: loop\n"
1:  j 1b

do_flood:
    print "stop: flood\n"
1:  print "stop: flood, and more of it\n"
    j 1b

still_here:
    print "stop: still here\n"
    j halt
