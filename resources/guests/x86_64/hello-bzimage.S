# hello-bzimage: a small bzImage that is complete: boot protocol 2.15 with its
# 16-bit, 32-bit and 64-bit entries. There is no compressed payload in it.
#
# The VMM should show: `Hello from a bzImage`, the command line, the e820 map's
# size, and the initrd's address, size and first bytes, and end with status 0.
# Boot: Linux boot protocol (Documentation/arch/x86/boot.rst of Linux).

.set LOAD_ADDRESS, 0x100000
.set SETUP_SECTORS, 7           # behind the boot sector; 4 KiB in all

    .set LONG, 1
    .code64
    .include "console.inc"
    .include "longmode.inc"
    .include "bootparams.inc"
    .include "bytes.inc"
    .include "power.inc"

# The setup part is 4 KiB, laid out as struct boot_params itself: the 16-bit
# code fills in its own copy and passes that on.
    .section .setup, "aw"
setup:
    .org 0x1f1                  # struct setup_header
    .byte SETUP_SECTORS         # setup_sects
    .word 0                     # root_flags
    .long kernel_paragraphs     # syssize: what is loaded at 1 MiB, in 16 bytes
    .word 0                     # ram_size, obsolete
    .word 0xffff                # vid_mode: normal
    .word 0                     # root_dev
    .word 0xaa55                # boot_flag
    .byte 0xeb, header_end - 1f # jump: its distance is the header's length too
1:  .ascii "HdrS"
    .word 0x020f                # version 2.15
    .long 0                     # realmode_swtch
    .word 0                     # start_sys_seg, obsolete
    .word 0                     # kernel_version: none
    .byte 0                     # type_of_loader
    .byte 0x81                  # loadflags: LOADED_HIGH, CAN_USE_HEAP
    .word 0                     # setup_move_size
code32_start:
    .long LOAD_ADDRESS
    .long 0                     # ramdisk_image
    .long 0                     # ramdisk_size
    .long 0                     # bootsect_kludge
    .word 0xfe00                # heap_end_ptr
    .byte 0                     # ext_loader_ver
    .byte 0                     # ext_loader_type
    .long 0                     # cmd_line_ptr
    .long 0x7fffffff            # initrd_addr_max
    .long 0x1000                # kernel_alignment
    .byte 0                     # relocatable_kernel: no
    .byte 12                    # min_alignment, as a power of two
    .word 1                     # xloadflags: XLF_KERNEL_64
    .long 2047                  # cmdline_size
    .long 0                     # hardware_subarch: PC
    .quad 0                     # hardware_subarch_data
    .long 0                     # payload_offset
    .long 0                     # payload_length
    .quad 0                     # setup_data
    .quad LOAD_ADDRESS          # pref_address
    .long memory_size           # init_size
    .long 0                     # handover_offset
    .long kernel_info - LOAD_ADDRESS    # kernel_info_offset
header_end:
    .code16
    jmp setup_main

# The 16-bit entry is setup + 0x200, with DS = the segment of setup.
    .org 0xe00                  # behind the e820 table
setup_main:
    cli
    cld
    mov %ds, %ax
    mov %ax, %es
    mov %ax, %ss
    mov $0xfe00, %esp

    xor %ebx, %ebx              # BIOS: int 0x15, function 0xe820
    mov $BP_E820_TABLE, %edi
1:  mov $0xe820, %eax
    mov $0x534d4150, %edx       # "SMAP"
    mov $E820_ENTRY, %ecx
    int $0x15
    jc 2f
    cmp $0x534d4150, %eax
    jne 2f
    add $E820_ENTRY, %di
    incb BP_E820_ENTRIES
    cmpb $128, BP_E820_ENTRIES
    je 2f
    test %ebx, %ebx
    jnz 1b

2:  in $0x92, %al               # address line 20
    or $2, %al
    and $~1, %al
    out %al, $0x92
    cli
    mov %ds, %esi
    shl $4, %esi                # %esi = struct boot_params, for the 32-bit entry
    mov code32_start, %eax
    mov %eax, far_target
    lea setup_gdt(%esi), %eax
    mov %eax, setup_gdt_base
    lgdtl setup_gdt_pointer
    mov %cr0, %eax
    or $1, %eax
    mov %eax, %cr0
    mov $DATA, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    .byte 0x66, 0xea            # far jump, 32-bit offset
far_target:
    .long 0
    .word CODE64                # the same selector, for 32-bit code here

    .balign 8
setup_gdt:
    .quad 0, 0
    .quad 0x00cf9b000000ffff    # flat 32-bit code
    .quad 0x00cf93000000ffff    # flat data
setup_gdt_pointer:
    .word setup_gdt_pointer - setup_gdt - 1
setup_gdt_base:
    .long 0
    .org (SETUP_SECTORS + 1) * 512

# The 32-bit entry: flat segments, paging off, %esi = struct boot_params.
    .section .head, "ax"
    .code32
startup_32:
    cld
    mov $bss, %edi              # no loader clears it for us
    mov $bss_longs, %ecx
    xor %eax, %eax
    rep stosl
    mov $stack_top, %esp
    mov %esi, boot_params
    jmp enter_long_mode

# The 64-bit entry, 0x200 behind the 32-bit one: paging on, %rsi = boot_params.
    .org 0x200
    .code64
startup_64:
    cld
    mov $stack_top, %esp
    mov %rsi, boot_params

main64:
    mov boot_params, %rbx
    print "Hello from a bzImage\n"
    call print_boot_params
    print "  initrd: "
    mov BP_RAMDISK_IMAGE(%rbx), %eax
    mov BP_EXT_RAMDISK_IMAGE(%rbx), %edx
    call print_hex64
    print ", "
    mov %rdx, %rsi
    shl $32, %rsi
    or %rax, %rsi
    mov BP_RAMDISK_SIZE(%rbx), %eax
    call print_dec
    print " bytes, "
    call print_bytes
    jmp power_off

    .section .rodata
    .balign 8
kernel_info:                    # struct kernel_info, there from 2.15 on
    .ascii "LToP"
    .long 16, 16                # size, size with what may stand behind it
    .long 0x80000009            # setup_type_max: indirect setup_data is understood

    .bss
boot_params:
    .quad 0
    .balign 16
    .skip 4096
stack_top:
