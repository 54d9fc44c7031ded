// PID 1 of a guest that runs one command in a directory of the host's: `axvmm run -k KERNEL --root DIR -- COMMAND`.
//
// It is alone in its initramfs, or put over that of the user, whose modprobe then loads what the kernel has as modules.
// It needs no library: it calls the kernel itself, as no two machines' C libraries are alike.
//
// What it is to do it reads from /axvmm/command, a file of the share "axvmm.command": strings, each ended by a 0:
//   "t" for a terminal, else "p"; its rows; its columns; the working directory; how many arguments there are; the
//   arguments; the environment.
// With a terminal, each read of /axvmm/size waits until the terminal has another size, and gives its rows and its
// columns, 2 bytes each.
// The command's status goes to /axvmm/exit as one byte, and the VMM then ends the machine.

typedef unsigned long word;
typedef long number;

#if defined(__x86_64__)
enum { READ = 0, WRITE = 1, CLOSE = 3, IOCTL = 16, DUP2 = 292, EXECVE = 59, EXIT = 60, WAIT4 = 61, CHDIR = 80,
       SYMLINKAT = 266, MKDIRAT = 258, CHROOT = 161, SYNC = 162, MOUNT = 165, REBOOT = 169, OPENAT = 257, PIPE2 = 293,
       SETSID = 112, CLONE = 56, SETHOSTNAME = 170 };
static number call(word n, word a, word b, word c, word d, word e) {
    number result;
    register word r10 __asm__("r10") = d;
    register word r8 __asm__("r8") = e;
    __asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}
__asm__(".globl _start\n_start: xor %ebp, %ebp\n and $-16, %rsp\n call start\n");
#else
enum { READ = 63, WRITE = 64, CLOSE = 57, IOCTL = 29, DUP2 = 24, EXECVE = 221, EXIT = 93, WAIT4 = 260, CHDIR = 49,
       SYMLINKAT = 36, MKDIRAT = 34, CHROOT = 51, SYNC = 81, MOUNT = 40, REBOOT = 142, OPENAT = 56, PIPE2 = 59,
       SETSID = 157, CLONE = 220, SETHOSTNAME = 161 };
#if defined(__aarch64__)
static number call(word n, word a, word b, word c, word d, word e) {
    register word x8 __asm__("x8") = n;
    register word x0 __asm__("x0") = a;
    register word x1 __asm__("x1") = b;
    register word x2 __asm__("x2") = c;
    register word x3 __asm__("x3") = d;
    register word x4 __asm__("x4") = e;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return (number)x0;
}
__asm__(".globl _start\n_start: mov x29, xzr\n bl start\n");
#elif defined(__riscv)
static number call(word n, word a, word b, word c, word d, word e) {
    register word a7 __asm__("a7") = n;
    register word a0 __asm__("a0") = a;
    register word a1 __asm__("a1") = b;
    register word a2 __asm__("a2") = c;
    register word a3 __asm__("a3") = d;
    register word a4 __asm__("a4") = e;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4) : "memory");
    return (number)a0;
}
__asm__(".globl _start\n_start: call start\n");
#endif
#endif

#define CALL(n, ...) CALL_(n, __VA_ARGS__, 0, 0, 0, 0, 0)
#define CALL_(n, a, b, c, d, e, ...) call(n, (word)(a), (word)(b), (word)(c), (word)(d), (word)(e))

enum { HERE = -100, RDONLY = 0, WRONLY = 1, RDWR = 2, NOCTTY = 0400, CLOEXEC = 02000000 };
enum { MS_NOSUID = 2, MS_NODEV = 4, MS_MOVE = 8192 };
enum { ENOENT = 2, EACCES = 13, ENOTDIR = 20, EEXIST = 17, ENODEV = 19, EINVAL = 22 };
enum { TIOCSCTTY = 0x540e, TIOCSWINSZ = 0x5414, POWER_OFF = 0x4321fedc, SIGCHLD = 17 };
/// Statuses as shells have them; the first is for what has nothing to do with the command.
enum { FAILED = 125, CANNOT_RUN = 126, NOT_FOUND = 127 };

static char command[1 << 20];
static char *words[1 << 16];
static char path[4096];
static char active[256];
static int report = -1;

static word length(const char *text) {
    word n = 0;
    while (text[n]) n++;
    return n;
}

static void say(const char *text) { CALL(WRITE, 2, text, length(text)); }

static number parse(const char *text) {
    number value = 0;
    for (; *text >= '0' && *text <= '9'; text++) value = 10 * value + *text - '0';
    return value;
}

static void __attribute__((noreturn)) end(int status) {
    char byte = (char)status;
    CALL(SYNC, 0);
    if (report >= 0 && CALL(WRITE, report, &byte, 1) == 1)
        for (;;) CALL(WAIT4, -1, 0, 0, 0); // the machine goes away meanwhile
    CALL(REBOOT, 0xfee1dead, 0x28121969, POWER_OFF);
    for (;;) CALL(EXIT, status);
}

