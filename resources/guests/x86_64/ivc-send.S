# ivc-send: publishes an inter-VM channel and sends through it, in rounds, to
# the guest `ivc-receive` of another VM: fills the channel, notifies, and halts
# until it is notified that all was taken.
#
# Command line: size=BYTES of the channel (0x101000) and total=BYTES to send
# (0x1000000), a multiple of 64 below 4 GiB. It runs in the VM with the id 1,
# with a row of emu_type 0x0a below 4 GiB whose irq_id is 10.
# The VMM should show: `ivc-send: a channel of N bytes at ADDRESS`, `ivc-send:
# sent N bytes`, and end with status 0; `ivc-send: CALL failed` and a panic (34)
# when the hypervisor does not answer as it should.
# Boot: PVH, 32-bit.

    .include "pvh.inc"
    .include "console.inc"
    .include "cmdline.inc"
    .include "local-apic.inc"
    .include "hypercall.inc"
    .include "ivc.inc"
    .include "power.inc"

main:
    call ivc_start
    number_arg "size=", 0x101000
    mov %eax, block_size
    number_arg "total=", 0x1000000
    mov %eax, left
    mov %eax, total

    hypercall $HIVC_PUBLISH, $KEY, $block_base, $block_size
    test %eax, %eax
    jnz not_published
    cmpl $0, block_base + 4     # this guest reaches 4 GiB
    jne not_published
    print "ivc-send: a channel of "
    mov block_size, %eax
    call print_hex
    print " bytes at "
    mov block_base, %eax
    call print_hex
    print "\n"
    mov block_base, %ebp        # %ebp: the channel
    subl $CHANNEL_DATA, block_size
    mov total, %eax
    mov %eax, CHANNEL_TOTAL(%ebp)
    movl $0, CHANNEL_TOTAL + 4(%ebp)
1:  cmpl $0, CHANNEL_READY(%ebp)
    jne 2f
    call sleep
    jmp 1b

2:  xor %eax, %eax              # %edx:%eax: the next word
    xor %edx, %edx
next_round:
    mov left, %ecx
    test %ecx, %ecx
    jz all_sent
    cmp block_size, %ecx
    jb 1f
    mov block_size, %ecx
1:  mov %ecx, CHANNEL_BYTES(%ebp)
    sub %ecx, left
    lea CHANNEL_DATA(%ebp), %edi
    add %edi, %ecx
fill:
    .set at, 0
    .rept 8
    mov %eax, at(%edi)
    mov %edx, at + 4(%edi)
    add $PATTERN_LOW, %eax
    adc $PATTERN_HIGH, %edx
    .set at, at + 8
    .endr
    add $64, %edi
    cmp %ecx, %edi
    jb fill
    incl round
    mov round, %ecx
    mov %ecx, CHANNEL_SENT(%ebp)
    mov %eax, %ebx
    hypercall $HIVC_NOTIFY, $PUBLISHER, $KEY
    test %eax, %eax
    jnz not_notified
    mov %ebx, %eax
1:  cmp CHANNEL_TAKEN(%ebp), %ecx
    je next_round
    call sleep
    jmp 1b

all_sent:
    hypercall $HIVC_UNPUBLISH, $KEY
    test %eax, %eax
    jnz not_unpublished
    print "ivc-send: sent "
    mov total, %eax
    call print_hex
    print " bytes\n"
    ret

not_published:
    print "ivc-send: HIVCPublishChannel failed\n"
    jmp fail
not_notified:
    print "ivc-send: HIVCNotify failed\n"
    jmp fail
not_unpublished:
    print "ivc-send: HIVCUnPublishChannel failed\n"
    jmp fail

    .bss
    .balign 4
total:
    .skip 4
left:
    .skip 4
round:
    .skip 4
