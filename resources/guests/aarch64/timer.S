# timer: halts until the virtual timer wakes it, three times a hundredth of a
# second after the last.
#
# The VMM should show: `timer: N ticks a second`, `timer: 3 interrupts, none
# early`, and end with status 0.
# Boot: ELF at its physical addresses.

    .include "start.inc"
    .include "console.inc"
    .include "numbers.inc"
    .include "fdt.inc"
    .include "gic.inc"
    .include "vectors.inc"
    .include "power.inc"

.set VIRTUAL_TIMER_INTID, 27

main:
    mov x28, x0
    mrs x0, cntfrq_el0
    print "timer: "
    bl put_decimal
    print " ticks a second\n"
    mov x9, #100
    udiv x20, x0, x9            // a hundredth of a second
    mov x21, #0                 // interrupts
    bl use_vectors
    mov w0, #VIRTUAL_TIMER_INTID
    bl gic_enable
    bl set_timer
    mov x9, #1
    msr cntv_ctl_el0, x9
    msr daifclr, #2
1:  wfi
    cmp x21, #3
    b.lo 1b
    msr daifset, #2
    print "timer: 3 interrupts, none early\n"
    b power_off

on_irq:
    stp x30, x23, [sp, #-16]!
    bl gic_acknowledge
    mov x23, x0
    cmp w0, #VIRTUAL_TIMER_INTID
    b.ne 1f
    add x21, x21, #1
    isb
    mrs x9, cntvct_el0
    cmp x9, x22
    b.lo early
    bl set_timer
    mov x0, x23
    bl gic_end
1:  ldp x30, x23, [sp], #16
    ret

early:
    print "timer: early\n"
    b power_off

# Sets the timer to x22 = a hundredth of a second from now.
set_timer:
    isb
    mrs x22, cntvct_el0
    add x22, x22, x20
    msr cntv_cval_el0, x22
    isb
    ret
