# csr: reads the entropy source (Zkr's CSR seed) where the device tree says that
# there is one, and a CSR that does not exist.
#
# The VMM should show: `csr: seed gives entropy`, or `csr: no seed` where the
# extension zkr is missing; `csr: an unknown one is illegal`, and end with
# status 0. Where the tree says something else, `csr: the device tree is wrong`.
# Boot: ELF at its physical addresses.

    .include "start.inc"
    .include "console.inc"
    .include "numbers.inc"
    .include "fdt.inc"
    .include "power.inc"

.set SEED, 0x015
.set UNKNOWN, 0x5c0             # for a vendor's own
.set ILLEGAL_INSTRUCTION, 2
.set OPST_ES16, 2
.set TRIES, 100

main:
    mv s11, a1
    li s3, 0                    # whether the tree has zkr
    prop cpu, "riscv,isa-extensions"
    mv s4, a0
    add s5, a0, a1
1:  bgeu s4, s5, 3f
    mv a0, s4
    la a1, zkr
    call same_string
    or s3, s3, a0
2:  lbu t0, 0(s4)               # to the next string
    addi s4, s4, 1
    bnez t0, 2b
    j 1b

3:  la t0, on_trap
    csrw stvec, t0
    la s0, no_seed              # where to go on after a trap
    li s1, TRIES
    li s2, 0                    # all bits that have come
1:  csrrw t0, SEED, x0
    srli t1, t0, 30
    andi t1, t1, 3
    li t2, OPST_ES16
    bne t1, t2, 2f
    or s2, s2, t0
2:  addi s1, s1, -1
    bnez s1, 1b
    beqz s3, tree_is_wrong
    slli s2, s2, 48
    beqz s2, 3f
    print "csr: seed gives entropy\n"
    j 4f
3:  print "csr: seed gives none\n"
    j power_off
no_seed:
    bnez s3, tree_is_wrong
    print "csr: no seed\n"
4:  la s0, illegal
    csrr t0, UNKNOWN
    print "csr: an unknown one is there\n"
    j power_off
tree_is_wrong:
    print "csr: the device tree is wrong\n"
    j power_off
illegal:
    print "csr: an unknown one is illegal\n"
    j power_off

    .balign 4
on_trap:
    csrr a0, scause
    li t0, ILLEGAL_INSTRUCTION
    bne a0, t0, 1f
    csrw sepc, s0
    sret
1:  print "csr: trap "
    call put_hex
    print "\n"
    j power_off

    .section .rodata
zkr:
    .asciz "zkr"
