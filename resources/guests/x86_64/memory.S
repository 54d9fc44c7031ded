# memory: writes and checks the first and the last 8 bytes of every range of
# RAM in the PVH memory map, those above 4 GiB included.
#
# The VMM should show: each range, `memory: N KiB`, `memory: ok`, and end with
# status 0. `memory: lost at ADDRESS` if something else is read than was
# written: no RAM there, or the same RAM twice.
# Boot: PVH, 32-bit; goes to long mode.

    .include "pvh.inc"
    .set LONG, 1
    .include "longmode.inc"

.set MEMMAP_RAM, 1
.set MAX_RANGES, 64

    .code32
main:
    mov start_info, %ebx        # a copy: the map may lie where the checks write
    mov START_MEMMAP(%ebx), %esi
    mov START_MEMMAP_ENTRIES(%ebx), %ecx
    cmp $MAX_RANGES, %ecx
    jbe 1f
    mov $MAX_RANGES, %ecx
1:  mov $ranges, %edi
    test %ecx, %ecx
    jz enter_long_mode
2:  cmpl $MEMMAP_RAM, MEMMAP_TYPE(%esi)
    jne 3f
    cmpl $0, MEMMAP_SIZE(%esi)
    jne 4f
    cmpl $0, MEMMAP_SIZE + 4(%esi)
    je 3f
4:  push %ecx
    mov $4, %ecx                # address and size
    rep movsl
    pop %ecx
    sub $16, %esi
3:  add $MEMMAP_LEN, %esi
    dec %ecx
    jnz 2b
    jmp enter_long_mode         # the end is an entry of zeros

    .include "console.inc"
    .include "power.inc"

main64:
    mov $ranges, %ebx
    xor %ebp, %ebp              # the sum
1:  mov 8(%rbx), %rax
    test %rax, %rax
    jz 2f
    add %rax, %rbp
    print "  RAM: "
    mov (%rbx), %rax
    call print_quad
    print ", size "
    mov 8(%rbx), %rax
    call print_quad
    print "\n"
    add $16, %rbx
    jmp 1b
2:  print "memory: "
    mov %rbp, %rax
    shr $10, %rax
    call print_dec
    print " KiB\n"

    # All are written before the first is checked: a write that lands in
    # another range too would go unnoticed otherwise.
    mov $save_and_write, %ebp
    call each_end
    mov $check, %ebp
    call each_end
    mov $restore, %ebp
    call each_end
    mov lost, %rdi
    test %rdi, %rdi
    jnz 3f
    print "memory: ok\n"
    jmp power_off
3:  print "memory: lost at "
    lea -1(%rdi), %rax
    call print_quad
    print "\n"
    jmp power_off

# Calls the routine at %rbp with the first and the last 8 bytes of each range:
# %rdi = the physical address, %rax = where it can be reached, %rdx = what is to
# stand there, %rsi = where the old contents are kept.
each_end:
    mov $ranges, %ebx
    mov $saved, %esi
1:  mov 8(%rbx), %rcx
    test %rcx, %rcx
    jz 2f
    mov (%rbx), %rdi
    call one_end
    mov (%rbx), %rdi
    lea -8(%rdi,%rcx), %rdi
    call one_end
    add $16, %rbx
    jmp 1b
2:  ret
one_end:
    call window
    movabs $0x5aa53cc3f00f9669, %rdx
    xor %rdi, %rdx
    call *%rbp
    add $8, %rsi
    ret

save_and_write:
    mov (%rax), %r8
    mov %r8, (%rsi)
    mov %rdx, (%rax)
    ret
check:
    cmp %rdx, (%rax)
    je 1f
    lea 1(%rdi), %rdx           # never 0
    mov %rdx, lost
1:  ret
restore:
    mov (%rsi), %r8
    mov %r8, (%rax)
    ret

# %rax as 0x and 16 digits.
print_quad:
    push %rdx
    mov %rax, %rdx
    shr $32, %rdx
    call print_hex64
    pop %rdx
    ret

    .bss
    .balign 8
ranges:
    .skip (MAX_RANGES + 1) * 16 # address, size
saved:
    .skip MAX_RANGES * 16
lost:
    .quad 0
