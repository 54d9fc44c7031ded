# timer: halts until the timer wakes it, three times a hundredth of a second
# after the last. As Linux does, it sets Sstc's stimecmp itself where the device
# tree has that, and asks the SBI elsewhere: KVM on a host with Sstc forgets what
# the SBI was asked for if the vCPU's thread loses its CPU before it is back in
# the guest (vcpu_timer.c, kvm_riscv_vcpu_update_vstimecmp, as of Linux 6.12).
#
# The VMM should show: `timer: N ticks a second` as the device tree has it,
# `timer: 3 interrupts, none early`, and end with status 0.
# Boot: ELF at its physical addresses.

    .include "start.inc"
    .include "console.inc"
    .include "numbers.inc"
    .include "fdt.inc"
    .include "power.inc"

.set SBI_TIME, 0x54494d45
.set STIMECMP, 0x14d
.set SIE_TIMER, 1 << 5
.set SSTATUS_SIE, 1 << 1

main:
    mv s11, a1
    prop cpus, timebase-frequency
    call be32
    print "timer: "
    call put_decimal
    print " ticks a second\n"
    li t0, 100
    divu s0, a0, t0             # a hundredth of a second
    has_extension sstc
    mv s3, a0
    la t0, on_timer
    csrw stvec, t0
    li t0, SIE_TIMER
    csrs sie, t0
    li s1, 0                    # interrupts
    call set_timer
    csrsi sstatus, SSTATUS_SIE
1:  wfi
    li t0, 3
    bltu s1, t0, 1b
    csrci sstatus, SSTATUS_SIE
    print "timer: 3 interrupts, none early\n"
    j power_off

    .balign 4
on_timer:
    addi s1, s1, 1
    rdtime t0
    bltu t0, s2, early
    call set_timer
    sret

early:
    print "timer: early\n"
    j power_off

# Sets the timer to s2 = a hundredth of a second from now.
set_timer:
    rdtime s2
    add s2, s2, s0
    beqz s3, 1f
    csrw STIMECMP, s2
    ret
1:  mv a0, s2
    li a6, 0
    li a7, SBI_TIME
    ecall
    ret
