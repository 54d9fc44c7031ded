# hypercall: calls the hypervisor, by the doorbell and by `ecall`, as AxVisor's
# guests do, and in ways that are no calls.
#
# The VMM should show: `hypercall: doorbell 1`, or `hypercall: no doorbell`
# without one; the answers of call 2, which no VMM supports (-1, or -2 without a
# doorbell), and of call 119, which is none (-2), each `hypercall: N by WAY:
# ANSWER`; `hypercall: misplaced blocks are no calls`; and end with status 0.
# AxVisor's own extension, 0x485643, KVM answers itself, with -2.
# Boot: ELF at its physical addresses.

    .include "start.inc"
    .include "console.inc"
    .include "numbers.inc"
    .include "hypercall.inc"
    .include "power.inc"

.set DEBUG, 2                   # HyperVisorDebug
.set UNKNOWN, 119
.set NOBODY, 0x0b000000         # no device, and below all RAM
.set SBI_HVC, 0x08485643        # AxVisor's, among the experimental extensions
.set SBI_HVC_UPSTREAM, 0x485643

# told "2 by the doorbell: ": prints a0.
.macro told text
    print "hypercall: \text: "
    call put_short_hex
    print "\n"
.endm

main:
    li s2, DOORBELL
    lwu t0, 0(s2)
    li t1, DOORBELL_MAGIC
    bne t0, t1, no_doorbell
    print "hypercall: doorbell "
    lwu a0, DOORBELL_VERSION(s2)
    call put_decimal
    print "\n"
    hypercall DEBUG
    told "2 by the doorbell"
    hypercall UNKNOWN
    told "119 by the doorbell"

    la s3, block                # once more, by an address of 32 bits
    li t0, DEBUG
    sd t0, 0(s3)
    li s4, UNANSWERED
    sd s4, BLOCK_RESULT(s3)
    fence w, o
    sw s3, 0(s2)
    fence o, r
    ld a0, BLOCK_RESULT(s3)
    told "2 by 32 bits"

    sd s4, BLOCK_RESULT(s3)     # not aligned, nowhere, and where no memory can be
    sd s4, BLOCK_RESULT + 8(s3)
    addi t0, s3, 4
    fence w, o
    sd t0, 0(s2)
    li t0, NOBODY
    sd t0, 0(s2)
    li t0, -8
    sd t0, 0(s2)
    fence o, r
    ld t0, BLOCK_RESULT(s3)
    bne t0, s4, answered
    ld t0, BLOCK_RESULT + 8(s3)
    bne t0, s4, answered
    print "hypercall: misplaced blocks are no calls\n"
    j natively

answered:
    print "hypercall: a misplaced block was answered\n"
    j natively
no_doorbell:
    print "hypercall: no doorbell\n"
natively:
    li a7, SBI_HVC
    li a6, DEBUG
    ecall
    told "2 by ecall"
    li a7, SBI_HVC
    li a6, UNKNOWN
    ecall
    told "119 by ecall"
    li a7, SBI_HVC_UPSTREAM
    li a6, DEBUG
    ecall
    told "2 by AxVisor's own"
    j power_off
