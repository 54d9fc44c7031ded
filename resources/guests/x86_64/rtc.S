# rtc: reads the date and the time from the CMOS clock.
#
# The VMM should show: `rtc: YYYY-MM-DD hh:mm:ss`, the host's time in UTC, and
# end with status 0. `rtc: always updating` if the clock never stands still.
# Boot: PVH, 32-bit. MC146818 as in a PC/AT.

    .include "pvh.inc"
    .include "console.inc"
    .include "power.inc"

.set CMOS_INDEX, 0x70
.set CMOS_DATA, 0x71
.set STATUS_A, 0x0a
.set UPDATING, 0x80
.set STATUS_B, 0x0b
.set BINARY, 0x04               # else BCD
.set HOURS_24, 0x02             # else 1 to 12, and bit 7 for the afternoon
.set PM, 0x80
.set SECONDS, 0                 # indexes into the time, see time_registers
.set MINUTES, 1
.set HOURS, 2
.set DAY, 3
.set MONTH, 4
.set YEAR, 5
.set CENTURY, 6
.set TIME_LEN, 7
.set TRIES, 1000000

main:
    mov $first, %edi
    call read_time
again:
    mov $second, %edi           # twice the same, or an update came between
    call read_time
    mov $first, %esi
    mov $second, %edi
    mov $TIME_LEN, %ecx
    repe cmpsb
    je settled
    mov $second, %esi
    mov $first, %edi
    mov $TIME_LEN, %ecx
    rep movsb
    jmp again

settled:
    mov $STATUS_B, %al
    call read_cmos
    mov %al, %bl
    mov first + HOURS, %bh      # bit 7 is no part of the number
    andb $~PM, first + HOURS
    test $BINARY, %bl
    jnz 2f
    mov $first, %esi
    mov $TIME_LEN, %ecx
1:  mov (%esi), %al
    call from_bcd
    mov %al, (%esi)
    inc %esi
    dec %ecx
    jnz 1b
2:  test $HOURS_24, %bl
    jnz 4f
    cmpb $12, first + HOURS     # 12 is 0, in the morning and in the afternoon
    jne 3f
    movb $0, first + HOURS
3:  test $PM, %bh
    jz 4f
    addb $12, first + HOURS
4:  cmpb $19, first + CENTURY   # a clock without the register gives nonsense
    jb 5f
    cmpb $29, first + CENTURY
    jbe 6f
5:  movb $20, first + CENTURY

6:  print "rtc: "
    mov $CENTURY, %ecx
    call print_field
    mov $YEAR, %ecx
    call print_field
    print "-"
    mov $MONTH, %ecx
    call print_field
    print "-"
    mov $DAY, %ecx
    call print_field
    print " "
    mov $HOURS, %ecx
    call print_field
    print ":"
    mov $MINUTES, %ecx
    call print_field
    print ":"
    mov $SECONDS, %ecx
    call print_field
    print "\n"
    ret

# Two digits: the field of the time with index %ecx.
print_field:
    mov first(%ecx), %al
    aam                         # %ah = tens, %al = ones
    xchg %al, %ah
    call print_digit
    mov %ah, %al
    jmp print_digit

from_bcd:
    mov %al, %ah
    shr $4, %ah
    and $0xf, %al
    aad
    ret

# %al = CMOS register %al.
read_cmos:
    out %al, $CMOS_INDEX
    in $CMOS_DATA, %al
    ret

# The time's registers to the bytes at %edi, outside an update.
read_time:
    mov $TRIES, %ecx
1:  mov $STATUS_A, %al
    call read_cmos
    test $UPDATING, %al
    jz 2f
    dec %ecx
    jnz 1b
    print "rtc: always updating\n"
    jmp power_off
2:  mov $time_registers, %esi
    mov $TIME_LEN, %ecx
3:  lodsb
    call read_cmos
    stosb
    dec %ecx
    jnz 3b
    ret

    .section .rodata
time_registers:
    .byte 0x00, 0x02, 0x04, 0x07, 0x08, 0x09, 0x32

    .bss
first:
    .skip TIME_LEN
second:
    .skip TIME_LEN
