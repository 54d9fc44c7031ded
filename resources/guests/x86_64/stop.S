# stop: ends, or does not end, in every way that a VMM tells apart. The first
# of these words on the command line says how:
#
#   poweroff        16-bit write of 0x2000 to port 0x604        status 0
#   sleep           ACPI sleep control register, S5             status 0
#   reset-cf9       port 0xcf9                                  reset, or 32
#   reset-i8042     keyboard controller command 0xfe            reset, or 32
#   triple          triple fault                                33
#   internal-error  an instruction that KVM cannot emulate      33
#   jump            runs into memory that is not there          33
#   panic           pvpanic                                     34
#   exit=N          isa-debug-exit at 0xf4                      2N + 1
#   exit501=N       isa-debug-exit at 0x501                     2N + 1
#   halt            halts with interrupts off                   runs on, idle
#   spin            reads an address that nobody owns, for ever runs on
#   poll            polls the UART for a bit that never comes   runs on
#   loop            loops without any exit                      runs on
#   flood           prints for ever                             runs on
#
# The VMM should show: `stop: WORD`, then end with the status above. Without a
# known word: `stop: no known word on the command line`, and a power-off.
# After a write that should have ended it: `stop: still here`, then halts.
# Boot: PVH, 32-bit.

    .include "pvh.inc"
    .include "console.inc"
    .include "power.inc"
    .include "cmdline.inc"

.set SLEEP_CONTROL, 0x600
.set SLEEP_S5, 1 << 5 | 5 << 2  # SLP_EN, SLP_TYP of S5
.set I8042_COMMAND, 0x64
.set I8042_PULSE_RESET, 0xfe
.set PVPANIC, 0x505
.set PVPANIC_PANICKED, 1
.set DEBUG_EXIT, 0xf4
.set DEBUG_EXIT_AXVISOR, 0x501
.set LSR_FIFO_ERROR, 0x80
.set NOBODY, 0xfb000000         # below the interrupt controllers, above RAM

main:
    if_arg "poweroff", do_poweroff
    if_arg "sleep", do_sleep
    if_arg "reset-cf9", do_reset_cf9
    if_arg "reset-i8042", do_reset_i8042
    if_arg "triple", do_triple
    if_arg "internal-error", do_internal_error
    if_arg "jump", do_jump
    if_arg "panic", do_panic
    if_arg "exit=", do_exit
    if_arg "exit501=", do_exit501
    if_arg "halt", do_halt
    if_arg "spin", do_spin
    if_arg "poll", do_poll
    if_arg "loop", do_loop
    if_arg "flood", do_flood
    print "stop: no known word on the command line\n"
    ret

do_poweroff:
    print "stop: poweroff\n"
    mov $POWER_PORT, %dx
    mov $POWER_OFF, %ax
    out %ax, %dx
    jmp still_here

do_sleep:
    print "stop: sleep\n"
    mov $SLEEP_CONTROL, %dx
    mov $SLEEP_S5, %al
    out %al, %dx
    jmp still_here

do_reset_cf9:
    print "stop: reset-cf9\n"
    mov $RESET_CONTROL, %dx
    mov $RESET_HARD, %al
    out %al, %dx
    jmp still_here

do_reset_i8042:
    print "stop: reset-i8042\n"
    mov $I8042_PULSE_RESET, %al
    out %al, $I8042_COMMAND
    jmp still_here

do_triple:
    print "stop: triple\n"
    lidt no_idt                 # the fault, the fault in that, the fault in that
    ud2
    jmp still_here

do_internal_error:
    print "stop: internal-error\n"
    fldt NOBODY                 # no emulator of KVM's has x87 loads from a device
    jmp still_here

do_jump:
    print "stop: jump\n"
    mov $NOBODY, %eax
    jmp *%eax

do_panic:
    print "stop: panic\n"
    mov $PVPANIC, %dx
    mov $PVPANIC_PANICKED, %al
    out %al, %dx
    jmp still_here

do_exit:
    print "stop: exit\n"
    mov $DEBUG_EXIT, %edi
    jmp debug_exit
do_exit501:
    print "stop: exit501\n"
    mov $DEBUG_EXIT_AXVISOR, %edi
debug_exit:
    call parse_number
    mov %edi, %edx
    out %al, %dx
    jmp still_here

do_halt:
    print "stop: halt\n"
    jmp halt

do_spin:
    print "stop: spin\n"
1:  mov NOBODY, %eax
    jmp 1b

do_poll:
    print "stop: poll\n"
    mov $COM1_LSR, %dx
1:  in %dx, %al
    test $LSR_FIFO_ERROR, %al
    jz 1b
    jmp still_here

do_loop:
    print "stop: loop\n"
1:  jmp 1b

do_flood:
    print "stop: flood\n"
1:  print "stop: flood, and more of it\n"
    jmp 1b

still_here:
    print "stop: still here\n"
    jmp halt

    .section .rodata
no_idt:
    .word 0                     # limit
    .long 0
