# ivc-receive: subscribes to the inter-VM channel that the guest `ivc-send` of
# the VM 1 publishes, and checks every word that comes through it, halted until
# it is notified of some.
#
# It runs in a VM with another id than 1, with a row of emu_type 0x0a whose
# irq_id is 52, and may start first.
# The VMM should show: `ivc-receive: a channel of N bytes at ADDRESS`,
# `ivc-receive: received N bytes, all as sent`, and end with status 0. If not
# all is as sent: `ivc-receive: WRONG at N: …`, where N counts bytes from the
# first that was sent, and a panic (34); also `ivc-receive: CALL failed`.
# Boot: ELF at its physical addresses.

    .include "start.inc"
    .include "console.inc"
    .include "numbers.inc"
    .include "fdt.inc"
    .include "gic.inc"
    .include "hypercall.inc"
    .include "ivc.inc"
    .include "power.inc"

main:
    mov x28, x0
    bl ivc_start
1:  bl subscribe
    cbz x0, 2f
    bl pause
    b 1b
2:  hypercall #HIVC_UNSUBSCRIBE, #PUBLISHER, #KEY
    cbnz x0, not_unsubscribed   // to see that it can come back
    bl subscribe
    cbnz x0, not_subscribed
    where x9, BLOCK_BASE
    ldp x19, x20, [x9]          // x19: the channel
    print "ivc-receive: a channel of "
    mov x0, x20
    bl put_short_hex
    print " bytes at "
    mov x0, x19
    bl put_short_hex
    print "\n"
    ldp x9, x10, [x19]
    cmp x9, #PUBLISHER
    b.ne not_the_channel
    cmp x10, #KEY
    b.ne not_the_channel
    mov x9, #1
    str x9, [x19, #CHANNEL_READY]
    dsb sy
    hypercall #HIVC_NOTIFY, #PUBLISHER, #KEY
    cbnz x0, not_notified

    mov x22, #0                 // x22: bytes received
    mov x23, #1                 // x23: the round that is waited for
    mov x24, #0                 // x24: what the next word must be
    ldr x25, =PATTERN
next_round:
    ldr x9, [x19, #CHANNEL_SENT]
    cmp x9, x23
    b.eq 1f
    bl sleep
    b next_round
1:  dmb sy
    ldr x21, [x19, #CHANNEL_TOTAL]
    ldr x12, [x19, #CHANNEL_BYTES]
    add x9, x19, #CHANNEL_DATA
    add x10, x9, x12
check:
    mov x13, x24
    mov x11, #0                 // the bits that differ
    .rept 4
    ldp x14, x15, [x9], #16
    eor x14, x14, x24
    add x24, x24, x25
    eor x15, x15, x24
    add x24, x24, x25
    orr x11, x11, x14
    orr x11, x11, x15
    .endr
    cbnz x11, wrong
    cmp x9, x10
    b.lo check
    add x22, x22, x12
    str x23, [x19, #CHANNEL_TAKEN]
    dsb sy
    add x23, x23, #1
    // After the last round the sender may have taken the channel away by now.
    hypercall #HIVC_NOTIFY, #PUBLISHER, #KEY
    cmp x22, x21
    b.lo next_round
    print "ivc-receive: received "
    mov x0, x22
    bl put_short_hex
    print " bytes, all as sent\n"
    b power_off

# x0 = the answer.
subscribe:
    str x30, [sp, #-16]!
    where x3, BLOCK_BASE
    where x4, BLOCK_SIZE
    hypercall #HIVC_SUBSCRIBE, #PUBLISHER, #KEY, x3, x4
    ldr x30, [sp], #16
    ret

# One of the 8 words before x9, of which the first should be x13.
wrong:
    mov x10, x9
    sub x9, x9, #64
1:  ldr x14, [x9]
    cmp x14, x13
    b.ne 2f
    add x9, x9, #8
    add x13, x13, x25
    cmp x9, x10
    b.lo 1b
2:  print "ivc-receive: WRONG at "
    sub x0, x9, x19
    sub x0, x0, #CHANNEL_DATA
    add x0, x0, x22
    bl put_short_hex
    print ": "
    mov x0, x14
    bl put_hex
    print " instead of "
    mov x0, x13
    bl put_hex
    print "\n"
    b fail

not_unsubscribed:
    print "ivc-receive: HIVCUnSubscribChannel failed\n"
    b fail
not_subscribed:
    print "ivc-receive: HIVCSubscribChannel failed the second time\n"
    b fail
not_notified:
    print "ivc-receive: HIVCNotify failed\n"
    b fail
not_the_channel:
    print "ivc-receive: the channel has another publisher or key\n"
    b fail
    .ltorg
