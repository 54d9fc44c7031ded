# smp: starts every hart that the device tree names, by the SBI's Hart State
# Management extension.
#
# The VMM should show `cpu: hart N` for each hart, then `smp: N cpus`, and end
# with status 0. `smp: N cpus of M` if some did not come up within a long while.
# With `poweroff` or `reset` on the command line, all harts do that at once:
# status 0, or one reset (32).
# Boot: ELF at its physical addresses.

    .include "start.inc"
    .include "console.inc"
    .include "numbers.inc"
    .include "fdt.inc"
    .include "cmdline.inc"
    .include "power.inc"

.set SBI_HSM, 0x48534d
.set HSM_START, 0
.set SBI_IPI, 0x735049
.set SIE_SOFTWARE, 1 << 1
.set PATIENCE, 1000000000       # steps of a wait
.set STACK_BITS, 8              # a stack of 256 bytes a hart

main:
    mv s11, a1
    mv s1, a0                   # the own number
    li s2, 0                    # how many there are
    la s3, up                   # how many have come up
    call report
1:  mv a0, s11                  # the next one's number
    la a1, cpu
    la a2, reg
    mv a3, s2
    call fdt_prop
    beqz a0, 4f
    addi s2, s2, 1
    call be32
    beq a0, s1, 1b
    lw s4, 0(s3)
    la a1, secondary
    li a2, 0x5a                 # what it gets in a1
    li a6, HSM_START
    li a7, SBI_HSM
    ecall
    bnez a0, 1b
    li t1, PATIENCE
2:  lw t0, 0(s3)
    bne t0, s4, 1b
    addi t1, t1, -1
    bnez t1, 2b
    j 1b
4:  print "smp: "
    lw a0, 0(s3)
    mv s4, a0
    call put_decimal
    print " cpus"
    beq s4, s2, 5f
    print " of "
    mv a0, s2
    call put_decimal
5:  print "\n"
    if_arg "poweroff", all_power_off
    if_arg "reset", all_reset
    j power_off

all_power_off:
    li t0, 1
    j 6f
all_reset:
    li t0, 2
6:  la t1, order
    fence rw, rw
    sw t0, 0(t1)
    li a0, 0
    li a1, -1                   # to all
    li a6, 0
    li a7, SBI_IPI
    ecall
    j obey

# Where a hart begins: its number is in a0.
secondary:
    mv s1, a0
    la sp, stacks
    addi t0, a0, 1
    slli t0, t0, STACK_BITS
    add sp, sp, t0
    li t0, 0x5a
    bne a1, t0, halt            # as if it had never come up
    csrsi sie, SIE_SOFTWARE     # an interrupt ends `wfi`, though none is taken
    call report
obey:                           # what the first hart says, all do
    la t1, order
1:  lw t0, 0(t1)
    bnez t0, 2f
    wfi
    j 1b
2:  addi t0, t0, -1
    beqz t0, power_off
    j reset

# Tells that the hart s1 is there. The others wait, so that lines stay whole.
report:
    addi sp, sp, -16
    sd ra, 0(sp)
    print "cpu: hart "
    mv a0, s1
    call put_decimal
    print "\n"
    la t0, up
    li t1, 1
    fence rw, rw
    amoadd.w x0, t1, (t0)
    ld ra, 0(sp)
    addi sp, sp, 16
    ret

    .section .rodata
cpu:
    .asciz "cpu"
reg:
    .asciz "reg"

    .section .bss, "aw", %nobits
    .balign 16
up:
    .skip 4
order:
    .skip 12
stacks:
    .skip 512 << STACK_BITS
