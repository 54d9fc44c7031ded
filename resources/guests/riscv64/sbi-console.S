# sbi-console: the SBI's two consoles: the Debug Console extension and the
# legacy calls.
#
# The VMM should show: `sbi-console: a line by DBCN`, `sbi-console: bytes by
# DBCN` and `sbi-console: legacy`, or `sbi-console: no legacy console` where the
# host kernel's KVM has no legacy calls (Debian's has none); then each line that is typed or piped in, in
# upper case, read by DBCN and printed on the UART, and end with status 0 after
# the line `quit`. `sbi-console: no DBCN` where there is none.
# Boot: ELF at its physical addresses.

    .include "start.inc"
    .include "console.inc"
    .include "fdt.inc"
    .include "line.inc"
    .include "power.inc"

.set SBI_BASE, 0x10
.set BASE_PROBE, 3
.set SBI_DBCN, 0x4442434e
.set DBCN_WRITE, 0
.set DBCN_READ, 1
.set DBCN_WRITE_BYTE, 2
.set SBI_LEGACY_PUTCHAR, 1
.set BUFFER, 64

main:
    li a0, SBI_DBCN
    li a6, BASE_PROBE
    li a7, SBI_BASE
    ecall
    beqz a1, no_dbcn
    la s0, text                 # by as many calls as it takes
    la s1, text_end
1:  sub a0, s1, s0
    beqz a0, 2f
    mv a1, s0
    li a2, 0
    li a6, DBCN_WRITE
    li a7, SBI_DBCN
    ecall
    bnez a0, failed
    add s0, s0, a1
    j 1b
2:  la s0, bytes
3:  lbu a0, 0(s0)
    beqz a0, legacy
    addi s0, s0, 1
    li a6, DBCN_WRITE_BYTE
    li a7, SBI_DBCN
    ecall
    bnez a0, failed
    j 3b

no_dbcn:
    print "sbi-console: no DBCN\n"
legacy:
    la s0, old
1:  lbu a0, 0(s0)
    beqz a0, echo
    addi s0, s0, 1
    li a7, SBI_LEGACY_PUTCHAR
    ecall
    beqz a0, 1b
    print "sbi-console: no legacy console\n"

echo:
    li a0, BUFFER
    la a1, buffer
    li a2, 0
    li a6, DBCN_READ
    li a7, SBI_DBCN
    ecall
    bnez a0, failed
    la s0, buffer
    add s1, s0, a1
1:  beq s0, s1, echo
    lbu a0, 0(s0)
    addi s0, s0, 1
    call take_character
    beqz a0, 1b
    if_line "quit", power_off
    j 1b

failed:
    print "sbi-console: an error\n"
    j power_off

    .section .rodata
text:
    .ascii "sbi-console: a line by DBCN\n"
text_end:
bytes:
    .asciz "sbi-console: bytes by DBCN\n"
old:
    .asciz "sbi-console: legacy\n"

    .section .bss, "aw", %nobits
buffer:
    .skip BUFFER
