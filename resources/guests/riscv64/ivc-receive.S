# ivc-receive: subscribes to the inter-VM channel that the guest `ivc-send` of
# the VM 1 publishes, and checks every word that comes through it, halted until
# it is notified of some.
#
# It runs in a VM with another id than 1, with a row of emu_type 0x0a whose
# irq_id is 20, and may start first.
# The VMM should show: `ivc-receive: a channel of N bytes at ADDRESS`,
# `ivc-receive: received N bytes, all as sent`, and end with status 0. If not
# all is as sent: `ivc-receive: WRONG at N: …`, where N counts bytes from the
# first that was sent, and a panic (34); also `ivc-receive: CALL failed`.
# Boot: ELF at its physical addresses.

    .include "start.inc"
    .include "console.inc"
    .include "numbers.inc"
    .include "fdt.inc"
    .include "hypercall.inc"
    .include "ivc.inc"
    .include "power.inc"

main:
    mv s11, a1
    call ivc_start
1:  call subscribe
    beqz a0, 2f
    call pause
    j 1b
2:  li a1, PUBLISHER            # to see that it can come back
    li a2, KEY
    hypercall HIVC_UNSUBSCRIBE
    bnez a0, not_unsubscribed
    call subscribe
    bnez a0, not_subscribed
    la t0, block
    ld s1, BLOCK_BASE(t0)       # s1: the channel
    ld s2, BLOCK_SIZE(t0)
    print "ivc-receive: a channel of "
    mv a0, s2
    call put_short_hex
    print " bytes at "
    mv a0, s1
    call put_short_hex
    print "\n"
    ld t0, CHANNEL_PUBLISHER(s1)
    li t1, PUBLISHER
    bne t0, t1, not_the_channel
    ld t0, CHANNEL_KEY(s1)
    li t1, KEY
    bne t0, t1, not_the_channel
    li t0, 1
    sd t0, CHANNEL_READY(s1)
    fence w, rw
    call notify
    bnez a0, not_notified

    li s4, 0                    # s4: bytes received
    li s5, 1                    # s5: the round that is waited for
    li s6, 0                    # s6: what the next word must be
    li s7, PATTERN
next_round:
    ld t0, CHANNEL_SENT(s1)
    beq t0, s5, 1f
    call sleep
    j next_round
1:  fence r, rw
    ld s3, CHANNEL_TOTAL(s1)
    ld s8, CHANNEL_BYTES(s1)
    li t0, CHANNEL_DATA
    add t0, t0, s1
    add t1, t0, s8
check:
    mv a0, s6
    li t2, 0                    # the bits that differ
    .set at, 0
    .rept 8
    ld t3, at(t0)
    xor t3, t3, s6
    add s6, s6, s7
    or t2, t2, t3
    .set at, at + 8
    .endr
    bnez t2, wrong
    addi t0, t0, 64
    bltu t0, t1, check
    add s4, s4, s8
    fence r, w
    sd s5, CHANNEL_TAKEN(s1)
    fence w, rw
    addi s5, s5, 1
    call notify                 # the sender may have gone by now, after the last
    bltu s4, s3, next_round
    print "ivc-receive: received "
    mv a0, s4
    call put_short_hex
    print " bytes, all as sent\n"
    j power_off

# a0 = the answer.
subscribe:
    addi sp, sp, -16
    sd ra, 0(sp)
    li a1, PUBLISHER
    li a2, KEY
    la a3, block + BLOCK_BASE
    la a4, block + BLOCK_SIZE
    hypercall HIVC_SUBSCRIBE
    ld ra, 0(sp)
    addi sp, sp, 16
    ret

notify:
    addi sp, sp, -16
    sd ra, 0(sp)
    li a1, PUBLISHER
    li a2, KEY
    hypercall HIVC_NOTIFY
    ld ra, 0(sp)
    addi sp, sp, 16
    ret

# One of the 8 words from t0 on, of which the first should be a0.
wrong:
    addi t1, t0, 64
1:  ld t2, 0(t0)
    bne t2, a0, 2f
    addi t0, t0, 8
    add a0, a0, s7
    bltu t0, t1, 1b
2:  mv s2, a0
    mv s3, t2
    print "ivc-receive: WRONG at "
    sub a0, t0, s1
    li t0, CHANNEL_DATA
    sub a0, a0, t0
    add a0, a0, s4
    call put_short_hex
    print ": "
    mv a0, s3
    call put_hex
    print " instead of "
    mv a0, s2
    call put_hex
    print "\n"
    j fail

not_unsubscribed:
    print "ivc-receive: HIVCUnSubscribChannel failed\n"
    j fail
not_subscribed:
    print "ivc-receive: HIVCSubscribChannel failed the second time\n"
    j fail
not_notified:
    print "ivc-receive: HIVCNotify failed\n"
    j fail
not_the_channel:
    print "ivc-receive: the channel has another publisher or key\n"
    j fail
