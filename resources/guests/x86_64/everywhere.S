# everywhere: reads every port and writes nearly every port in each width, then
# reads and writes through the addresses between RAM and 4 GiB.
#
# The VMM should show: `everywhere: ports read`, `everywhere: ports written`,
# `everywhere: memory read`, `everywhere: memory written`, `everywhere: ok`, and
# end with status 0, its log no longer than a page.
# Boot: PVH, 32-bit.

    .include "pvh.inc"
    .include "console.inc"
    .include "power.inc"

.set PORTS, 0x10000
.set STEP, 0x10000              # between two addresses in memory
.set END_OF_RAM, 0xc0000000     # above it, there is none below 4 GiB on a PC
.set NOISE, 0xa5a5a5a5

main:
    xor %edx, %edx
1:  in %dx, %al
    in %dx, %ax
    in %dx, %eax
    inc %edx
    cmp $PORTS, %edx
    jb 1b
    print "everywhere: ports read\n"

    xor %edx, %edx
    mov $spared, %esi
2:  cmp 2(%esi), %dx            # behind this range: on to the next
    jbe 3f
    add $4, %esi
    jmp 2b
3:  cmp (%esi), %dx
    jae 4f
    mov %edx, %eax
    xor $NOISE, %eax
    out %al, %dx
    out %ax, %dx
    out %eax, %dx
4:  inc %edx
    cmp $PORTS, %edx
    jb 2b
    print "everywhere: ports written\n"

    mov $END_OF_RAM, %edi
5:  mov (%edi), %al
    mov (%edi), %ax
    mov (%edi), %eax
    add $STEP, %edi
    jnc 5b
    print "everywhere: memory read\n"

    mov $END_OF_RAM, %edi
6:  mov $NOISE, %eax
    mov %al, (%edi)
    mov %ax, (%edi)
    mov %eax, (%edi)
    add $STEP, %edi
    jnc 6b
    print "everywhere: memory written\n"
    print "everywhere: ok\n"
    ret

# The ports that are spared the noise, from and to, ascending: what would end
# the guest or take away its console.
    .section .rodata
    .balign 2
spared:
    .word 0x0060, 0x0064        # keyboard controller
    .word 0x0092, 0x0092        # fast reset
    .word 0x00e9, 0x00e9        # debug console
    .word 0x00f4, 0x00f7        # test exit
    .word 0x03f8, 0x03ff        # COM1
    .word 0x0500, 0x0507        # test exit, pvpanic
    .word 0x0600, 0x0607        # power
    .word 0x0cf8, 0x0cff        # PCI configuration, reset
    .word 0xffff, 0xffff        # the list's end, and the last port
