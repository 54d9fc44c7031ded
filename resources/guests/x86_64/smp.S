# smp: starts every processor that the MADT names, by INIT and SIPI.
#
# The VMM should show, for each processor that came up, the APIC id of CPUID
# leaf 1 and the topology of leaf 0xb, then `smp: N cpus`, and end with status 0.
# `smp: N cpus of M` if some did not come up within a long while. With
# `poweroff` or `reset` on the command line, all processors do that at once:
# status 0, or one reset (32).
# Boot: PVH, 32-bit.

    .include "pvh.inc"
    .include "console.inc"
    .include "cmdline.inc"
    .include "acpi.inc"
    .include "madt.inc"
    .include "local-apic.inc"
    .include "power.inc"

.set CPUID_FEATURES, 0x1        # the initial APIC id is in bits 31 to 24 of %ebx
.set CPUID_TOPOLOGY, 0xb

# Low memory that the real-mode code uses. What the VMM had put there is no
# longer needed by then.
.set TRAMPOLINE, 0x8000         # a page number of its own for the SIPI
.set REPORTS, 0x9000            # 16 bytes for each APIC id
.set REPORT_PRESENT, 0          # u8
.set REPORT_LEVELS, 1           # u8, 1 if leaf 0xb is there
.set REPORT_X2APIC, 4           # u32
.set REPORT_THREADS, 8          # u32, in a core
.set REPORT_CPUS, 12            # u32, in a package
.set REPORT_LEN, 16
.set REPORTS_LEN, 256 * REPORT_LEN
.set ARRIVED, TRAMPOLINE + 0xffc    # u32
.set TOGETHER, TRAMPOLINE + 0xff8   # u8, what all are to do at the end:
.set NOTHING, 0                     # halt
.set WAIT, 1                        # wait for one of these two
.set POWER_OFF_NOW, 2
.set RESET_NOW, 3

.set PATIENCE, 16               # in 2^32 cycles of the TSC: about half a minute

main:
    if_arg "poweroff", together_off
    if_arg "reset", together_reset
start_all:
    mov $collect, %edi
    call each_madt_entry
    test %eax, %eax
    jnz 1f
    print "smp: no MADT, so no other cpus\n"

1:  mov $trampoline, %esi
    mov $TRAMPOLINE, %edi
    mov $trampoline_len, %ecx
    rep movsb
    mov $REPORTS, %edi
    mov $REPORTS_LEN / 4, %ecx
    xor %eax, %eax
    rep stosl
    mov %eax, ARRIVED
    mov together, %al
    mov %al, TOGETHER
    call report                 # the processor that this runs on
    call start_others

    rdtsc
    lea PATIENCE(%edx), %ebx
2:  mov ARRIVED, %eax
    cmp others, %eax
    jae 3f
    pause
    rdtsc
    cmp %ebx, %edx
    jb 2b

3:  xor %ebx, %ebx
4:  call print_report
    inc %ebx
    cmp $256, %ebx
    jb 4b
    print "smp: "
    mov ARRIVED, %eax
    inc %eax
    call print_dec
    print " cpus"
    mov others, %ebx
    inc %ebx
    cmp %eax, %ebx
    je 5f
    print " of "
    mov %ebx, %eax
    call print_dec
5:  print "\n"
    mov at_the_end, %al
    mov %al, TOGETHER
    cmp $RESET_NOW, %al
    je reset
    ret

together_off:
    movb $POWER_OFF_NOW, at_the_end
    jmp 1f
together_reset:
    movb $RESET_NOW, at_the_end
1:  movb $WAIT, together
    jmp start_all

# Keeps the APIC ids of the enabled processors, for each_madt_entry.
collect:
    cmp $MADT_LOCAL_APIC, %al
    jne 1f
    movzbl 3(%esi), %edx
    mov 4(%esi), %eax
    jmp 2f
1:  cmp $MADT_LOCAL_X2APIC, %al
    jne 3f
    mov 4(%esi), %edx
    mov 8(%esi), %eax
