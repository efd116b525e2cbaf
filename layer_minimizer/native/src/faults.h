/* Shares SIGSEGV with the program: this handler is called first and passes faults of the program to its own handler.
 *
 * A program may install a handler before or after this one, query the installed one, or block the signal. If the signal
 * were blocked or the handler replaced, a fault on a cold page would end the process. A library that is loaded late
 * cannot interpose symbols, so calls are diverted in the global offset tables of the loaded objects.
 *
 * The including file defines `mend(address, access)`, which returns 1 if the access can be repeated. */
#ifndef LAYER_FAULTS_H
#define LAYER_FAULTS_H

#include <errno.h>
#include <ucontext.h>

#include "objects.h"

#define RUNTIME_NAME "liblayercold.so"

enum Access { ACCESS_READ, ACCESS_WRITE, ACCESS_EXECUTE };

static int mend(uintptr_t address, enum Access access);

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
    if (fault->si_code > 0 && mend(address, access_of(context, address))) return;
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

#ifdef DIVERT_DLOPEN
static void *(*real_dlopen)(const char *, int);
static void after_load(void);

static void *our_dlopen(const char *name, int flags) {
    int marked = 0, slash = 0;
    for (const char *at = name; at && *at; at++) {
        marked |= *at == '$';
        slash |= *at == '/';
    }
    /* For a plain name, the loader takes the search path from its caller, so the call must appear to come from the
     * program: a jump, not a call. The objects that it loads are processed at the next call. */
    after_load();
    if (!slash || marked) return real_dlopen(name, flags);
    void *handle = real_dlopen(name, flags);
    after_load();
    return handle;
}
#endif

/* ---- diverting calls ---- */

static const struct {
    const char *name;
    void *ours;
} diverted[] = {
    {"sigaction", (void *)our_sigaction},     {"__sigaction", (void *)our_sigaction},
    {"signal", (void *)our_signal},           {"bsd_signal", (void *)our_signal},
    {"ssignal", (void *)our_signal},          {"sigprocmask", (void *)our_sigprocmask},
    {"pthread_sigmask", (void *)our_pthread_sigmask},
#ifdef DIVERT_DLOPEN
    {"dlopen", (void *)our_dlopen},
#endif
};

/* Return the replacement for a function by name, NULL if it is not diverted. */
static void *our_function(const char *name) {
    if (*name != 's' && *name != 'p' && *name != 'd' && *name != '_' && *name != 'b') return NULL;
    for (size_t k = 0; k < sizeof diverted / sizeof *diverted; k++)
        if (same_text(name, diverted[k].name)) return diverted[k].ours;
    return NULL;
}

#if defined(__x86_64__)
enum { SLOT = R_X86_64_JUMP_SLOT, DATA = R_X86_64_GLOB_DAT };
#else
enum { SLOT = R_AARCH64_JUMP_SLOT, DATA = R_AARCH64_GLOB_DAT };
#endif

/* Return whether the loader has made a page read-only after relocation: 1, 0, or -1 if that is not known. */
static int in_relro(const struct link_map *object, uintptr_t page) {
    size_t count = 0;
    const ElfW(Phdr) *headers = object_headers(object, &count);
    uintptr_t page_mask = ~(getauxval(AT_PAGESZ) - 1);
    for (size_t i = 0; headers && i < count; i++) {
        if (headers[i].p_type != PT_GNU_RELRO) continue;
        uintptr_t start = object->l_addr + headers[i].p_vaddr, end = start + headers[i].p_memsz;
        /* The loader leaves a partial last page writable, because it contains other data. */
        if (page >= (start & page_mask) && page < (end & page_mask)) return 1;
    }
    return headers ? 0 : -1;
}

static void write_slot(const struct link_map *object, uintptr_t slot, void *value) {
    if (*(void **)slot == value) return;
    long size = (long)getauxval(AT_PAGESZ);
    uintptr_t page = slot & ~(uintptr_t)(size - 1);
    int closed = in_relro(object, page);
    if (closed && failed(kernel_call(SYS_mprotect, (long)page, size, PROT_READ | PROT_WRITE, 0, 0, 0))) return;
    __atomic_store_n((void **)slot, value, __ATOMIC_RELEASE);
    if (closed == 1) kernel_call(SYS_mprotect, (long)page, size, PROT_READ, 0, 0, 0);
}

