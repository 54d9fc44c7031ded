# memory: writes and checks the first and the last 8 bytes of every range of
# RAM in the device tree.
#
# The VMM should show: each range, `memory: N KiB`, `memory: ok`, and end with
# status 0. `memory: lost at ADDRESS` if something else is read than was
# written: no RAM there, or the same RAM twice.
# Boot: ELF at its physical addresses.

    .include "start.inc"
    .include "console.inc"
    .include "numbers.inc"
    .include "fdt.inc"
    .include "power.inc"

main:
    mv s11, a1
    li s0, 0                    # number of the node
    li s1, 0                    # bytes
1:  mv a0, s11
    la a1, memory
    la a2, reg
    mv a3, s0
    call fdt_prop
    beqz a0, 4f
    addi s0, s0, 1
    mv s2, a0                   # pairs of address and size, 64 bits each
    add s3, a0, a1
2:  bgeu s2, s3, 1b
    mv a0, s2
    call be64
    mv s4, a0
    addi a0, s2, 8
    call be64
    mv s5, a0
    addi s2, s2, 16
    add s1, s1, s5
    mv a0, s4
    call put_hex
    print " to "
    add s5, s5, s4
    addi a0, s5, -1
    call put_hex
    print "\n"
    mv a0, s4
    call check
    addi a0, s5, -8
    call check
    j 2b
4:  print "memory: "
    srli a0, s1, 10
    call put_decimal
    print " KiB\nmemory: ok\n"
    j power_off

# Writes to a0 its own address, reads it back, and restores what was there: the
# tree may be.
check:
    ld t1, 0(a0)
    sd a0, 0(a0)
    fence rw, rw
    ld t2, 0(a0)
    sd t1, 0(a0)
    beq t2, a0, 1f
    print "memory: lost at "
    call put_hex
    print "\n"
    j power_off
1:  ret

    .section .rodata
memory:
    .asciz "memory"
reg:
    .asciz "reg"
