# serial-irq: prints each line of input in upper case, and halts until the
# UART's interrupt comes through the interrupt controller that the device tree
# names, a PLIC or an APLIC with IMSICs: a test that an interrupt wakes a halted
# hart.
#
# The VMM should show: `serial-irq: by the PLIC` or `serial-irq: by the AIA`,
# `serial-irq: ready`, then each line that is typed or piped in, and after the
# line `quit` `serial-irq: N interrupts`, and end with status 0. N is 0 only if
# all of it was there before `ready`. After the line `reset` the guest resets
# itself: `serial-irq: ready` once more. Where an interrupt is lost, the guest
# sleeps on.
# Boot: ELF at its physical addresses.

    .include "start.inc"
    .include "console.inc"
    .include "numbers.inc"
    .include "fdt.inc"
    .include "line.inc"
    .include "power.inc"

.set UART_IER, 1
.set IER_RECEIVED, 0x01
.set UART_MCR, 4
.set MCR_OUT2, 0x08             # lets the UART's interrupt out to the line
.set SOURCE, 10
.set SIE_EXTERNAL, 1 << 9
.set SSTATUS_SIE, 1 << 1

# PLIC 1.0.0; context 0 is hart 0's supervisor.
.set PLIC, 0x0c000000
.set PLIC_PRIORITY, PLIC + 4 * SOURCE
.set PLIC_ENABLE, PLIC + 0x2000
.set PLIC_THRESHOLD, PLIC + 0x200000
.set PLIC_CLAIM, PLIC + 0x200004

# AIA 1.0: the APLIC sends messages to the IMSIC, which is behind CSRs.
.set APLIC, 0x0d000000
.set APLIC_DOMAINCFG, APLIC
.set DOMAINCFG_BY_MESSAGE, 1 << 8 | 1 << 2
.set APLIC_SOURCECFG, APLIC + 4 * SOURCE
.set SOURCECFG_LEVEL_HIGH, 6
.set APLIC_SETIENUM, APLIC + 0x1edc
.set APLIC_TARGET, APLIC + 0x3000 + 4 * SOURCE
.set APLIC_SETIPNUM, APLIC + 0x1cdc
.set SISELECT, 0x150
.set SIREG, 0x151
.set STOPEI, 0x15c
.set EIDELIVERY, 0x70
.set EITHRESHOLD, 0x72
.set EIE0, 0xc0

main:
    mv s11, a1
    li s2, 0                    # interrupts
    li s3, UART
    if_compatible "riscv,aplic", with_aia
    print "serial-irq: by the PLIC\n"
    li t0, PLIC_PRIORITY
    li t1, 1
    sw t1, 0(t0)
    li t0, PLIC_ENABLE
    li t1, 1 << SOURCE
    sw t1, 0(t0)
    li t0, PLIC_THRESHOLD
    sw x0, 0(t0)
    la t0, on_plic
    j ready

with_aia:
    print "serial-irq: by the AIA\n"
    li t0, EIDELIVERY
    csrw SISELECT, t0
    li t1, 1
    csrw SIREG, t1
    li t0, EITHRESHOLD          # 0: all identities
    csrw SISELECT, t0
    csrw SIREG, x0
    li t0, EIE0
    csrw SISELECT, t0
    li t1, 1 << SOURCE          # the identity is the source's number
    csrw SIREG, t1
    li t0, APLIC_SOURCECFG
    li t1, SOURCECFG_LEVEL_HIGH
    sw t1, 0(t0)
    li t0, APLIC_TARGET
    li t1, SOURCE
    sw t1, 0(t0)
    li t0, APLIC_SETIENUM
    sw t1, 0(t0)
    li t0, APLIC_DOMAINCFG
    li t1, DOMAINCFG_BY_MESSAGE
    sw t1, 0(t0)
    la t0, on_aia

ready:
    csrw stvec, t0
    li t0, SIE_EXTERNAL
    csrw sie, t0
    li t0, MCR_OUT2
    sb t0, UART_MCR(s3)
    li t0, IER_RECEIVED
    sb t0, UART_IER(s3)
    print "serial-irq: ready\n"

# Interrupts are off but while it waits, and `wfi` ends with a pending one all
# the same: none falls between the look and the wait.
again:
    lbu a0, UART_LSR(s3)
    andi a0, a0, LSR_DATA_READY
    bnez a0, 1f
    wfi
    csrsi sstatus, SSTATUS_SIE
    csrci sstatus, SSTATUS_SIE
    j again
1:  lbu a0, UART_THR(s3)
    call take_character
    beqz a0, again
    if_line "quit", quit
    if_line "reset", reset
    j again

quit:
    print "serial-irq: "
    mv a0, s2
    call put_decimal
    print " interrupts\n"
    j power_off

# The line is high until the input is read, so it is masked until then: the
# character is taken here.
    .balign 4
on_plic:
    li s4, PLIC_CLAIM
    lw s5, 0(s4)
    beqz s5, 1f
    addi s2, s2, 1
    call drain
    sw s5, 0(s4)
1:  sret

    .balign 4
on_aia:
    csrrw x0, STOPEI, x0
    addi s2, s2, 1
    call drain
    li t0, APLIC_SETIPNUM       # once more, should the line be high again
    li t1, SOURCE
    sw t1, 0(t0)
    sret

# Reads what the UART has.
drain:
    mv s6, ra
1:  lbu a0, UART_LSR(s3)
    andi a0, a0, LSR_DATA_READY
    beqz a0, 2f
    lbu a0, UART_THR(s3)
    call take_character
    beqz a0, 1b
    if_line "quit", quit
    if_line "reset", reset
    j 1b
2:  jr s6
