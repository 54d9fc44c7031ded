# serial-irq: prints each line of input in upper case, and halts until COM1's
# interrupt 4 comes through the I/O APIC and the local APIC: a test that an
# interrupt wakes a halted processor.
#
# The VMM should show: `serial-irq: ready`, then each line that is typed or
# piped in, and after the line `quit` `serial-irq: N interrupts`, and end with
# status 0. N is 0 only if all of it was there before `ready`. After the line
# `reset` the guest resets itself: `serial-irq: ready` once more. Where an
# interrupt is lost, the guest sleeps on.
# Boot: PVH, 32-bit.

    .include "pvh.inc"
    .include "console.inc"
    .include "line.inc"
    .include "acpi.inc"
    .include "madt.inc"
    .include "local-apic.inc"
    .include "power.inc"

.set COM1_IER, COM1 + 1
.set IER_RECEIVED, 0x01
.set COM1_IIR, COM1 + 2
.set COM1_MCR, COM1 + 4
.set MCR_OUT2, 0x08             # lets the UART's interrupt out to the line
.set COM1_IRQ, 4
.set PIC1_MASK, 0x21
.set PIC2_MASK, 0xa1

.set IO_APIC, 0xfec00000        # where a PC has it if there is no MADT
.set IO_APIC_SELECT, 0x00
.set IO_APIC_WINDOW, 0x10
.set REDIRECTION, 0x10          # the first entry's register; each has two
.set ACTIVE_LOW, 1 << 13
.set LEVEL, 1 << 15

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
    mov $note_entry, %edi
    call each_madt_entry
    call route_irq

    mov $COM1_MCR, %edx
    mov $MCR_OUT2, %al
    out %al, %dx
    mov $COM1_IER, %edx
    mov $IER_RECEIVED, %al
    out %al, %dx
    print "serial-irq: ready\n"

# Interrupts are on only while the processor halts. A character that comes
# between the last look and `hlt` has raised the interrupt, which `sti` lets in
# only behind `hlt`: it cannot be missed.
sleep:
    call take_all
    sti
    hlt
    cli
    jmp sleep

# The handlers do not return to the halted code but drop the frame and go on
# with the next round: KVM's instruction emulator, which runs all of a guest's
# ring 0 on some hosts, does not know `iret` in protected mode.
received:
    mov $stack_top - 16, %esp
    incl interrupts
    mov $COM1_IIR, %edx
    in %dx, %al
    movl $0, APIC_EOI
    jmp sleep
spurious:
    mov $stack_top - 16, %esp   # without an EOI, as the APIC wants it
    jmp sleep

# Takes all characters that are there.
take_all:
    mov $COM1_LSR, %edx
    in %dx, %al
    test $LSR_DATA_READY, %al
    jz 1f
    mov $COM1, %edx
    in %dx, %al
    call take_character
    jne take_all
    if_line "quit", quit
    if_line "reset", reset
    jmp take_all
1:  ret

quit:
    print "serial-irq: "
    mov interrupts, %eax
    call print_dec
    print " interrupts\n"
    jmp power_off

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

# Keeps what the MADT says about the I/O APIC and interrupt 4.
note_entry:
    cmp $MADT_IO_APIC, %al
    jne 1f
    cmpl $0, 8(%esi)            # the one that begins with GSI 0
    jne 2f
    mov 4(%esi), %eax
    mov %eax, io_apic
    ret
1:  cmp $MADT_OVERRIDE, %al
    jne 2f
    cmpb $COM1_IRQ, 3(%esi)
    jne 2f
    mov 4(%esi), %eax
    mov %eax, gsi
    movzwl 8(%esi), %edx
    mov %edx, %eax              # polarity: 3 = active low
    and $3, %eax
    cmp $3, %eax
    jne 3f
    orl $ACTIVE_LOW, redirection
3:  and $0xc, %edx              # trigger: 3 = level
    cmp $0xc, %edx
    jne 2f
    orl $LEVEL, redirection
2:  ret

# Routes the interrupt to this processor.
route_irq:
    mov io_apic, %edi
    mov gsi, %ecx
    lea REDIRECTION + 1(,%ecx,2), %eax
    mov %eax, IO_APIC_SELECT(%edi)
    mov APIC_ID, %eax           # in the same bits as the destination
    mov %eax, IO_APIC_WINDOW(%edi)
    lea REDIRECTION(,%ecx,2), %eax
    mov %eax, IO_APIC_SELECT(%edi)
    mov redirection, %eax
    mov %eax, IO_APIC_WINDOW(%edi)
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

    .data
io_apic:
    .long IO_APIC
gsi:
    .long COM1_IRQ
redirection:
    .long VECTOR                # edge, active high, fixed, not masked

    .bss
    .balign 8
idt:
    .skip (SPURIOUS + 1) * 8
interrupts:
    .skip 4
