# pvh-info: prints what the VMM hands over by PVH.
#
# The VMM should show: the start information's version, the command line, the
# memory map, each module (the initrd is the first) with its first bytes, and
# whether the RSDP is what it should be; and end with status 0.
# Boot: PVH, 32-bit.

    .include "pvh.inc"
    .include "console.inc"
    .include "bytes.inc"
    .include "acpi.inc"
    .include "power.inc"

.set MAGIC, 0x336ec578

main:
    mov start_info, %ebx
    print "pvh-info: start information at "
    mov %ebx, %eax
    call print_hex32
    cmpl $MAGIC, START_MAGIC(%ebx)
    je 1f
    print ", bad magic\n"
    ret
1:  print ", version "
    mov START_VERSION(%ebx), %eax
    call print_dec
    print "\n  command line: "
    mov START_CMDLINE(%ebx), %esi
    test %esi, %esi
    jz 2f
    call puts
2:  print "\n"
    call print_memory_map
    call print_modules
    jmp print_rsdp

print_memory_map:
    mov START_MEMMAP(%ebx), %esi
    mov START_MEMMAP_ENTRIES(%ebx), %ecx
1:  dec %ecx
    js 2f
    print "  memory: "
    mov MEMMAP_ADDR(%esi), %eax
    mov MEMMAP_ADDR + 4(%esi), %edx
    call print_hex64
    print ", size "
    mov MEMMAP_SIZE(%esi), %eax
    mov MEMMAP_SIZE + 4(%esi), %edx
    call print_hex64
    print ", type "
    mov MEMMAP_TYPE(%esi), %eax
    call print_dec
    print "\n"
    add $MEMMAP_LEN, %esi
    jmp 1b
2:  ret

print_modules:
    mov START_MODLIST(%ebx), %edi
    mov START_MODULES(%ebx), %ecx
    print "  modules: "
    mov %ecx, %eax
    call print_dec
    print "\n"
1:  dec %ecx
    js 3f
    print "  module: '"
    mov MODULE_CMDLINE(%edi), %esi
    test %esi, %esi
    jz 2f
    call puts
2:  print "' at "
    mov MODULE_ADDR(%edi), %eax
    mov MODULE_ADDR + 4(%edi), %edx
    call print_hex64
    print ", "
    mov %eax, %esi
    mov MODULE_SIZE(%edi), %eax
    call print_dec
    print " bytes, "
    call print_bytes
    add $MODULE_LEN, %edi
    jmp 1b
3:  ret

print_rsdp:
    print "  RSDP: "
    mov START_RSDP(%ebx), %eax
    test %eax, %eax
    jnz 1f
    print "none\n"
    ret
1:  call print_hex32
    call is_rsdp
    jne 3f
    cmpb $2, RSDP_REVISION(%eax)
    jb 2f
    mov %eax, %esi              # the second checksum is over all of it
    mov RSDP_LEN(%eax), %ecx
    call checksum
    jnz 3f
2:  print ", signature and checksum right\n"
    ret
3:  print ", signature or checksum wrong\n"
    ret
