# i8042: talks to the keyboard controller, and to the keyboard if there is one.
#
# Command line: `cad` to wait for Ctrl-Alt-Del behind that.
# The VMM should show: `i8042: status 0x…`, then for the self test (0x55 is
# right), the keyboard's reset (0xfa 0xaa) and its id (0xfa 0xab 0x41, which is
# 0x83 translated) the bytes that came, `none` if none did; and end with status 0. With `cad`: `i8042:
# ready`, the scan codes as they come, `i8042: Ctrl-Alt-Del`, status 0.
# Boot: PVH, 32-bit.

    .include "pvh.inc"
    .include "console.inc"
    .include "cmdline.inc"
    .include "power.inc"

.set DATA, 0x60
.set COMMAND, 0x64              # read: status
.set STATUS_OUTPUT, 0x01        # a byte is there to be read
.set STATUS_INPUT, 0x02         # the controller has not taken the last one
.set SELF_TEST, 0xaa
.set ENABLE_KEYBOARD, 0xae
.set WRITE_CONFIG, 0x60
.set CONFIG_TRANSLATE, 0x40     # scan codes of set 1
.set KEYBOARD_RESET, 0xff
.set KEYBOARD_ID, 0xf2
.set POLLS, 10000               # before nothing is expected any more

.set SCAN_CTRL, 0x1d
.set SCAN_ALT, 0x38
.set SCAN_DEL, 0x53
.set SCAN_RELEASED, 0x80

main:
    print "i8042: status 0x"
    in $COMMAND, %al
    call print_hex8
    print "\n"
    mov $16, %ecx               # what is left from before
1:  in $COMMAND, %al
    test $STATUS_OUTPUT, %al
    jz 2f
    in $DATA, %al
    dec %ecx
    jnz 1b

2:  print "i8042: self test:"
    mov $SELF_TEST, %al
    call command
    call print_answer
    mov $ENABLE_KEYBOARD, %al
    call command
    mov $WRITE_CONFIG, %al
    call command
    mov $CONFIG_TRANSLATE, %al
    call data
    print "i8042: keyboard reset:"
    mov $KEYBOARD_RESET, %al
    call data
    call print_answer
    print "i8042: keyboard id:"
    mov $KEYBOARD_ID, %al
    call data
    call print_answer
    if_arg "cad", wait_for_keys
    ret

wait_for_keys:
    print "i8042: ready\n"
    xor %ebx, %ebx              # 1: Ctrl is down, 2: Alt is down
1:  in $COMMAND, %al
    test $STATUS_OUTPUT, %al
    jz 1b
    in $DATA, %al
    print "i8042: scan code 0x"
    call print_hex8
    print "\n"
    mov %al, %cl
    and $~SCAN_RELEASED, %cl
    mov $1, %edx
    cmp $SCAN_CTRL, %cl
    je 2f
    mov $2, %edx
    cmp $SCAN_ALT, %cl
    je 2f
    cmp $SCAN_DEL, %al
    jne 1b
    cmp $3, %ebx
    jne 1b
    print "i8042: Ctrl-Alt-Del\n"
    ret
2:  or %edx, %ebx
    test $SCAN_RELEASED, %al
    jz 1b
    xor %edx, %ebx
    jmp 1b

# %al to the command port, or to the data port.
command:
    call wait_until_taken
    out %al, $COMMAND
    ret
data:
    call wait_until_taken
    out %al, $DATA
    ret

wait_until_taken:
    mov %al, %ah
    mov $POLLS, %ecx
1:  in $COMMAND, %al
    test $STATUS_INPUT, %al
    jz 2f
    dec %ecx
    jnz 1b
2:  mov %ah, %al
    ret

# The bytes that come until none does for a while, and a newline.
print_answer:
    xor %ebx, %ebx              # how many came
1:  mov $POLLS, %ecx
2:  in $COMMAND, %al
    test $STATUS_OUTPUT, %al
    jnz 3f
    dec %ecx
    jnz 2b
    test %ebx, %ebx
    jnz 4f
    print " none"
4:  print "\n"
    ret
3:  in $DATA, %al
    print " 0x"
    call print_hex8
    inc %ebx
    cmp $16, %ebx               # a port that nobody owns always has something
    jb 1b
    print " and so on\n"
    ret
