// Makes a process believe that its processor has no AVX-512, AVX-VNNI or AMX, so that it runs its AVX2 code.
//
//   cc -O2 -shared -fPIC -Wl,-z,initfirst -o hide-avx512.so hide-avx512.c -ldl
//   LD_PRELOAD=$PWD/hide-avx512.so PROGRAM ...
//
// Linux can trap the CPUID instruction of a process (arch_prctl; processor flag cpuid_fault). The trap is a SIGSEGV; its
// handler executes the instruction, clears the bits of what is hidden and goes on behind it. Threads inherit the trap. A
// started program does not: it loads this library again, unless it is linked statically. XGETBV cannot be trapped and still
// says that the system keeps 512-bit registers, which no program should take for the processor having instructions for them.
// Some ask /proc/cpuinfo instead (DeepSparse): whoever opens it gets a copy without those words.
// Nothing is forbidden: a program that asks nobody executes AVX-512 as before. tools/bench-peers looks whether one did.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_CPUID 0x1012
#define BIT(n) (1u << (n))

enum { EAX, EBX, ECX, EDX };

static const struct { unsigned leaf, subleaf, reg, bits; } hidden[] = {
    // AVX-512 F, DQ, IFMA, PF, ER, CD, BW, VL
    {7, 0, EBX, BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31)},
    // AVX-512 VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ
    {7, 0, ECX, BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14)},
    // AVX-512 4VNNIW, 4FMAPS, VP2INTERSECT, FP16; AMX BF16, TILE, INT8
    {7, 0, EDX, BIT(2) | BIT(3) | BIT(8) | BIT(23) | BIT(22) | BIT(24) | BIT(25)},
    // AVX-VNNI, AVX-512 BF16, AMX FP16, AVX-IFMA
    {7, 1, EAX, BIT(4) | BIT(5) | BIT(21) | BIT(23)},
    // AVX-VNNI INT8, AVX-NE-CONVERT, AMX COMPLEX, AVX-VNNI INT16, AVX10
    {7, 1, EDX, BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19)},
    // state that the system keeps: masks, two halves of the 512-bit registers, tiles
    {0xd, 0, EAX, BIT(5) | BIT(6) | BIT(7) | BIT(17) | BIT(18)},
};

typedef int (*Sigaction)(int, const struct sigaction *, struct sigaction *);

static int real_sigaction(int number, const struct sigaction *new, struct sigaction *old) {
    return ((Sigaction)dlsym(RTLD_NEXT, "sigaction"))(number, new, old);
}

// Engines that report their crashes would take the signal away.
int sigaction(int number, const struct sigaction *new, struct sigaction *old) {
    return real_sigaction(number, number == SIGSEGV ? NULL : new, old);
}

static long trap_cpuid(int on) { return syscall(SYS_arch_prctl, ARCH_CPUID, !on); }

static void on_segv(int number, siginfo_t *info, void *context) {
    (void)number;
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *at = (const unsigned char *)regs[REG_RIP];
    // a fault of any other cause comes again after this handler and ends the process
    if (info->si_code != SI_KERNEL || at[0] != 0x0f || at[1] != 0xa2) {
        struct sigaction plain = {.sa_handler = SIG_DFL};
        real_sigaction(SIGSEGV, &plain, NULL);
        return;
    }
    unsigned leaf = regs[REG_RAX], subleaf = regs[REG_RCX], out[4];
    trap_cpuid(0);
    __asm__ volatile("cpuid" : "=a"(out[EAX]), "=b"(out[EBX]), "=c"(out[ECX]), "=d"(out[EDX]) : "a"(leaf), "c"(subleaf));
    trap_cpuid(1);
    for (unsigned i = 0; i < sizeof hidden / sizeof *hidden; i++)
        if (hidden[i].leaf == leaf && hidden[i].subleaf == subleaf) out[hidden[i].reg] &= ~hidden[i].bits;
    // tiles, AVX10
    if (leaf == 0x1d || leaf == 0x1e || leaf == 0x24) memset(out, 0, sizeof out);
    regs[REG_RAX] = out[EAX], regs[REG_RBX] = out[EBX], regs[REG_RCX] = out[ECX], regs[REG_RDX] = out[EDX];
    regs[REG_RIP] += 2;
}

__attribute__((constructor)) static void hide(void) {
    struct sigaction action = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    if (real_sigaction(SIGSEGV, &action, NULL) != 0 || trap_cpuid(1) != 0) {
        perror("hide-avx512: this system or processor cannot trap CPUID");
        _exit(1);
    }
}

// ---- /proc/cpuinfo ----

static int is_cpuinfo(const char *path) { return path != NULL && strcmp(path, "/proc/cpuinfo") == 0; }

// A file in memory that holds /proc/cpuinfo without the words of what is hidden.
static int open_cpuinfo(void) {
    static const char *const prefixes[] = {"avx512", "amx_", "avx_vnni", "avx_ifma", "avx10"};
    const size_t most = 1 << 20;
    int given = syscall(SYS_openat, AT_FDCWD, "/proc/cpuinfo", O_RDONLY | O_CLOEXEC), shown = memfd_create("cpuinfo", MFD_CLOEXEC);
    char *text = malloc(most);
    if (given < 0 || shown < 0 || text == NULL) return -1;
    size_t size = 0;
    for (ssize_t n; size < most - 1 && (n = read(given, text + size, most - 1 - size)) > 0;) size += n;
    text[size] = 0;
    close(given);
    for (const char *at = text, *end; *at != 0; at = end) {
        end = at + 1 + strcspn(at + 1, " \n");
        int hide = 0;
        for (unsigned i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
            hide |= *at == ' ' && strncmp(at + 1, prefixes[i], strlen(prefixes[i])) == 0;
        if (!hide && write(shown, at, end - at) < 0) return -1;
    }
    free(text);
    lseek(shown, 0, SEEK_SET);
    return shown;
}

static int open_at(int folder, const char *path, int flags, va_list rest) {
    if (is_cpuinfo(path)) return open_cpuinfo();
    return syscall(SYS_openat, folder, path, flags, flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0);
}

static FILE *open_file(const char *name, const char *path, const char *mode) {
    if (is_cpuinfo(path)) return fdopen(open_cpuinfo(), "r");
    return ((FILE * (*)(const char *, const char *)) dlsym(RTLD_NEXT, name))(path, mode);
}

#define OPEN_AT(folder)                                \
    va_list rest;                                      \
    va_start(rest, flags);                             \
    int file = open_at(folder, path, flags, rest);     \
    va_end(rest);                                      \
    return file;
int open(const char *path, int flags, ...) { OPEN_AT(AT_FDCWD) }
int open64(const char *path, int flags, ...) { OPEN_AT(AT_FDCWD) }
int openat(int folder, const char *path, int flags, ...) { OPEN_AT(folder) }
int openat64(int folder, const char *path, int flags, ...) { OPEN_AT(folder) }
FILE *fopen(const char *path, const char *mode) { return open_file("fopen", path, mode); }
FILE *fopen64(const char *path, const char *mode) { return open_file("fopen64", path, mode); }
