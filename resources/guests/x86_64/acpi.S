# acpi: powers off, or with `reset` on the command line resets, by what the
# ACPI tables say and by nothing else.
#
# The VMM should show: each table's signature and address, the register that is
# used, and end with status 0 (`reset`: reset the guest, or end with 32).
# `acpi: failed: …` if the tables do not say how, `acpi: still here` if what
# they say does nothing.
# Boot: PVH, 32-bit.

    .include "pvh.inc"
    .include "console.inc"
    .include "cmdline.inc"
    .include "acpi.inc"

# The FADT, ACPI 6.5, section 5.2.9.
.set FADT_SIGNATURE, 0x50434146 # "FACP"
.set FADT_DSDT, 40              # u32
.set FADT_PM1A_CONTROL, 64      # u32, a port
.set FADT_FLAGS, 112            # u32
.set FLAG_RESET_REG, 1 << 10
.set FLAG_HW_REDUCED, 1 << 20
.set FADT_RESET_REG, 116        # generic address
.set FADT_RESET_VALUE, 128      # u8
.set FADT_X_DSDT, 140           # u64
.set FADT_SLEEP_CONTROL, 244    # generic address
# A generic address structure, section 5.2.3.2.
.set GAS_SPACE, 0               # u8
.set GAS_ADDRESS, 4             # u64
.set SPACE_MEMORY, 0
.set SPACE_PORT, 1

.set S5_NAME, 0x5f35535f        # "_S5_"
.set AML_PACKAGE, 0x12
.set AML_BYTE, 0x0a
.set SLP_EN_REDUCED, 0x20       # of the 8-bit sleep control register, type in bits 2 to 4
.set SLP_EN_PM1, 0x2000         # of the 16-bit PM1 control register, type in bits 10 to 12

main:
    mov $print_table, %edi
    call each_table
    mov $FADT_SIGNATURE, %ebx
    call find_table
    test %eax, %eax
    jz no_fadt
    mov %eax, %ebp              # the FADT, from here on
    if_arg "reset", reset
    call find_s5
    testl $FLAG_HW_REDUCED, FADT_FLAGS(%ebp)
    jz pm1

    print "acpi: power off by the sleep control register, "
    mov %eax, %ebx
    shl $2, %ebx
    or $SLP_EN_REDUCED, %ebx
    lea FADT_SLEEP_CONTROL(%ebp), %esi
    call write_register
    jmp still_here

pm1:
    print "acpi: power off by the PM1a control register, "
    mov %eax, %ebx
    shl $10, %ebx
    or $SLP_EN_PM1, %ebx
    mov FADT_PM1A_CONTROL(%ebp), %edx
    mov %edx, %eax
    call print_hex32
    print "\n"
    mov %ebx, %eax
    out %ax, %dx
    jmp still_here

reset:
    print "acpi: reset by the reset register, "
    testl $FLAG_RESET_REG, FADT_FLAGS(%ebp)
    jz no_reset
    mov FADT_RESET_VALUE(%ebp), %bl
    lea FADT_RESET_REG(%ebp), %esi
    call write_register

still_here:
    mov $1000000, %ecx          # a VMM may be a moment behind
1:  pause
    dec %ecx
    jnz 1b
    print "acpi: still here\n"
    jmp halt
no_fadt:
    print "acpi: failed: no FADT\n"
    jmp halt
no_reset:
    print "\nacpi: failed: the FADT has no reset register\n"
    jmp halt
no_s5:
    print "acpi: failed: no _S5 in the DSDT\n"
    jmp halt
bad_space:
    print "\nacpi: failed: a register that is neither a port nor memory\n"
halt:
power_off:                      # for pvh.inc, though main does not return here
    cli
    hlt
    jmp halt

# `  table: FACP at 0x000e1234`, for each_table.
print_table:
    print "  table: "
    pushr cx
    pushr ax
    mov (%eax), %eax
    mov $4, %ecx
1:  call putc
    ror $8, %eax
    dec %ecx
    jnz 1b
    popr ax
    popr cx
    print " at "
    call print_hex32
    call is_sound
    je 2f
    print ", checksum wrong"
2:  print "\n"
    test %eax, %eax             # go on
    ret

# Writes %bl to the register whose generic address is at %esi.
write_register:
    mov GAS_ADDRESS(%esi), %edx
    mov %edx, %eax
    call print_hex32
    mov GAS_SPACE(%esi), %al
    cmp $SPACE_PORT, %al
    je 1f
    cmp $SPACE_MEMORY, %al
    jne bad_space
    print " in memory\n"
    mov %bl, (%edx)
    ret
1:  print " (port)\n"
    mov %bl, %al
    out %al, %dx
    ret

# %eax = SLP_TYPa, the first element of the package \_S5 in the DSDT. %ebp = FADT.
find_s5:
    mov FADT_DSDT(%ebp), %eax
    test %eax, %eax
    jnz 1f
    mov FADT_X_DSDT(%ebp), %eax
    test %eax, %eax
    jz no_s5
1:  call print_table
    mov TABLE_LEN(%eax), %ecx
    lea -TABLE_HEADER - 8(%ecx), %ecx   # the name, and what is read behind it
    lea TABLE_HEADER(%eax), %esi
    test %ecx, %ecx
    jle no_s5
2:  cmpl $S5_NAME, (%esi)
    jne 3f
    cmpb $AML_PACKAGE, 4(%esi)
    je 4f
3:  inc %esi
    dec %ecx
    jnz 2b
    jmp no_s5
4:  movzbl 5(%esi), %eax        # package length: its top bits say how many bytes follow
    shr $6, %eax
    lea 7(%esi,%eax), %esi      # behind that and the number of elements
    movzbl (%esi), %eax         # ZeroOp and OneOp are their own values
    cmp $AML_BYTE, %al
    jne 5f
    movzbl 1(%esi), %eax
5:  and $7, %eax
    ret
