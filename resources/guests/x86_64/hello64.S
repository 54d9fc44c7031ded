# hello64: says what it was given by the 64-bit Linux boot protocol.
#
# The VMM should show: `Hello from long mode`, the command line, the number of
# entries of the e820 map and the usable memory in it, and end with status 0.
# Boot: ELF64 without a PVH note, entered in long mode with paging on and
# %rsi = struct boot_params, as a vmlinux is.

.set LONG, 1

    .section .head, "ax"
    .code64
    .globl start
start:
    mov $stack_top, %esp        # the protocol promises no stack
    cld
    mov %rsi, %rbx
    call main
    jmp power_off

    .include "console.inc"
    .include "bootparams.inc"
    .include "power.inc"

main:
    print "Hello from long mode\n"
    jmp print_boot_params

    .bss
    .balign 16
    .skip 4096
stack_top:
