# wild: reads and writes where nobody is, in every width and shape, and checks
# that nobody answers as nobody does: all ones, of the access's own width.
#
# The VMM should show: a page of dots on the debug console (port 0xe9), then
# `wild: ok`, and end with status 0. Each answer that is not as it should be is
# shown as `wild: WHAT: VALUE, not VALUE`.
# Boot: PVH, 32-bit; goes to long mode, for 8-byte accesses and high addresses.

    .include "pvh.inc"
main:
    jmp enter_long_mode

    .set LONG, 1
    .include "longmode.inc"
    .include "console.inc"
    .include "power.inc"

.set PORT, 0x1230               # no device of a PC here
.set LAST_PORT, 0xffff
.set COM1_LAST, 0x3ff           # the last of COM1's 8 ports
.set BEFORE_COM1, COM1 - 1
.set DEBUG_CONSOLE, 0xe9
.set MMIO, 0xfb000000           # below the interrupt controllers, above RAM
.set ABOVE_4G, 1 << 35          # above the RAM of any machine that runs this
.set PAGE, 4096
.set LAST_BYTE, PAGE - 1
.set LAST_QUAD, PAGE - 8
.set CPUID_ADDRESS_BITS, 0x80000008
.set DEFAULT_ADDRESS_BITS, 36
.set REPEATS, 4096
.set OLD, 0x1122334455667788    # in a register before it is read into

# Compares %rax with a value, and tells if they differ.
.macro expect what, value
    movabs $\value, %rbx
    pushr si
    .pushsection .rodata
.Lwhat\@:
    .asciz "\what"
    .popsection
    mov $.Lwhat\@, %esi
    call compare
    popr si
.endm

# One read of a port into a register that holds OLD.
.macro in_port port, register, name, value
    movabs $OLD, %rax
    mov $\port, %edx
    in %dx, \register
    expect "\name \port", \value
.endm

main64:
    call ports
    call port_strings
    call debug_console
    mov $MMIO, %edi
    call mmio
    movabs $ABOVE_4G, %rdi
    call mmio
    call highest_address        # its last page
    sub $PAGE, %rdi
    call mmio
    call end_of_ram
    cmpl $0, failures
    jne power_off
    print "wild: ok\n"
    jmp power_off

compare:
    cmp %rbx, %rax
    je 1f
    incl failures
    print "wild: "
    call puts
    print ": "
    call print_quad
    print ", not "
    mov %rbx, %rax
    call print_quad
    print "\n"
1:  ret

# %rax as 0x and 16 digits. Clobbers %rdx.
print_quad:
    mov %rax, %rdx
    shr $32, %rdx
    jmp print_hex64

# Single port accesses. A read of 8 or 16 bits leaves the rest of %rax alone;
# one of 32 bits clears the upper half, as in long mode every write of a 32-bit
# register does.
ports:
    in_port PORT, %al, "inb", 0x11223344556677ff
    in_port PORT, %ax, "inw", 0x112233445566ffff
    in_port PORT, %eax, "inl", 0x00000000ffffffff
    in_port PORT + 1, %ax, "inw", 0x112233445566ffff
    in_port PORT + 3, %eax, "inl", 0x00000000ffffffff
    in_port LAST_PORT, %al, "inb", 0x11223344556677ff
    in_port LAST_PORT, %ax, "inw", 0x112233445566ffff       # over the end of all ports
    in_port LAST_PORT, %eax, "inl", 0x00000000ffffffff
    in_port COM1_LAST, %ax, "inw", 0x112233445566ffff       # over the end of COM1
    in_port COM1_LAST, %eax, "inl", 0x00000000ffffffff
    in_port BEFORE_COM1, %eax, "inl", 0x00000000ffffffff       # over its beginning
    mov $PORT, %edx
    call out_all
    mov $LAST_PORT, %edx
    call out_all
    mov $COM1_LAST, %edx        # the byte is COM1's scratch register
out_all:
    movabs $OLD, %rax
    out %al, %dx
    out %ax, %dx
    out %eax, %dx
    expect "the register behind out", OLD
    ret

# rep ins and rep outs, up to 4096 elements and none at all.
.macro port_string instruction, count, what
    movabs $OLD, %rax           # what is in the buffer before
    mov $buffer, %edi
    mov $REPEATS * 4 / 8 + 1, %ecx
    rep stosq
    mov $buffer, %edi
    mov $buffer, %esi
    mov $\count, %ecx
    mov $PORT, %edx
    rep \instruction
    mov %rcx, %rax
    expect "\what: what is left of the count", 0
.endm

# The first BYTES of the buffer are to be all ones, and none behind them.
.macro ones_in_buffer bytes, what
    mov $\bytes, %ecx
    mov $buffer, %esi
    call count_ones
    expect "\what: bytes that are all ones", \bytes
    movzbl buffer + \bytes, %eax
    expect "\what: the byte behind", 0x88
.endm

port_strings:
    port_string insb, 0, "rep insb of none"
    ones_in_buffer 0, "rep insb of none"
    port_string insb, 1, "rep insb"
    movzwl buffer, %eax
    expect "rep insb of one", 0x77ff
    port_string insb, REPEATS, "rep insb"
    ones_in_buffer REPEATS, "rep insb"
    port_string insw, REPEATS, "rep insw"
    ones_in_buffer 2*REPEATS, "rep insw"
    port_string insl, REPEATS, "rep insl"
    ones_in_buffer 4*REPEATS, "rep insl"
    port_string outsb, REPEATS, "rep outsb"
    port_string outsw, REPEATS, "rep outsw"
    port_string outsl, REPEATS, "rep outsl"
    std                         # downwards
    mov $buffer + REPEATS, %edi
    mov $REPEATS, %ecx
    mov $PORT, %edx
    rep insb
    cld
    mov %rdi, %rax
    sub $buffer, %rax
    expect "rep insb downwards: where it ends", 0
    ret

# %rax = how many of the %ecx bytes at %rsi are 0xff.
count_ones:
    xor %eax, %eax
    test %ecx, %ecx
    jz 3f
1:  cmpb $0xff, (%rsi)
    jne 2f
    inc %eax
2:  inc %rsi
    dec %ecx
    jnz 1b
3:  ret

# Strings of 4096 bytes to and from the debug console.
debug_console:
    mov $buffer, %edi
    mov $REPEATS / 64, %ecx
1:  push %rcx
    mov $'.', %al
    mov $63, %ecx
    rep stosb
    mov $'\n', %al
    stosb
    pop %rcx
    dec %ecx
    jnz 1b
    mov $buffer, %esi
    mov $REPEATS, %ecx
    mov $DEBUG_CONSOLE, %edx
    rep outsb
    mov $buffer, %esi           # wider than the console is: it decides what to do
    mov $64 / 4, %ecx
    rep outsl
    mov $buffer, %edi
    mov $REPEATS / 2, %ecx
    rep insw
    mov $buffer, %edi
    mov $REPEATS, %ecx
    rep insb
    movzbl buffer + REPEATS - 1, %eax
    expect "rep insb from port 0xe9: the last byte", 0xe9
    ret

# One page of addresses that nobody owns, from the physical address %rdi on.
mmio:
    push %rdi
    call window
    mov %rax, %rdi
    call mmio_reads
    call mmio_writes
    pop %rdi
    ret

.macro read_at offset, register, name, value
    movabs $OLD, %rax
    mov \offset(%rdi), \register
    expect "\name mmio \offset", \value
.endm

mmio_reads:
    read_at 0, %al, "movb", 0x11223344556677ff
    read_at 0, %ax, "movw", 0x112233445566ffff
    read_at 0, %eax, "movl", 0x00000000ffffffff
    read_at 0, %rax, "movq", 0xffffffffffffffff
    read_at 1, %ax, "movw", 0x112233445566ffff
    read_at 3, %eax, "movl", 0x00000000ffffffff
    read_at 5, %rax, "movq", 0xffffffffffffffff
    read_at LAST_BYTE, %al, "movb", 0x11223344556677ff
    read_at LAST_QUAD, %rax, "movq", 0xffffffffffffffff
    movabs $OLD, %rax
    movzbl (%rdi), %eax
    expect "movzbl mmio", 0xff
    movsbq (%rdi), %rax
    expect "movsbq mmio", 0xffffffffffffffff
    movzwl (%rdi), %eax
    expect "movzwl mmio", 0xffff
    movslq (%rdi), %rax
    expect "movslq mmio", 0xffffffffffffffff
    movabs $OLD, %rax
    xchg %al, (%rdi)            # reads, then writes
    expect "xchg mmio", 0x11223344556677ff
    push %rdi
    mov %rdi, %rsi
    mov $buffer, %edi
    mov $64, %ecx
    rep movsb
    pop %rdi
    mov $64, %ecx
    mov $buffer, %esi
    call count_ones
    expect "rep movsb mmio: bytes that are all ones", 64
    ret

mmio_writes:
    movabs $OLD, %rax
    mov %al, (%rdi)
    mov %ax, (%rdi)
    mov %eax, (%rdi)
    mov %rax, (%rdi)
    mov %ax, 1(%rdi)
    mov %eax, 3(%rdi)
    mov %rax, 5(%rdi)
    mov %rax, PAGE - 8(%rdi)
    orl $1, (%rdi)              # reads, then writes
    push %rdi
    mov $64, %ecx
    rep stosq
    pop %rdi
    read_at 0, %rax, "movq behind the writes", 0xffffffffffffffff
    ret

# %rdi = the end of the physical addresses that this CPU has.
highest_address:
    mov $0x80000000, %eax
    cpuid
    mov $DEFAULT_ADDRESS_BITS, %ecx
    cmp $CPUID_ADDRESS_BITS, %eax
    jb 1f
    mov $CPUID_ADDRESS_BITS, %eax
    cpuid
    movzbl %al, %ecx
1:  mov $1, %edi
    shl %cl, %rdi
    ret

# 8 bytes, half of them the last of the RAM below 4 GiB, half of them behind it.
end_of_ram:
    mov start_info, %eax
    mov START_MEMMAP(%rax), %esi
    mov START_MEMMAP_ENTRIES(%rax), %ecx
1:  dec %ecx
    js 3f
    cmpl $1, MEMMAP_TYPE(%rsi)
    jne 2f
    mov MEMMAP_ADDR(%rsi), %rdi
    cmp $0x100000, %rdi         # the range that holds this guest
    jne 2f
    add MEMMAP_SIZE(%rsi), %rdi
    test $PAGE - 1, %edi
    jnz 3f
    sub $8, %rdi                # the window begins with the RAM's last bytes
    call window
    lea 8(%rax), %rdi
    read_at 0, %eax, "movl", 0x00000000ffffffff
    movl $0x01020304, -4(%rdi)
    mov -4(%rdi), %rax
    expect "movq over the end of RAM", 0xffffffff01020304
    movabs $OLD, %rax
    mov %rax, -4(%rdi)
    mov -4(%rdi), %eax
    expect "RAM behind a movq over its end", 0x55667788
    ret
2:  add $MEMMAP_LEN, %rsi
    jmp 1b
3:  ret

    .bss
    .balign 16
buffer:
    .skip REPEATS * 4 + 16
failures:
    .skip 4
