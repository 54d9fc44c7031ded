# ivc-receive: subscribes to the inter-VM channel that the guest `ivc-send` of
# the VM 1 publishes, and checks every word that comes through it, halted until
# it is notified of some.
#
# It runs in a VM with another id than 1, with a row of emu_type 0x0a below
# 4 GiB whose irq_id is 10, and may start first.
# The VMM should show: `ivc-receive: a channel of N bytes at ADDRESS`,
# `ivc-receive: received N bytes, all as sent`, and end with status 0. If not
# all is as sent: `ivc-receive: WRONG at N: …`, where N counts bytes from the
# first that was sent, and a panic (34); also `ivc-receive: CALL failed`.
# Boot: PVH, 32-bit.

    .include "pvh.inc"
    .include "console.inc"
    .include "local-apic.inc"
    .include "hypercall.inc"
    .include "ivc.inc"
    .include "power.inc"

main:
    call ivc_start
1:  call subscribe
    jz 2f
    call pause
    jmp 1b
2:  hypercall $HIVC_UNSUBSCRIBE, $PUBLISHER, $KEY
    test %eax, %eax             # to see that it can come back
    jnz not_unsubscribed
    call subscribe
    jnz not_subscribed
    cmpl $0, block_base + 4     # this guest reaches 4 GiB
    jne not_subscribed
    print "ivc-receive: a channel of "
    mov block_size, %eax
    call print_hex
    print " bytes at "
    mov block_base, %eax
    call print_hex
    print "\n"
    mov block_base, %ebp        # %ebp: the channel
    cmpl $PUBLISHER, CHANNEL_PUBLISHER(%ebp)
    jne not_the_channel
    cmpl $KEY, CHANNEL_KEY(%ebp)
    jne not_the_channel
    movl $1, CHANNEL_READY(%ebp)
    hypercall $HIVC_NOTIFY, $PUBLISHER, $KEY
    test %eax, %eax
    jnz not_notified

    incl round
    xor %ebx, %ebx              # %edx:%ebx: what the next word must be
    xor %edx, %edx
next_round:
    mov round, %eax
    cmp CHANNEL_SENT(%ebp), %eax
    je 1f
    call sleep
    jmp next_round
1:  lea CHANNEL_DATA(%ebp), %esi
    mov %esi, %edi
    add CHANNEL_BYTES(%ebp), %edi
check:
    xor %ecx, %ecx              # the bits that differ
    .set at, 0
    .rept 8
    mov at(%esi), %eax
    xor %ebx, %eax
    or %eax, %ecx
    mov at + 4(%esi), %eax
    xor %edx, %eax
    or %eax, %ecx
    add $PATTERN_LOW, %ebx
    adc $PATTERN_HIGH, %edx
    .set at, at + 8
    .endr
    test %ecx, %ecx
    jnz wrong
    add $64, %esi
    cmp %edi, %esi
    jb check
    mov CHANNEL_BYTES(%ebp), %eax
    add %eax, received
    mov CHANNEL_TOTAL(%ebp), %esi
    mov round, %eax
    mov %eax, CHANNEL_TAKEN(%ebp)
    incl round
    # After the last round the sender may have gone by now.
    hypercall $HIVC_NOTIFY, $PUBLISHER, $KEY
    cmp %esi, received
    jb next_round
    print "ivc-receive: received "
    mov received, %eax
    call print_hex
    print " bytes, all as sent\n"
    ret

# ZF = 1 if it was done.
subscribe:
    hypercall $HIVC_SUBSCRIBE, $PUBLISHER, $KEY, $block_base, $block_size
    test %eax, %eax
    ret

# One of the 8 words from %esi on, behind which %edx:%ebx should be.
wrong:
    mov $8, %ecx
1:  sub $PATTERN_LOW, %ebx      # back to the first
    sbb $PATTERN_HIGH, %edx
    dec %ecx
    jnz 1b
    mov $8, %ecx
2:  cmp (%esi), %ebx
    jne 3f
    cmp 4(%esi), %edx
    jne 3f
    add $8, %esi
    add $PATTERN_LOW, %ebx
    adc $PATTERN_HIGH, %edx
    dec %ecx
    jnz 2b
3:  mov (%esi), %ecx
    mov 4(%esi), %edi
    print "ivc-receive: WRONG at "
    mov %esi, %eax
    sub %ebp, %eax
    sub $CHANNEL_DATA, %eax
    add received, %eax
    call print_hex
    print ": "
    push %edx
    mov %edi, %edx
    mov %ecx, %eax
    call print_hex64
    pop %edx
    print " instead of "
    mov %ebx, %eax
    call print_hex64
    print "\n"
    jmp fail

not_unsubscribed:
    print "ivc-receive: HIVCUnSubscribChannel failed\n"
    jmp fail
not_subscribed:
    print "ivc-receive: HIVCSubscribChannel failed the second time\n"
    jmp fail
not_notified:
    print "ivc-receive: HIVCNotify failed\n"
    jmp fail
not_the_channel:
    print "ivc-receive: the channel has another publisher or key\n"
    jmp fail

    .bss
    .balign 4
received:
    .skip 4
round:
    .skip 4
