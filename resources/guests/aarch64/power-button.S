# power-button: halts until the power button is pressed, which is line 3 of the
# PL061 (DDI 0190).
#
# The VMM should show: `power-button: ready`; when the button is pressed,
# `power-button: pressed` and `power-button: released`, and end with status 0.
# Boot: ELF at its physical addresses.

    .include "start.inc"
    .include "console.inc"
    .include "numbers.inc"
    .include "fdt.inc"
    .include "gic.inc"
    .include "vectors.inc"
    .include "power.inc"

.set GPIO, 0x09030000
.set GPIO_INTID, 39
.set BUTTON, 1 << 3
.set GPIO_DATA_BUTTON, BUTTON << 2 // the address is the mask
.set GPIO_IBE, 0x408            // both edges
.set GPIO_IE, 0x410
.set GPIO_IC, 0x41c

main:
    mov x28, x0
    ldr x20, =GPIO
    bl use_vectors
    mov w0, #GPIO_INTID
    bl gic_enable
    mov w9, #BUTTON
    str w9, [x20, #GPIO_IBE]
    str w9, [x20, #GPIO_IE]
    print "power-button: ready\n"
    msr daifclr, #2
1:  wfi
    b 1b

on_irq:
    stp x30, x23, [sp, #-16]!
    bl gic_acknowledge
    mov x23, x0
    mov w9, #BUTTON
    str w9, [x20, #GPIO_IC]
    ldr w9, [x20, #GPIO_DATA_BUTTON]
    cbz w9, released
    print "power-button: pressed\n"
    mov x0, x23
    bl gic_end
    ldp x30, x23, [sp], #16
    ret

released:
    print "power-button: released\n"
    b power_off
    .ltorg
