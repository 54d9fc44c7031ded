# msix: has the function in slot 1 of the PCI bus interrupt it by MSI-X: a test
# that a message goes all the way from a device to a processor that has halted.
#
# It writes 5 and then 6 to the function's register at 4 of BAR 0, and halts
# after each until the first vector of the table in BAR 1 has come.
# The VMM should show: `msix: 5`, `msix: 11`, which is what the register reads as
# then if it adds, and end with status 0. Where a message is lost, the guest
# sleeps on.
# Boot: PVH, 32-bit.

    .include "pvh.inc"
    .include "console.inc"
    .include "local-apic.inc"
    .include "power.inc"

# PCI Local Bus 3.0, 6.1 and 6.8.2, by ECAM.
.set FUNCTION, 0xe0008000
.set COMMAND, FUNCTION + 0x04
.set MEMORY, 1 << 1
.set BUS_MASTER, 1 << 2
.set BAR0, FUNCTION + 0x10
.set BAR1, FUNCTION + 0x14
.set MSIX_CONTROL, FUNCTION + 0x42
.set MSIX_ENABLE, 1 << 15

.set SUM, 4                     # in BAR 0

.set PIC1_MASK, 0x21
.set PIC2_MASK, 0xa1
.set VECTOR, 0x24
.set SPURIOUS, 0x2f
.set CODE, 0x10
.set DATA, 0x18
.set INTERRUPT_GATE, 0x8e00

main:
    lgdt gdt_pointer
    ljmp $CODE, $1f
1:  mov $DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $VECTOR, %ecx
    mov $received, %eax
    call set_gate
    mov $SPURIOUS, %ecx
    mov $spurious, %eax
    call set_gate
    lidt idt_pointer

    mov $0xff, %al              # the old controllers have no say
    out %al, $PIC1_MASK
    out %al, $PIC2_MASK
    movl $LVT_MASKED, APIC_LVT_LINT0
    movl $APIC_ENABLE | SPURIOUS, APIC_SPURIOUS

    movw $MEMORY | BUS_MASTER, COMMAND
    mov BAR1, %edi
    and $~0xf, %edi
    mov APIC_ID, %eax           # bits 31:24, which are 19:12 of the message's address
    shr $12, %eax
    or $LOCAL_APIC, %eax
    mov %eax, (%edi)
    movl $0, 4(%edi)
    movl $VECTOR, 8(%edi)       # edge, fixed
    movl $0, 12(%edi)           # not masked
    movw $MSIX_ENABLE, MSIX_CONTROL

    mov BAR0, %ebp
    and $~0xf, %ebp
    movl $5, SUM(%ebp)

# Interrupts are on only while the processor halts, so that none is missed.
sleep:
    sti
    hlt
    cli
    jmp sleep

# The handler does not return; see serial-irq.S for why.
received:
    mov $stack_top - 16, %esp
    movl $0, APIC_EOI
    print "msix: "
    mov SUM(%ebp), %eax
    call print_dec
    print "\n"
    incl interrupts
    cmpl $2, interrupts
    je power_off
    movl $6, SUM(%ebp)
    jmp sleep
spurious:
    mov $stack_top - 16, %esp   # without an EOI, as the APIC wants it
    jmp sleep

# The interrupt gate %ecx is to lead to the routine %eax.
set_gate:
    mov %eax, %edx
    and $0xffff, %eax
    or $CODE << 16, %eax
    mov %eax, idt(,%ecx,8)
    and $0xffff0000, %edx
    or $INTERRUPT_GATE, %edx
    mov %edx, idt + 4(,%ecx,8)
    ret

    .section .rodata
    .balign 8
gdt:
    .quad 0, 0
    .quad 0x00cf9b000000ffff    # flat 32-bit code
    .quad 0x00cf93000000ffff    # flat data
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .long gdt
idt_pointer:
    .word (SPURIOUS + 1) * 8 - 1
    .long idt

    .bss
    .balign 8
idt:
    .skip (SPURIOUS + 1) * 8
interrupts:
    .skip 4
