# debug-ports: the ports for people who debug a guest: the debug console at
# 0xe9 and the POST code port at 0x80.
#
# The VMM should show: on the debug console `debug-ports: a line on port 0xe9`
# and `debug-ports: a string on port 0xe9`, POST codes 0x01 to 0x05 and 0xaa,
# on COM1 `debug-ports: 0xe9 reads 0xe9` as on QEMU and Bochs, and end with
# status 0.
# Boot: PVH, 32-bit.

    .include "pvh.inc"
    .include "console.inc"
    .include "power.inc"

.set DEBUG_CONSOLE, 0xe9
.set POST_CODE, 0x80

main:
    mov $1, %al
1:  out %al, $POST_CODE
    inc %al
    cmp $5, %al
    jbe 1b
    mov $0xaa, %al
    out %al, $POST_CODE

    mov $line, %esi             # byte by byte
2:  lodsb
    test %al, %al
    jz 3f
    out %al, $DEBUG_CONSOLE
    jmp 2b
3:  mov $string, %esi           # and all at once
    mov $string_len, %ecx
    mov $DEBUG_CONSOLE, %edx
    rep outsb

    in $DEBUG_CONSOLE, %al
    print "debug-ports: 0xe9 reads 0x"
    call print_hex8
    print "\n"
    ret

    .section .rodata
line:
    .asciz "debug-ports: a line on port 0xe9\n"
string:
    .ascii "debug-ports: a string on port 0xe9\n"
.set string_len, . - string