static void __attribute__((noreturn)) fail(const char *what, number error) {
    static char digits[] = "errno    \n";
    say("axvmm-init: ");
    say(what);
    digits[6] = (char)('0' + -error / 100 % 10);
    digits[7] = (char)('0' + -error / 10 % 10);
    digits[8] = (char)('0' + -error % 10);
    say(": ");
    say(digits);
    end(FAILED);
}

static number mount(const char *what, const char *where, const char *kind, word flags, const char *options) {
    return CALL(MOUNT, what, where, kind, flags, options);
}

static number open(const char *name, word flags) { return CALL(OPENAT, HERE, name, flags, 0); }

static number fork(void) { return CALL(CLONE, SIGCHLD, 0, 0, 0, 0); }

// The driver of the transport, and what else is wanted, where the user's initramfs has them as modules.
static void load_modules(void) {
    static char *const modprobe[] = {"modprobe", "-qa", "virtio_pci", "virtio_mmio", "virtiofs", 0};
    static char *const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", 0};
    number child = fork();
    if (child < 0) return;
    if (child == 0) {
        CALL(EXECVE, "/sbin/modprobe", modprobe, environment);
        CALL(EXECVE, "/bin/busybox", modprobe, environment);
        CALL(EXIT, NOT_FOUND);
    }
    CALL(WAIT4, child, 0, 0, 0);
}

// Opens what a name that is shown as "NAME" in /proc/self/fd and elsewhere stands for, as in a full system.
static void links(void) {
    CALL(SYMLINKAT, "/proc/self/fd", HERE, "/dev/fd");
    CALL(SYMLINKAT, "/proc/self/fd/0", HERE, "/dev/stdin");
    CALL(SYMLINKAT, "/proc/self/fd/1", HERE, "/dev/stdout");
    CALL(SYMLINKAT, "/proc/self/fd/2", HERE, "/dev/stderr");
}

static void enter_root(void) {
    number error = mount("axvmm.root", "/axvmm-root", "virtiofs", 0, 0);
    if (error != 0) fail("cannot mount the share axvmm.root (virtiofs)", error);
    if ((error = CALL(CHDIR, "/axvmm-root")) != 0) fail("cannot enter the root", error);
    // None of these is there in every root, and none is missed by every command.
    CALL(MKDIRAT, HERE, "dev", 0755);
    CALL(MKDIRAT, HERE, "proc", 0555);
    CALL(MKDIRAT, HERE, "sys", 0555);
    CALL(MKDIRAT, HERE, "run", 0755);
    mount("/dev", "dev", 0, MS_MOVE, 0);
    mount("/proc", "proc", 0, MS_MOVE, 0);
    mount("/sys", "sys", 0, MS_MOVE, 0);
    mount("tmpfs", "run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755");
    if ((error = mount(".", "/", 0, MS_MOVE, 0)) != 0) fail("cannot move the root", error);
    if ((error = CALL(CHROOT, ".")) != 0) fail("cannot enter the root", error);
    CALL(MKDIRAT, HERE, "/dev/pts", 0755);
    CALL(MKDIRAT, HERE, "/dev/shm", 01777);
    mount("devpts", "/dev/pts", "devpts", 0, "mode=0620,ptmxmode=0666");
    mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
    links();
}

// The kernel's console as a terminal of its own name, since /dev/console controls nobody.
static number terminal(void) {
    static char name[sizeof active + 8] = "/dev/";
    number fd = open("/sys/class/tty/console/active", RDONLY);
    number n = fd < 0 ? fd : CALL(READ, fd, active, sizeof active - 1);
    if (n <= 0) return open("/dev/console", RDWR);
    CALL(CLOSE, fd);
    while (n > 0 && (active[n - 1] == '\n' || active[n - 1] == ' ')) active[--n] = 0;
    while (n > 0 && active[n - 1] != ' ') n--; // the last one is the kernel's own
    for (word i = 0; (name[5 + i] = active[n + (number)i]); i++) {}
    return open(name, RDWR | NOCTTY);
}

// Carries the host's input into a pipe: a reader of that can be interrupted, and a reader of the share cannot.
static number input(number from) {
    static char bytes[65536];
    int ends[2];
    number child, n;
    if ((n = CALL(PIPE2, ends, CLOEXEC)) != 0) fail("cannot make a pipe", n);
    if ((child = fork()) < 0) fail("cannot fork", child);
    if (child > 0) {
        CALL(CLOSE, ends[1]);
        return ends[0];
    }
    CALL(CLOSE, ends[0]);
    while ((n = CALL(READ, from, bytes, sizeof bytes)) > 0)
        for (number done = 0, more; done < n; done += more)
            if ((more = CALL(WRITE, ends[1], bytes + done, n - done)) <= 0) CALL(EXIT, 0);
    CALL(EXIT, 0);
    return -1;
}

// Passes on the sizes that the terminal gets.
static void follow_size(number sizes, number terminal) {
    unsigned short window[4] = {0, 0, 0, 0};
    if (sizes < 0 || fork() != 0) return;
    while (CALL(READ, sizes, window, 4) == 4) CALL(IOCTL, terminal, TIOCSWINSZ, window);
    CALL(EXIT, 0);
}

