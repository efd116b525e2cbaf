/* System calls and the few string functions that the C parts need. Does not use libc: this code runs in signal
 * handlers, in every process that loads a compacted library, and must not need symbols that old C libraries lack. */
#ifndef LAYER_KERNEL_H
#define LAYER_KERNEL_H

#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static inline long kernel_call(long number, long a, long b, long c, long d, long e, long f) {
#if defined(__x86_64__)
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
#else
#error "only x86_64 and aarch64"
#endif
}

/* Results from -4095 to -1 are error numbers. */
static inline int failed(long result) { return result < 0 && result >= -4095; }

/* The argument of rt_sigaction: the C library's sigaction is not relocated yet when this is first needed. */
struct KernelAction {
    void *handler;
    unsigned long flags;
    void *restorer;
    uint64_t mask;
};
#define KERNEL_SA_RESTORER 0x04000000

#if defined(__x86_64__)
/* Returns from a handler. Unwinders and debuggers recognize a signal frame by exactly these bytes. */
__asm__(".pushsection .text\n"
        ".type return_from_signal, @function\n"
        "nop\n"
        "return_from_signal:\n"
        "mov $15, %rax\n"
        "syscall\n"
        ".size return_from_signal, . - return_from_signal\n"
        ".popsection\n");
extern char return_from_signal[] __attribute__((visibility("hidden")));
#endif

static inline void get_action(int number, struct KernelAction *action) {
    kernel_call(SYS_rt_sigaction, number, 0, (long)action, sizeof action->mask, 0, 0);
}

static inline void put_action(int number, struct KernelAction action) {
#if defined(__x86_64__)
    action.flags |= KERNEL_SA_RESTORER;
    action.restorer = return_from_signal;
#endif
    kernel_call(SYS_rt_sigaction, number, (long)&action, 0, sizeof action.mask, 0, 0);
}

static inline void *map_memory(size_t size) {
    long at = kernel_call(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return failed(at) ? NULL : (void *)at;
}

static inline void unmap_memory(void *at, size_t size) { kernel_call(SYS_munmap, (long)at, (long)size, 0, 0, 0, 0); }

static inline int open_file(const char *path, int flags, int mode) {
    return (int)kernel_call(SYS_openat, AT_FDCWD, (long)path, flags | O_CLOEXEC, mode, 0, 0);
}

static inline void close_file(int file) { kernel_call(SYS_close, file, 0, 0, 0, 0, 0); }

static __attribute__((noinline, unused)) size_t text_length(const char *text) {
    size_t length = 0;
    while (text[length]) length++;
    return length;
}

static __attribute__((noinline, unused)) int same_text(const char *one, const char *two) {
    while (*one && *one == *two) one++, two++;
    return *one == *two;
}

/* Append `text` at `at`, not beyond `end` (which leaves room for the final zero). Return the new end of the text. */
static __attribute__((noinline, unused)) char *append_text(char *at, const char *end, const char *text) {
    while (*text && at < end) *at++ = *text++;
    *at = 0;
    return at;
}

static inline char *append_hex(char *at, const char *end, uint64_t value) {
    char digits[19] = "0x";
    int shift = 60;
    char *to = digits + 2;
    while (shift > 0 && !(value >> shift)) shift -= 4;
    for (; shift >= 0; shift -= 4) *to++ = "0123456789abcdef"[(value >> shift) & 15];
    *to = 0;
    return append_text(at, end, digits);
}

#endif
