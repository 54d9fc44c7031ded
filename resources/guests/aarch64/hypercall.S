# hypercall: calls the hypervisor, by the doorbell and by `hvc`, as AxVisor's
# guests do, and in ways that are no calls.
#
# The VMM should show: `hypercall: doorbell 1`, or `hypercall: no doorbell`
# without one; the answers of call 2, which no VMM supports (-1), and of call
# 119, which is none (-1), each `hypercall: N by WAY: ANSWER`; `hypercall:
# misplaced blocks are no calls`; and end with status 0.
# Boot: ELF at its physical addresses.

    .include "start.inc"
    .include "console.inc"
    .include "numbers.inc"
    .include "fdt.inc"
    .include "hypercall.inc"
    .include "power.inc"

.set DEBUG, 2                   // HyperVisorDebug
.set UNKNOWN, 119
.set NOBODY, 0x0b000000         // no device, and below all RAM

# told "2 by the doorbell: ": prints x0.
.macro told text
    print "hypercall: \text: "
    bl put_short_hex
    print "\n"
.endm

main:
    ldr x20, =DOORBELL
    ldr w9, [x20]
    ldr w10, =DOORBELL_MAGIC
    cmp w9, w10
    b.ne no_doorbell
    print "hypercall: doorbell "
    ldr w0, [x20, #DOORBELL_VERSION]
    bl put_decimal
    print "\n"
    hypercall #DEBUG
    told "2 by the doorbell"
    hypercall #UNKNOWN
    told "119 by the doorbell"

    mov x9, #UNANSWERED         // once more, by an address of 32 bits
    address x21, block
    mov x10, #DEBUG
    str x10, [x21]
    str x9, [x21, #BLOCK_RESULT]
    bl past_caches
    str w21, [x20]
    bl past_caches
    ldr x0, [x21, #BLOCK_RESULT]
    told "2 by 32 bits"

    mov x9, #UNANSWERED         // not aligned, nowhere, and where no memory can be
    str x9, [x21, #BLOCK_RESULT]
    str x9, [x21, #BLOCK_RESULT + 8]
    bl past_caches
    add x10, x21, #4
    str x10, [x20]
    mov x10, #NOBODY
    str x10, [x20]
    mov x10, #-8
    str x10, [x20]
    bl past_caches
    ldr x10, [x21, #BLOCK_RESULT]
    cmp x9, x10
    b.ne answered
    ldr x10, [x21, #BLOCK_RESULT + 8]
    cmp x9, x10
    b.ne answered
    print "hypercall: misplaced blocks are no calls\n"
    b natively

answered:
    print "hypercall: a misplaced block was answered\n"
    b natively
no_doorbell:
    print "hypercall: no doorbell\n"
natively:
    mov x0, #DEBUG
    hvc #0
    told "2 by hvc"
    mov x0, #UNKNOWN
    hvc #0
    told "119 by hvc"
    b power_off
    .ltorg
