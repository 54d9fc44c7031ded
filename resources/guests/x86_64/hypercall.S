# hypercall: calls the hypervisor by the doorbell, and in ways that are no calls.
# (A `vmcall` is between the guest and the host's KVM.)
#
# The VMM should show: `hypercall: doorbell 1`, or `hypercall: no doorbell`
# without one; the answers of call 2, which no VMM supports (-1), and of call
# 119, which is none (-1), each `hypercall: N by WAY: ANSWER`, of which these
# are the lower halves; `hypercall: misplaced blocks are no calls`; and end with
# status 0.
# Boot: PVH, 32-bit.

    .include "pvh.inc"
    .include "console.inc"
    .include "hypercall.inc"
    .include "power.inc"

.set DEBUG, 2                   # HyperVisorDebug
.set UNKNOWN, 119
.set NOBODY, 0xd0000000         # in the hole below 4 GiB

# told "2 by the doorbell": prints %eax.
.macro told text
    print "hypercall: \text: "
    call print_hex
    print "\n"
.endm

main:
    cmpl $DOORBELL_MAGIC, DOORBELL
    jne no_doorbell
    print "hypercall: doorbell "
    mov DOORBELL_VERSION, %eax
    call print_dec
    print "\n"
    hypercall $DEBUG
    told "2 by the doorbell"
    hypercall $UNKNOWN
    told "119 by the doorbell"

    movl $UNANSWERED, block_result  # not aligned, nowhere, and at the very end
    movl $UNANSWERED, block_result + 4
    movl $UNANSWERED, block_result + 8
    movl $block + 4, DOORBELL
    movl $NOBODY, DOORBELL
    movl $-8, DOORBELL
    cmpl $UNANSWERED, block_result
    jne answered
    cmpl $UNANSWERED, block_result + 4
    jne answered
    cmpl $UNANSWERED, block_result + 8
    jne answered
    print "hypercall: misplaced blocks are no calls\n"
    ret

answered:
    print "hypercall: a misplaced block was answered\n"
    ret
no_doorbell:
    print "hypercall: no doorbell\n"
    ret
