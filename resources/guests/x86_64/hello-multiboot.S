# hello-multiboot: says what it was given by multiboot 1.
#
# The VMM should show: `Hello from multiboot`, the command line, the memory
# above 1 MiB, each module with its string and its first bytes, and end with
# status 0. With a wrong magic in %eax: `hello-multiboot: bad magic`.
# Boot: ELF32 with a multiboot header, 32-bit, %ebx = multiboot information.

.set HEADER_MAGIC, 0x1badb002
.set HEADER_FLAGS, 0x3          # modules at whole pages, memory information wanted
.set BOOTED_MAGIC, 0x2badb002

# The multiboot information structure (multiboot specification 0.6.96, 3.3).
.set INFO_FLAGS, 0
.set INFO_MEM_UPPER, 8          # KiB above 1 MiB, there with flag 0
.set INFO_CMDLINE, 16           # there with flag 2
.set INFO_MODS_COUNT, 20        # there with flag 3
.set INFO_MODS_ADDR, 24
.set HAS_MEM, 1 << 0
.set HAS_CMDLINE, 1 << 2
.set HAS_MODS, 1 << 3

.set MODULE_START, 0
.set MODULE_END, 4
.set MODULE_STRING, 8
.set MODULE_LEN, 16

    .section .head, "ax"
    .code32
    .balign 4                   # the header: within the file's first 8 KiB
    .long HEADER_MAGIC, HEADER_FLAGS, -(HEADER_MAGIC + HEADER_FLAGS)
    .globl start
start:
    mov $stack_top, %esp
    cld
    call main
    jmp power_off

    .include "console.inc"
    .include "power.inc"

main:
    cmp $BOOTED_MAGIC, %eax
    je 1f
    print "hello-multiboot: bad magic "
    call print_hex32
    print "\n"
    ret
1:  print "Hello from multiboot\n  command line: "
    testl $HAS_CMDLINE, INFO_FLAGS(%ebx)
    jz 2f
    mov INFO_CMDLINE(%ebx), %esi
    call puts
2:  print "\n  upper memory: "
    testl $HAS_MEM, INFO_FLAGS(%ebx)
    jz 3f
    mov INFO_MEM_UPPER(%ebx), %eax
    call print_dec
    print " KiB"
3:  print "\n  modules: "
    xor %ecx, %ecx
    testl $HAS_MODS, INFO_FLAGS(%ebx)
    jz 4f
    mov INFO_MODS_COUNT(%ebx), %ecx
4:  mov %ecx, %eax
    call print_dec
    print "\n"
    mov INFO_MODS_ADDR(%ebx), %edi
5:  dec %ecx
    js 6f
    call print_module
    add $MODULE_LEN, %edi
    jmp 5b
6:  ret

# The module whose entry is at %edi.
print_module:
    print "  module: '"
    mov MODULE_STRING(%edi), %esi
    test %esi, %esi
    jz 1f
    call puts
1:  print "' at "
    mov MODULE_START(%edi), %eax
    call print_hex32
    print ", "
    mov MODULE_END(%edi), %eax
    sub MODULE_START(%edi), %eax
    call print_dec
    print " bytes, "
    mov MODULE_START(%edi), %esi
    jmp print_bytes

    .include "bytes.inc"

    .bss
    .balign 16
    .skip 4096
stack_top:
