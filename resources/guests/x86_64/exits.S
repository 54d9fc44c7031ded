# exits: a benchmark of what one exit costs. Reads COM1's line status register
# over and over between two lines of text.
#
# Command line: nothing, or how many reads (300000); with the word `halt` it then
# halts with interrupts off, so that what is left can be looked at.
# The VMM should show: `exits: start`, then `exits: done`, and end with status 0.
# Boot: PVH, 32-bit.

    .include "pvh.inc"
    .include "console.inc"
    .include "power.inc"
    .include "cmdline.inc"

main:
    print "exits: start\n"
    call reads
    mov %eax, %ecx
    mov $COM1_LSR, %dx
1:  in %dx, %al
    dec %ecx
    jnz 1b
    print "exits: done\n"
    if_arg "halt", halt
    ret

# %eax = how many reads: the first word that begins with a digit other than 0.
reads:
    mov start_info, %eax
    mov START_CMDLINE(%eax), %esi
    test %esi, %esi
    jz 3f
    mov $' ', %ah
1:  lodsb
    test %al, %al
    jz 3f
    cmp $' ', %ah               # only at the start of a word
    ja 2f
    cmp $'1', %al
    jb 2f
    cmp $'9', %al
    ja 2f
    dec %esi
    jmp parse_number
2:  mov %al, %ah
    jmp 1b
3:  mov $300000, %eax
    ret