2:  test $MADT_ENABLED, %al
    jz 3f
    cmp $255, %edx              # more would need the x2APIC's registers
    jae 3f
    movb $1, wanted(%edx)
3:  ret

# INIT and SIPI to each processor but this one. KVM keeps both until the other
# one's thread takes them, in this order, so that no delay is needed between.
start_others:
    mov APIC_ID, %eax
    shr $24, %eax
    movb $0, wanted(%eax)
    xor %ecx, %ecx
1:  cmpb $0, wanted(%ecx)
    je 2f
    incl others
    mov $ICR_INIT, %eax
    call send_ipi
    mov $ICR_STARTUP | TRAMPOLINE >> 12, %eax
    call send_ipi
2:  inc %ecx
    cmp $255, %ecx
    jb 1b
    ret

# The command %eax to the processor with APIC id %ecx.
send_ipi:
    mov %ecx, %edx
    shl $24, %edx
    mov %edx, APIC_ICR_HIGH
    mov %eax, APIC_ICR_LOW
1:  testl $ICR_PENDING, APIC_ICR_LOW
    jnz 1b
    ret

# What the processor with APIC id %ebx said about itself, if it did.
print_report:
    mov %ebx, %esi
    shl $4, %esi
    add $REPORTS, %esi
    cmpb $0, REPORT_PRESENT(%esi)
    je 2f
    print "  cpu: apic id "
    mov %ebx, %eax
    call print_dec
    cmpb $0, REPORT_LEVELS(%esi)
    je 1f
    print ", x2apic id "
    mov REPORT_X2APIC(%esi), %eax
    call print_dec
    print ", threads in a core "
    mov REPORT_THREADS(%esi), %eax
    call print_dec
    print ", in a package "
    mov REPORT_CPUS(%esi), %eax
    call print_dec
1:  print "\n"
2:  ret

# Writes this processor's report. The source is the same for both modes; real
# mode needs the addresses below 64 KiB. Clobbers all but %esp.
.macro write_report
    xor %eax, %eax
    cpuid
    mov %eax, %ebp              # the highest leaf
    mov $CPUID_FEATURES, %eax
    cpuid
    shr $24, %ebx
    mov %ebx, %edi
    shl $4, %edi
    add $REPORTS, %edi
    cmp $CPUID_TOPOLOGY, %ebp
    jb 8f
    mov $CPUID_TOPOLOGY, %eax
    xor %ecx, %ecx              # level 0: the threads of a core
    cpuid
    test %ebx, %ebx
    jz 8f
    movb $1, REPORT_LEVELS(%edi)
    mov %edx, REPORT_X2APIC(%edi)
    mov %ebx, REPORT_THREADS(%edi)
    mov $CPUID_TOPOLOGY, %eax
    mov $1, %ecx                # level 1: all threads of the package
    cpuid
    mov %ebx, REPORT_CPUS(%edi)
8:  movb $1, REPORT_PRESENT(%edi)
.endm

report:
    write_report
    ret

# Where the other processors begin: real mode, CS = TRAMPOLINE >> 4, IP = 0.
# Nothing in it depends on where it stands.
    .section .rodata
trampoline:
    .code16
    cli
    xor %ax, %ax
    mov %ax, %ds
    write_report
    lock incl ARRIVED
1:  pause
    mov TOGETHER, %al
    cmp $WAIT, %al
    je 1b
    cmp $POWER_OFF_NOW, %al
    je 2f
    cmp $RESET_NOW, %al
    je 3f
4:  hlt
    jmp 4b
2:  mov $POWER_PORT, %dx
    mov $POWER_OFF, %ax
    out %ax, %dx
    jmp 4b
3:  mov $RESET_CONTROL, %dx
    mov $RESET_HARD, %al
    out %al, %dx
    jmp 4b
.set trampoline_len, . - trampoline

    .bss
wanted:
    .skip 256                   # by APIC id: 1 if it is to be started
together:                       # what the others begin with
    .skip 1
at_the_end:                     # what they are told then
    .skip 1
    .balign 4
others:
    .skip 4                     # how many that were
