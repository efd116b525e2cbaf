/* Shares SIGSEGV with the program: this handler is called first and passes faults of the program to its own handler.
 *
 * A program may install a handler before or after this one, query the installed one, or block the signal. If the signal
 * were blocked or the handler replaced, a fault on a cold page would end the process. So these calls of the program are
 * diverted, see divert.h.
 *
 * The including file defines `mend(address, access, context)`, which returns 1 if the program can go on. */
#ifndef LAYER_FAULTS_H
#define LAYER_FAULTS_H

#include <errno.h>
#include <ucontext.h>

#include "objects.h"

enum Access { ACCESS_READ, ACCESS_WRITE, ACCESS_EXECUTE };

static int mend(uintptr_t address, enum Access access, ucontext_t *context);

static struct sigaction next_actions[2];  /* set by the program; [next_action] is valid, the other being written */
static int next_action;

static struct sigaction *program_action(void) {
    return &next_actions[__atomic_load_n(&next_action, __ATOMIC_ACQUIRE)];
}

static void set_program_action(const struct sigaction *action) {
    int other = !__atomic_load_n(&next_action, __ATOMIC_ACQUIRE);
    next_actions[other] = *action;
    __atomic_store_n(&next_action, other, __ATOMIC_RELEASE);
}

#if defined(__aarch64__)
static uint64_t last_unreported; /* the last fault whose kind was not reported */

/* Return whether the same instruction of the same thread faulted at the same address the last time. */
static int comes_again(uintptr_t instruction, uintptr_t address) {
    uint64_t thread = (uint64_t)kernel_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
    uint64_t fault = (thread << 48) ^ ((uint64_t)instruction * 31) ^ address;
    return __atomic_exchange_n(&last_unreported, fault, __ATOMIC_ACQ_REL) == fault;
}
#endif

/* Return the kind of access that caused a fault, as reported by the processor. */
static enum Access access_of(const ucontext_t *context, uintptr_t address) {
#if defined(__x86_64__)
    long error = context->uc_mcontext.gregs[REG_ERR];
    (void)address;
    return error & 2 ? ACCESS_WRITE : error & 16 ? ACCESS_EXECUTE : ACCESS_READ;
#else
    const struct _aarch64_ctx *record = (const struct _aarch64_ctx *)context->uc_mcontext.__reserved;
    for (; record->magic; record = (const struct _aarch64_ctx *)((const char *)record + record->size)) {
        if (record->magic != ESR_MAGIC) continue;
        uint64_t syndrome = ((const struct esr_context *)record)->esr, kind = syndrome >> 26;
        if (kind == 0x20 || kind == 0x21) return ACCESS_EXECUTE;
        /* Cache maintenance (bit 8) is reported as a write but only needs read access. */
        return (syndrome & (1 << 6 | 1 << 8)) == 1 << 6 ? ACCESS_WRITE : ACCESS_READ;
    }
    /* Kernels always report it; QEMU's user emulation does from version 8.2 on. A read is assumed first: an access that
     * faults again on a readable page was a write. */
    int again = comes_again(context->uc_mcontext.pc, address);
    return context->uc_mcontext.pc == address ? ACCESS_EXECUTE : again ? ACCESS_WRITE : ACCESS_READ;
#endif
}

/* Pass a fault to the program as the kernel would do. */
static void pass_on(int number, siginfo_t *fault, void *context) {
    struct sigaction action = *program_action();
    int sent = fault->si_code <= 0; /* by kill(2) or similar: no instruction will fault again */
    if (!(action.sa_flags & SA_SIGINFO) && (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN)) {
        if (sent && action.sa_handler == SIG_IGN) return;
        put_action(number, (struct KernelAction){.handler = SIG_DFL});
        if (sent) {
            long process = kernel_call(SYS_getpid, 0, 0, 0, 0, 0, 0), thread = kernel_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
            kernel_call(SYS_tgkill, process, thread, number, 0, 0, 0);
        }
        return; /* the instruction faults again, and the kernel ends the process with the right address */
    }
    if (action.sa_flags & SA_RESETHAND) {
        struct sigaction standard = {.sa_handler = SIG_DFL};
        set_program_action(&standard);
    }
    uint64_t blocked = 0, before = 0;
    for (int i = 1; i <= 64; i++)
        if (sigismember(&action.sa_mask, i) == 1) blocked |= 1ULL << (i - 1);
    blocked &= ~(1ULL << (SIGSEGV - 1)); /* the handler's code may be cold, too */
    kernel_call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&blocked, (long)&before, 8, 0, 0);
    if (action.sa_flags & SA_SIGINFO)
        action.sa_sigaction(number, fault, context);
    else
        action.sa_handler(number);
    kernel_call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&before, 0, 8, 0, 0);
}

