# ivc-send: publishes an inter-VM channel and sends through it, in rounds, to
# the guest `ivc-receive` of another VM: fills the channel, notifies, and halts
# until it is notified that all was taken.
#
# Command line: size=BYTES of the channel (0x101000) and total=BYTES to send
# (0x1000000), a multiple of 64. It runs in the VM with the id 1, with a row of
# emu_type 0x0a whose irq_id is 52.
# The VMM should show: `ivc-send: a channel of N bytes at ADDRESS`, `ivc-send:
# sent N bytes`, and end with status 0; `ivc-send: CALL failed` and a panic (34)
# when the hypervisor does not answer as it should.
# Boot: ELF at its physical addresses.

    .include "start.inc"
    .include "console.inc"
    .include "numbers.inc"
    .include "fdt.inc"
    .include "cmdline.inc"
    .include "gic.inc"
    .include "hypercall.inc"
    .include "ivc.inc"
    .include "power.inc"

main:
    mov x28, x0
    bl ivc_start
    number_arg "size=", 0x101000
    mov x20, x0
    number_arg "total=", 0x1000000
    mov x21, x0

    where x3, BLOCK_SIZE
    str x20, [x3]
    where x2, BLOCK_BASE
    hypercall #HIVC_PUBLISH, #KEY, x2, x3, #0
    cbnz x0, not_published
    where x9, BLOCK_BASE
    ldp x19, x20, [x9]          // x19: the channel
    print "ivc-send: a channel of "
    mov x0, x20
    bl put_short_hex
    print " bytes at "
    mov x0, x19
    bl put_short_hex
    print "\n"
    sub x20, x20, #CHANNEL_DATA // x20: how much is sent in a round
    str x21, [x19, #CHANNEL_TOTAL]
1:  ldr x9, [x19, #CHANNEL_READY]
    cbnz x9, 2f
    bl sleep
    b 1b

2:  mov x22, x21                // x22: what is left to send
    mov x23, #0                 // x23: rounds
    mov x24, #0                 // x24: the next word
    ldr x25, =PATTERN
next_round:
    cbz x22, all_sent
    cmp x22, x20
    csel x10, x22, x20, lo
    str x10, [x19, #CHANNEL_BYTES]
    sub x22, x22, x10
    add x9, x19, #CHANNEL_DATA
    add x10, x9, x10
fill:
    .rept 4
    add x11, x24, x25
    stp x24, x11, [x9], #16
    add x24, x11, x25
    .endr
    cmp x9, x10
    b.lo fill
    add x23, x23, #1
    dmb sy
    str x23, [x19, #CHANNEL_SENT]
    dsb sy
    hypercall #HIVC_NOTIFY, #PUBLISHER, #KEY
    cbnz x0, not_notified
1:  ldr x9, [x19, #CHANNEL_TAKEN]
    cmp x9, x23
    b.eq next_round
    bl sleep
    b 1b

all_sent:
    hypercall #HIVC_UNPUBLISH, #KEY
    cbnz x0, not_unpublished
    print "ivc-send: sent "
    mov x0, x21
    bl put_short_hex
    print " bytes\n"
    b power_off

not_published:
    print "ivc-send: HIVCPublishChannel failed\n"
    b fail
not_notified:
    print "ivc-send: HIVCNotify failed\n"
    b fail
not_unpublished:
    print "ivc-send: HIVCUnPublishChannel failed\n"
    b fail
    .ltorg
