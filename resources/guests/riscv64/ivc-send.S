# ivc-send: publishes an inter-VM channel and sends through it, in rounds, to
# the guest `ivc-receive` of another VM: fills the channel, notifies, and halts
# until it is notified that all was taken.
#
# Command line: size=BYTES of the channel (0x101000) and total=BYTES to send
# (0x1000000), a multiple of 64. It runs in the VM with the id 1, with a row of
# emu_type 0x0a whose irq_id is 20.
# The VMM should show: `ivc-send: a channel of N bytes at ADDRESS`, `ivc-send:
# sent N bytes`, and end with status 0; `ivc-send: CALL failed` and a panic (34)
# when the hypervisor does not answer as it should.
# Boot: ELF at its physical addresses.

    .include "start.inc"
    .include "console.inc"
    .include "numbers.inc"
    .include "fdt.inc"
    .include "cmdline.inc"
    .include "hypercall.inc"
    .include "ivc.inc"
    .include "power.inc"

main:
    mv s11, a1
    call ivc_start
    number_arg "size=", 0x101000
    mv s2, a0
    number_arg "total=", 0x1000000
    mv s3, a0

    la a2, block + BLOCK_BASE
    la a3, block + BLOCK_SIZE
    sd s2, 0(a3)
    li a1, KEY
    li a4, 0
    hypercall HIVC_PUBLISH
    bnez a0, not_published
    la t0, block
    ld s1, BLOCK_BASE(t0)       # s1: the channel
    ld s2, BLOCK_SIZE(t0)
    print "ivc-send: a channel of "
    mv a0, s2
    call put_short_hex
    print " bytes at "
    mv a0, s1
    call put_short_hex
    print "\n"
    li t0, CHANNEL_DATA
    sub s2, s2, t0              # s2: how much is sent in a round
    sd s3, CHANNEL_TOTAL(s1)
1:  ld t0, CHANNEL_READY(s1)
    bnez t0, 2f
    call sleep
    j 1b

2:  mv s4, s3                   # s4: what is left to send
    li s5, 0                    # s5: rounds
    li s6, 0                    # s6: the next word
    li s7, PATTERN
next_round:
    beqz s4, all_sent
    mv t1, s4
    bltu t1, s2, 1f
    mv t1, s2
1:  sd t1, CHANNEL_BYTES(s1)
    sub s4, s4, t1
    li t0, CHANNEL_DATA
    add t0, t0, s1
    add t1, t1, t0
fill:
    .set at, 0
    .rept 8
    sd s6, at(t0)
    add s6, s6, s7
    .set at, at + 8
    .endr
    addi t0, t0, 64
    bltu t0, t1, fill
    addi s5, s5, 1
    fence rw, w
    sd s5, CHANNEL_SENT(s1)
    fence w, rw
    li a1, PUBLISHER
    li a2, KEY
    hypercall HIVC_NOTIFY
    bnez a0, not_notified
1:  ld t0, CHANNEL_TAKEN(s1)
    beq t0, s5, next_round
    call sleep
    j 1b

all_sent:
    li a1, KEY
    hypercall HIVC_UNPUBLISH
    bnez a0, not_unpublished
    print "ivc-send: sent "
    mv a0, s3
    call put_short_hex
    print " bytes\n"
    j power_off

not_published:
    print "ivc-send: HIVCPublishChannel failed\n"
    j fail
not_notified:
    print "ivc-send: HIVCNotify failed\n"
    j fail
not_unpublished:
    print "ivc-send: HIVCUnPublishChannel failed\n"
    j fail