static void on_fault(int number, siginfo_t *fault, void *context) {
    uintptr_t address = (uintptr_t)fault->si_addr;
    if (fault->si_code > 0 && mend(address, access_of(context, address), context)) return;
    pass_on(number, fault, context);
}

/* Install the handler if it is not installed. Does not use anything that the loader has to relocate. */
static void take_faults(void) {
    struct KernelAction before;
#if defined(__aarch64__)
    __atomic_store_n(&last_unreported, 0, __ATOMIC_RELEASE); /* objects may have been loaded at the last fault */
#endif
    get_action(SIGSEGV, &before);
    if (before.handler == (void *)on_fault) return;
    struct sigaction theirs = {.sa_handler = (sighandler_t)before.handler};
    theirs.sa_flags = (int)(before.flags & ~(unsigned long)KERNEL_SA_RESTORER);
    *(uint64_t *)&theirs.sa_mask = before.mask;
    set_program_action(&theirs);
    unsigned long flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK | SA_RESTART;
    put_action(SIGSEGV, (struct KernelAction){.handler = (void *)on_fault, .flags = flags});
}

/* ---- replacements for the program's calls ---- */

static int our_sigaction(int number, const struct sigaction *action, struct sigaction *before) {
    struct sigaction open_minded;
    if (number == SIGSEGV) {
        struct sigaction current = *program_action();
        if (action) set_program_action(action);
        if (before) *before = current;
        return 0;
    }
    if (action) {
        open_minded = *action;
        sigdelset(&open_minded.sa_mask, SIGSEGV);
        action = &open_minded;
    }
    return sigaction(number, action, before);
}

static sighandler_t our_signal(int number, sighandler_t handler) {
    struct sigaction action = {.sa_flags = SA_RESTART}, before;
    if (number != SIGSEGV) return signal(number, handler);
    action.sa_handler = handler;
    our_sigaction(number, &action, &before);
    return before.sa_handler;
}

static int change_mask(int how, const sigset_t *set, sigset_t *before) {
    uint64_t wanted = 0, old = 0;
    if (set) {
        wanted = *(const uint64_t *)set;
        /* Nor can the two signals that the C library reserves for itself be blocked. */
        if (how != SIG_UNBLOCK) wanted &= ~((1ULL << (SIGSEGV - 1)) | (3ULL << 31));
    }
    long result = kernel_call(SYS_rt_sigprocmask, how, set ? (long)&wanted : 0, (long)&old, 8, 0, 0);
    if (result == 0 && before) {
        sigemptyset(before);
        *(uint64_t *)before = old;
    }
    return (int)-result;
}

static int our_pthread_sigmask(int how, const sigset_t *set, sigset_t *before) { return change_mask(how, set, before); }

static int our_sigprocmask(int how, const sigset_t *set, sigset_t *before) {
    int error = change_mask(how, set, before);
    if (error) errno = error;
    return error ? -1 : 0;
}

enum { SIGNAL_FUNCTION_COUNT = 7 };
#define SIGNAL_FUNCTIONS                                                                                         \
    {"sigaction", (void *)our_sigaction}, {"__sigaction", (void *)our_sigaction}, {"signal", (void *)our_signal}, \
        {"bsd_signal", (void *)our_signal}, {"ssignal", (void *)our_signal},                                      \
        {"sigprocmask", (void *)our_sigprocmask}, {"pthread_sigmask", (void *)our_pthread_sigmask},

#endif
