# smp: starts every CPU that the device tree names, by PSCI's CPU_ON.
#
# The VMM should show `cpu: mpidr 0xN` for each CPU, then `smp: N cpus`, and end
# with status 0. `smp: N cpus of M` if some did not come up within a long while.
# With `poweroff` or `reset` on the command line, all CPUs do that at once:
# status 0, or one reset (32).
# Boot: ELF at its physical addresses.

    .include "start.inc"
    .include "console.inc"
    .include "numbers.inc"
    .include "fdt.inc"
    .include "cmdline.inc"
    .include "power.inc"

.set PSCI_CPU_ON, 0xc4000003
.set PATIENCE, 100000000        // steps of a wait
.set STACK, 256                 // bytes of a CPU's stack
.set AFFINITY, 0xff00ffffff

main:
    mov x28, x0
    mov x19, #0                 // how many there are
    address x20, up             // how many have come up
    address x21, stacks
    bl own_affinity
    mov x22, x0
    bl report
1:  mov x0, x28                 // the next one's affinity
    address x1, cpu
    address x2, reg
    mov x3, x19
    bl fdt_prop
    cbz x0, 4f
    add x19, x19, #1
    cmp x1, #8
    b.eq 2f
    bl be32
    b 3f
2:  bl be64
3:  cmp x0, x22
    b.eq 1b
    ldr w23, [x20]
    add x21, x21, #STACK
    mov x1, x0
    address x2, secondary
    mov x3, x21                 // what it gets in x0
    ldr w0, =PSCI_CPU_ON
    hvc #0
    cbnz x0, 1b
    ldr w9, =PATIENCE
31: ldr w10, [x20]              // one at a time, so that lines stay whole
    cmp w10, w23
    b.ne 1b
    subs w9, w9, #1
    b.ne 31b
    b 1b
4:  print "smp: "
    ldr w0, [x20]
    bl put_decimal
    print " cpus"
    cmp x0, x19
    b.eq 5f
    print " of "
    mov x0, x19
    bl put_decimal
5:  print "\n"
    if_arg "poweroff", all_power_off
    if_arg "reset", all_reset
    b power_off

all_power_off:
    mov w9, #1
    b 6f
all_reset:
    mov w9, #2
6:  address x10, order
    str w9, [x10]
    dsb sy
    b obey

# Where a CPU begins: its stack is in x0.
secondary:
    mov sp, x0
    address x20, up
    bl own_affinity
    bl report
obey:                           // what the first CPU says, all do
    address x10, order
1:  ldr w9, [x10]
    cbz w9, 1b
    cmp w9, #1
    b.eq power_off
    b reset

# x0 = the affinity fields of this CPU's MPIDR_EL1.
own_affinity:
    mrs x0, mpidr_el1
    ldr x9, =AFFINITY
    and x0, x0, x9
    ret

# Tells that the CPU x0 is there, and counts it.
report:
    str x30, [sp, #-16]!
    print "cpu: mpidr "
    bl put_hex
    print "\n"
    ldr w9, [x20]
    add w9, w9, #1
    str w9, [x20]
    dsb sy
    ldr x30, [sp], #16
    ret
    .ltorg

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
    .skip 512 * STACK
