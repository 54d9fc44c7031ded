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
    mov x28, x0
    mov x19, #0                 // number of the node
    mov x20, #0                 // bytes
1:  mov x0, x28
    address x1, memory
    address x2, reg
    mov x3, x19
    bl fdt_prop
    cbz x0, 4f
    add x19, x19, #1
    mov x21, x0                 // pairs of address and size, 64 bits each
    add x22, x0, x1
2:  cmp x21, x22
    b.hs 1b
    mov x0, x21
    bl be64
    mov x23, x0
    add x0, x21, #8
    bl be64
    mov x24, x0
    add x21, x21, #16
    add x20, x20, x24
    mov x0, x23
    bl put_hex
    print " to "
    add x24, x24, x23
    sub x0, x24, #1
    bl put_hex
    print "\n"
    mov x0, x23
    bl check
    sub x0, x24, #8
    bl check
    b 2b
4:  print "memory: "
    lsr x0, x20, #10
    bl put_decimal
    print " KiB\nmemory: ok\n"
    b power_off

# Writes to x0 its own address, reads it back, and restores what was there: the
# tree may be.
check:
    ldr x9, [x0]
    str x0, [x0]
    dsb sy
    ldr x10, [x0]
    str x9, [x0]
    cmp x10, x0
    b.ne 1f
    ret
1:  print "memory: lost at "
    bl put_hex
    print "\n"
    b power_off

    .section .rodata
memory:
    .asciz "memory"
reg:
    .asciz "reg"