static void __attribute__((noreturn)) become(char **arguments, char **environment) {
    const char *name = arguments[0], *places = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    number error = -ENOENT;
    int slash = 0;
    for (const char *c = name; *c; c++) slash |= *c == '/';
    for (char **variable = environment; *variable; variable++) {
        const char *v = *variable;
        if (v[0] == 'P' && v[1] == 'A' && v[2] == 'T' && v[3] == 'H' && v[4] == '=') places = v + 5;
    }
    if (slash) error = CALL(EXECVE, name, arguments, environment);
    while (!slash && *places) {
        word n = 0, i = 0;
        for (; *places && *places != ':'; places++)
            if (n < sizeof path - 2) path[n++] = *places;
        if (*places) places++;
        path[n++] = '/';
        for (; name[i] && n + i < sizeof path - 1; i++) path[n + i] = name[i];
        path[n + i] = 0;
        number now = CALL(EXECVE, path, arguments, environment);
        if (now != -ENOENT && now != -ENOTDIR) error = now;
    }
    say("axvmm-init: cannot run ");
    say(name);
    say(error == -ENOENT ? ": not found in the root\n" : error == -EACCES ? ": permission denied\n" : ": no program\n");
    CALL(EXIT, error == -ENOENT ? NOT_FOUND : CANNOT_RUN);
    for (;;) {}
}

void start(void) {
    number error, fd, n;
    mount("devtmpfs", "/dev", "devtmpfs", 0, 0);
    mount("proc", "/proc", "proc", 0, 0);
    mount("sysfs", "/sys", "sysfs", 0, 0);
    load_modules();
    error = mount("axvmm.command", "/axvmm", "virtiofs", 0, 0);
    if (error == -ENODEV) fail("this kernel has no virtio-fs (CONFIG_VIRTIO_FS), not even in the initrd", error);
    if (error == -EINVAL) fail("this kernel sees no virtio device: it wants virtio_pci and virtio_mmio", error);
    if (error != 0) fail("cannot mount the share axvmm.command (virtiofs)", error);
    if ((report = (int)open("/axvmm/exit", WRONLY | CLOEXEC)) < 0) fail("cannot open /axvmm/exit", report);
    if ((fd = open("/axvmm/command", RDONLY | CLOEXEC)) < 0) fail("cannot open /axvmm/command", fd);
    word size = 0;
    while ((n = CALL(READ, fd, command + size, sizeof command - 1 - size)) > 0) size += (word)n;
    CALL(CLOSE, fd);

    word count = 0;
    for (word at = 0; at < size && count < sizeof words / sizeof *words - 2; at += length(command + at) + 1)
        words[count++] = command + at;
    if (count < 6) fail("/axvmm/command is too short", -EINVAL);
    int has_terminal = words[0][0] == 't';
    number arguments = parse(words[4]);
    if (arguments < 1 || 5 + (word)arguments > count) fail("/axvmm/command has no command", -EINVAL);
    // The environment begins behind the arguments, which want a 0 of their own there.
    for (word at = count; at > 5 + (word)arguments; at--) words[at] = words[at - 1];
    words[5 + arguments] = 0;
    words[count + 1] = 0;

    number in = has_terminal ? terminal() : open("/axvmm/stdin", RDONLY | CLOEXEC);
    number out = has_terminal ? in : open("/axvmm/stdout", WRONLY | CLOEXEC);
    number err = has_terminal ? in : open("/axvmm/stderr", WRONLY | CLOEXEC);
    number sizes = has_terminal ? open("/axvmm/size", RDONLY | CLOEXEC) : -1;
    if (in < 0 || out < 0 || err < 0) fail("cannot open the command's input and output", in < 0 ? in : out);
    enter_root();
    CALL(SETHOSTNAME, "axvmm", 5);
    if ((error = CALL(CHDIR, words[3])) != 0) fail("cannot enter the working directory", error);
    if (!has_terminal) {
        number from = in;
        in = input(from);
        CALL(CLOSE, from);
    }

    unsigned short window[4] = {(unsigned short)parse(words[1]), (unsigned short)parse(words[2]), 0, 0};
    if (has_terminal && window[0] && window[1]) CALL(IOCTL, in, TIOCSWINSZ, window);
    number child = fork();
    if (child < 0) fail("cannot fork", child);
    if (child == 0) {
        CALL(SETSID, 0);
        if (has_terminal) CALL(IOCTL, in, TIOCSCTTY, 1);
        CALL(DUP2, in, 0, 0);
        CALL(DUP2, out, 1, 0);
        CALL(DUP2, err, 2, 0);
        become(words + 5, words + 6 + arguments);
    }
    follow_size(sizes, in);
    CALL(CLOSE, in);
    for (;;) {
        int status = 0;
        n = CALL(WAIT4, -1, &status, 0, 0);
        if (n == child) end(status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff);
        if (n < 0 && n != -4) fail("cannot wait for the command", n);
    }
}
