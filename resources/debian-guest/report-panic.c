/* report-panic PVPANIC CRASH: has a panic of this kernel reported to the VMM.
 *
 * Debian builds the driver for pvpanic into its x86 kernels only. Every one of its kernels can start a crash kernel
 * when it panics, however, and here that is a few instructions: they tell the device.
 *
 * PVPANIC is the physical address of the device's register, CRASH that of the memory reserved by crashkernel= on the
 * kernel's command line; both hexadecimal. */
#include <linux/kexec.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096

/* Started without address translation, by one CPU, with the others stopped: writes pvpanic's bit 0, "a guest panic has
 * happened". The last 8 bytes are the register's address. */
extern const char tell[], tell_end[];
#if defined(__aarch64__)
__asm__(".pushsection .rodata\n"
        ".globl tell, tell_end\n"
        ".balign 8\n"
        "tell: ldr x0, 2f\n"
        "      mov w1, #1\n"
        "      strb w1, [x0]\n"
        "1:    wfi\n"
        "      b 1b\n"
        "      .balign 8\n"
        "2:    .dword 0\n"
        "tell_end: .popsection\n");
#elif defined(__riscv)
__asm__(".pushsection .rodata\n"
        ".globl tell, tell_end\n"
        ".option push\n"
        ".option norvc\n"
        ".balign 8\n"
        "tell: auipc t0, 0\n"
        "      ld t0, 24(t0)\n"
        "      li t1, 1\n"
        "      sb t1, 0(t0)\n"
        "1:    wfi\n"
        "      j 1b\n"
        "      .dword 0\n"
        ".option pop\n"
        "tell_end: .popsection\n");
#else
#error "no instructions for this architecture"
#endif

static unsigned char code[PAGE], tree[1 << 20];

static size_t whole_pages(size_t size) { return (size + PAGE - 1) / PAGE * PAGE; }

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "Usage: report-panic PVPANIC CRASH\n");
        return 2;
    }
    uint64_t pvpanic = strtoull(argv[1], NULL, 16);
    uint64_t crash = strtoull(argv[2], NULL, 16);
    size_t size = tell_end - tell;
    memcpy(code, tell, size);
    memcpy(code + size - sizeof pvpanic, &pvpanic, sizeof pvpanic);

    /* RISC-V's kernel takes no crash kernel without a device tree. */
    FILE *file = fopen("/sys/firmware/fdt", "r");
    size_t tree_size = file ? fread(tree, 1, sizeof tree, file) : 0;
    struct kexec_segment segments[] = {
        {.buf = code, .bufsz = PAGE, .mem = (void *)crash, .memsz = PAGE},
        {.buf = tree, .bufsz = tree_size, .mem = (void *)(crash + PAGE), .memsz = whole_pages(tree_size)},
    };
    if (syscall(SYS_kexec_load, crash, tree_size ? 2 : 1, segments, KEXEC_ON_CRASH | KEXEC_ARCH_DEFAULT) != 0) {
        perror("report-panic: kexec_load");
        return 1;
    }
    return 0;
}
