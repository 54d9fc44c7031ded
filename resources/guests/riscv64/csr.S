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
    has_extension zkr
    mv s3, a0                   # whether the tree has it
    la t0, on_trap
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
