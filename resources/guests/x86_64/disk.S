# disk: drives a virtio disk over MMIO, polling, with a queue of 128.
#
# Command line: `at=` and the address of its registers (0xfeb00000).
# `read` reads `count=` times 4096 bytes all over the disk, `depth=` at a time;
# both are 1 if not given.
# `write` writes `count=` sectors all over the disk, each full of one 32-bit
# number: `round=` in the upper half and in the lower how many it has written; it
# flushes after every fourth, and says how many are flushed then.
# The VMM should show: `disk: N sectors`; for reads `disk: read N, notified M
# times`; for writes `flushed N` lines, `error N` where one fails; last
# `disk: done`; and end with status 0.
# Boot: PVH, 32-bit.

    .include "pvh.inc"
    .include "console.inc"
    .include "power.inc"
    .include "cmdline.inc"

# Registers: virtio 1.2, 4.2.2.
.set DEVICE_ID, 0x08
.set DEVICE_FEATURES, 0x10
.set DEVICE_FEATURES_SEL, 0x14
.set DRIVER_FEATURES, 0x20
.set DRIVER_FEATURES_SEL, 0x24
.set QUEUE_SEL, 0x30
.set QUEUE_NUM, 0x38
.set QUEUE_READY, 0x44
.set QUEUE_NOTIFY, 0x50
.set STATUS, 0x70
.set QUEUE_DESC, 0x80
.set QUEUE_DRIVER, 0x90
.set QUEUE_DEVICE, 0xa0
.set CAPACITY, 0x100

.set BLOCK, 2
.set F_FLUSH, 1 << 9
.set F_EVENT_IDX, 1 << 29
.set T_IN, 0
.set T_OUT, 1
.set T_FLUSH, 4
.set NEXT, 1
.set WRITE, 2

# In memory: rings, then for each of up to 32 requests a header, a status and a
# page. Request i has the descriptors 4i, 4i + 1 and 4i + 2.
.set SIZE, 128
.set DESC, 0x200000
.set AVAIL, 0x201000
.set USED, 0x202000
.set HEADERS, 0x203000
.set STATUSES, 0x204000
.set PAGES, 0x210000
.set USED_EVENT, AVAIL + 4 + 2 * SIZE
.set AVAIL_EVENT, USED + 4 + 8 * SIZE

main:
    number_arg "at=", 0xfeb00000
    mov %eax, %ebp              # for good
    cmpl $BLOCK, DEVICE_ID(%ebp)
    je 1f
    print "disk: none\n"
    ret
1:  call set_up
    mov CAPACITY(%ebp), %eax
    mov %eax, capacity
    print "disk: "
    call print_dec
    print " sectors\n"
    number_arg "count=", 1
    mov %eax, count
    number_arg "depth=", 1
    mov %eax, depth
    number_arg "round=", 0
    shl $16, %eax
    mov %eax, round
    if_arg "write", writes
    if_arg "read", reads
    ret

# The driver's side of initialization (3.1).
set_up:
    movl $0, STATUS(%ebp)
    movl $3, STATUS(%ebp)
    movl $0, DEVICE_FEATURES_SEL(%ebp)
    mov DEVICE_FEATURES(%ebp), %eax
    and $F_FLUSH | F_EVENT_IDX, %eax
    movl $0, DRIVER_FEATURES_SEL(%ebp)
    mov %eax, DRIVER_FEATURES(%ebp)
    movl $1, DRIVER_FEATURES_SEL(%ebp)
    movl $1, DRIVER_FEATURES(%ebp)      # VERSION_1
    movl $11, STATUS(%ebp)
    movl $0, QUEUE_SEL(%ebp)
    movl $SIZE, QUEUE_NUM(%ebp)
    movl $DESC, QUEUE_DESC(%ebp)
    movl $0, QUEUE_DESC + 4(%ebp)
    movl $AVAIL, QUEUE_DRIVER(%ebp)
    movl $0, QUEUE_DRIVER + 4(%ebp)
    movl $USED, QUEUE_DEVICE(%ebp)
    movl $0, QUEUE_DEVICE + 4(%ebp)
    movl $1, QUEUE_READY(%ebp)
    movl $15, STATUS(%ebp)
    ret

# Writes descriptor %edi: %ecx bytes at %eax, with the flags %edx and the next
# one behind it.
describe:
    push %edi
    shl $4, %edi
    add $DESC, %edi
    mov %eax, (%edi)
    movl $0, 4(%edi)
    mov %ecx, 8(%edi)
    mov %dx, 12(%edi)
    pop %eax
    inc %eax
    mov %ax, 14(%edi)
    mov %eax, %edi
    ret

