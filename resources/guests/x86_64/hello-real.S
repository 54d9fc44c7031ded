# hello-real: prints one line in 16-bit real mode and powers off.
#
# The VMM should show: `Hello from real mode`, and end with status 0.
# Boot: flat binary, loaded and entered at 0x8000 in real mode with segments of
# base 0, as AxVisor starts its x86 guests.

.set LOAD_ADDRESS, 0x8000
.set POWER_PORT, 0x604
.set POWER_OFF, 0x2000

    .code16
    .include "console.inc"

    .section .head, "ax"
    .code16
    .globl start
start:
    cli
    cld
    ljmp $0, $1f                # whatever CS:IP said the address with
1:  xor %eax, %eax
    mov %ax, %ds
    mov %ax, %ss
    mov $LOAD_ADDRESS, %esp     # the stack is below the code
    print "Hello from real mode\n"
    mov $POWER_PORT, %dx
    mov $POWER_OFF, %ax
    out %ax, %dx
2:  hlt
    jmp 2b