/* Return whether the loader has relocated a slot. The list of objects may contain one that is being loaded: the loader
 * would overwrite a value written now, or crash if the page was made read-only. Before relocation a slot is zero or
 * contains an address relative to the base. (Not every address below the base is relative: other objects may be mapped
 * lower.) */
static int is_relocated(const struct link_map *object, uintptr_t slot) {
    uintptr_t value = *(uintptr_t *)slot;
    return value != 0 && (value >= (uintptr_t)object->l_ld - object->l_addr || object->l_addr < (1UL << 32));
}

/* Return 0 if the object is not relocated yet. */
static int divert_in_table(const struct link_map *object, const ElfW(Rela) *table, size_t size) {
    const ElfW(Dyn) *symbols = dynamic_entry(object, DT_SYMTAB), *strings = dynamic_entry(object, DT_STRTAB);
    if (!symbols || !strings) return 1;
    const ElfW(Sym) *symbol = (const ElfW(Sym) *)dynamic_address(object, symbols->d_un.d_ptr);
    const char *text = (const char *)dynamic_address(object, strings->d_un.d_ptr);
    int whole = 1;
    for (size_t i = 0; i < size / sizeof *table; i++) {
        unsigned type = ELF64_R_TYPE(table[i].r_info);
        if (type != SLOT && type != DATA) continue;
        const ElfW(Sym) *named = symbol + ELF64_R_SYM(table[i].r_info);
        if (named->st_shndx != SHN_UNDEF) continue;
        void *ours = our_function(text + named->st_name);
        if (!ours) continue;
        uintptr_t slot = object->l_addr + table[i].r_offset;
        if (is_relocated(object, slot))
            write_slot(object, slot, ours);
        else
            whole = 0; /* permanently if a weak symbol is missing */
    }
    return whole;
}

/* Divert the calls of one object. Return 0 if it is not relocated yet. */
static int divert(const struct link_map *object) {
    const ElfW(Dyn) *tables[][2] = {
        {dynamic_entry(object, DT_RELA), dynamic_entry(object, DT_RELASZ)},
        {dynamic_entry(object, DT_JMPREL), dynamic_entry(object, DT_PLTRELSZ)},
    };
    int whole = 1;
    for (int i = 0; i < 2; i++) {
        if (!tables[i][0] || !tables[i][1]) continue;
        const ElfW(Rela) *table = (const ElfW(Rela) *)dynamic_address(object, tables[i][0]->d_un.d_ptr);
        whole &= divert_in_table(object, table, tables[i][1]->d_un.d_val);
    }
    return whole;
}

/* Return whether an object is this one or another copy of it: two that divert each other's calls would loop forever. */
static int is_runtime(const struct link_map *object) {
    const ElfW(Dyn) *name = dynamic_entry(object, DT_SONAME), *strings = dynamic_entry(object, DT_STRTAB);
    if (!name || !strings) return object->l_ld == _DYNAMIC;
    return same_text((const char *)dynamic_address(object, strings->d_un.d_ptr) + name->d_un.d_val, RUNTIME_NAME);
}

/* Objects whose calls have been diverted, so that each is processed once. */
static struct {
    const struct link_map *object;
    ElfW(Addr) base;
    const ElfW(Dyn) *dynamic;
} seen_objects[4096];

static int is_new_object(const struct link_map *object, size_t position) {
    if (position >= sizeof seen_objects / sizeof *seen_objects) return 1;
    int known = seen_objects[position].object == object && seen_objects[position].base == object->l_addr &&
                seen_objects[position].dynamic == object->l_ld;
    seen_objects[position].object = object;
    seen_objects[position].base = object->l_addr;
    seen_objects[position].dynamic = object->l_ld;
    return !known;
}

/* Divert the calls of all objects that are new since the last time, and install the handler again if necessary. */
static void divert_all(void) {
    size_t position = 0;
    FOR_EACH_OBJECT(object) {
        if (is_new_object(object, position) && !is_runtime(object) && !divert(object))
            seen_objects[position].dynamic = NULL; /* try again the next time */
        position++;
    }
    /* Objects after that position were unloaded, and may be loaded again at the same address. */
    for (; position < sizeof seen_objects / sizeof *seen_objects && seen_objects[position].object; position++)
        seen_objects[position].object = NULL;
    take_faults();
}

#endif
