/* Raises a C++ exception in the caller of a function that was not shipped, so that a program can go on without it.
 *
 * A fault on the first instruction of a function is a call: the stack is as the caller left it. If the handler continues
 * at throw_missing() instead, that is what was called. The caller must be C++: its libraries catch exceptions before they
 * return to C or Python, as nearly every function of C++ may throw. Where nobody catches it, C++ ends the process.
 *
 * https://itanium-cxx-abi.github.io/cxx-abi/abi-eh.html; the names of std::runtime_error are those of libstdc++. */
#ifndef LAYER_EXCEPTIONS_H
#define LAYER_EXCEPTIONS_H

#include <ucontext.h>

#include "loading.h" /* dlopen and dlsym, which may be absent */
#include "objects.h"

#define CXX_LIBRARY "libstdc++.so.6"

static void end_process(void) __attribute__((noreturn));

static void throw_missing(const char *message) {
    void *library = dlopen(CXX_LIBRARY, RTLD_LAZY | RTLD_NOLOAD);
    if (!library) end_process();
    void *(*allocate)(size_t) = (void *(*)(size_t))dlsym(library, "__cxa_allocate_exception");
    void (*construct)(void *, const char *) = (void (*)(void *, const char *))dlsym(library, "_ZNSt13runtime_errorC1EPKc");
    void (*throw_it)(void *, void *, void *) = (void (*)(void *, void *, void *))dlsym(library, "__cxa_throw");
    void *type = dlsym(library, "_ZTISt13runtime_error"), *destroy = dlsym(library, "_ZNSt13runtime_errorD1Ev");
    if (!allocate || !construct || !throw_it || !type || !destroy) end_process();
    void *error = allocate(2 * sizeof(void *)); /* a table of virtual functions, and the text */
    construct(error, message);
    throw_it(error, type, destroy);
    end_process();
}

/* Return whether an object contains an address in a segment with these rights; 0 as address: whether it has such one. */
static int has_segment(const struct link_map *object, uintptr_t address, ElfW(Word) rights) {
    size_t count = 0;
    const ElfW(Phdr) *headers = object_headers(object, &count);
    for (size_t i = 0; headers && i < count; i++)
        if (headers[i].p_type == PT_LOAD && (headers[i].p_flags & rights) == rights &&
            (!address || address - object->l_addr - headers[i].p_vaddr < headers[i].p_memsz))
            return 1;
    return 0;
}

static int needs_cxx(const struct link_map *object) {
    const ElfW(Dyn) *strings = dynamic_entry(object, DT_STRTAB);
    for (const ElfW(Dyn) *d = object->l_ld; strings && d->d_tag != DT_NULL; d++)
        if (d->d_tag == DT_NEEDED &&
            same_text((const char *)dynamic_address(object, strings->d_un.d_ptr) + d->d_un.d_val, CXX_LIBRARY))
            return 1;
    return 0;
}

/* Continue at throw_missing() if a C++ library has called a function of an object whose code was not shipped. */
static int throw_in_caller(const struct link_map *object, uintptr_t address, ucontext_t *context, const char *message) {
#if defined(__x86_64__)
    greg_t *registers = context->uc_mcontext.gregs;
    uintptr_t instruction = (uintptr_t)registers[REG_RIP], caller = *(uintptr_t *)registers[REG_RSP];
#else
    uintptr_t instruction = context->uc_mcontext.pc, caller = context->uc_mcontext.regs[30];
#endif
    /* Within a library that has some of its code, it might be a jump. */
    if (!dlopen || !dlsym || instruction != address || has_segment(object, 0, PF_X)) return 0;
    FOR_EACH_OBJECT(other) {
        if (!has_segment(other, caller, PF_X) || !needs_cxx(other)) continue;
#if defined(__x86_64__)
        registers[REG_RIP] = (greg_t)throw_missing;
        registers[REG_RDI] = (greg_t)message;
#else
        context->uc_mcontext.pc = (uintptr_t)throw_missing;
        context->uc_mcontext.regs[0] = (uintptr_t)message;
#endif
        return 1;
    }
    return 0;
}

#endif