# Makes request %ebx of the type %esi available, at the sector in `sector`; with
# `length` bytes, unless it is a flush. Keeps %ebx.
request:
    mov %ebx, %edi
    shl $4, %edi
    mov %esi, HEADERS(%edi)
    movl $0, HEADERS + 4(%edi)
    mov sector, %eax
    mov %eax, HEADERS + 8(%edi)
    movl $0, HEADERS + 12(%edi)
    movb $0xff, STATUSES(%ebx)
    lea HEADERS(%edi), %eax
    mov %ebx, %edi
    shl $2, %edi
    mov $16, %ecx
    mov $NEXT, %edx
    call describe
    cmp $T_FLUSH, %esi
    je 1f
    mov %ebx, %eax
    shl $12, %eax
    add $PAGES, %eax
    mov length, %ecx
    mov $NEXT, %edx
    cmp $T_IN, %esi
    jne 2f
    mov $NEXT | WRITE, %edx
2:  call describe
1:  lea STATUSES(%ebx), %eax
    mov $1, %ecx
    mov $WRITE, %edx
    call describe
    mov available, %eax
    and $SIZE - 1, %eax
    mov %ebx, %ecx
    shl $2, %ecx
    mov %cx, AVAIL + 4(,%eax,2)
    incl available
    ret

# Tells the device of what is available, if it wants to be told (2.7.10).
notify:
    mov available, %eax
    lea 0x4000(%eax), %ecx
    mov %cx, USED_EVENT         # no interrupts
    mov %ax, AVAIL + 2
    lock addl $0, (%esp)        # a barrier
    mov %eax, %ecx
    sub AVAIL_EVENT, %cx
    dec %cx
    mov %eax, %edx
    sub told, %dx
    mov %eax, told
    cmp %dx, %cx
    jae 1f
    movl $0, QUEUE_NOTIFY(%ebp)
    incl notified
1:  ret

# Waits until a request is done: %ebx, and ZF = 1 if it went well.
wait:
    mov seen, %eax
1:  cmp %ax, USED + 2
    je 1b
    and $SIZE - 1, %eax
    mov USED + 4(,%eax,8), %ebx
    shr $2, %ebx
    incl seen
    cmpb $0, STATUSES(%ebx)
    ret

# The %eax-th place on the disk for %ecx sectors: any order will do.
choose:
    mov $37, %edx
    mul %edx
    mul %ecx
    push %eax
    mov capacity, %eax
    xor %edx, %edx
    div %ecx
    mul %ecx                    # as many as are whole
    mov %eax, %ebx
    pop %eax
    xor %edx, %edx
    div %ebx
    mov %edx, sector
    ret

reads:
    movl $4096, length
    xor %ebx, %ebx
1:  call read                   # the first `depth`
    inc %ebx
    cmp depth, %ebx
    jb 1b
2:  mov seen, %eax
    cmp %ax, USED + 2           # first all that has come back
    jne 3f
    call notify
3:  call wait
    jnz failed
    incl done
    mov done, %eax
    cmp count, %eax
    jae 4f
    mov asked, %eax
    cmp count, %eax
    jae 2b
    call read
    jmp 2b
4:  print "disk: read "
    call print_dec
    print ", notified "
    mov notified, %eax
    call print_dec
    print " times\n"
    jmp finished

# Asks for the next read, as request %ebx.
read:
    push %ebx
    mov asked, %eax
    mov $8, %ecx
    call choose
    incl asked
    pop %ebx
    mov $T_IN, %esi
    jmp request

writes:
    movl $512, length
1:  incl done
    mov done, %eax
    mov $1, %ecx
    call choose
    mov done, %eax
    or round, %eax
    mov $PAGES, %edi
    mov $128, %ecx
    rep stosl
    mov $T_OUT, %esi
    call one
    mov done, %eax
    test $3, %eax
    jnz 2f
    mov $T_FLUSH, %esi
    call one
    jnz 2f
    print "flushed "
    mov done, %eax
    call print_dec
    print "\n"
2:  mov done, %eax
    cmp count, %eax
    jb 1b
finished:
    print "disk: done\n"
    ret

# Has a request of the type %esi done. ZF = 1 if it went well; else that is said.
one:
    xor %ebx, %ebx
    call request
    call notify
    call wait
    jz 1f
failed:
    print "error "
    mov done, %eax
    call print_dec
    print "\n"
    or $1, %eax                 # ZF = 0
1:  ret

    .bss
    .balign 4
capacity:   .skip 4
count:      .skip 4
depth:      .skip 4
round:      .skip 4
sector:     .skip 4
length:     .skip 4
available:  .skip 4             # how many requests have been made so
told:       .skip 4             # how many the device has been told of
seen:       .skip 4             # how many have come back
asked:      .skip 4
done:       .skip 4
notified:   .skip 4
    .text
