/* Raises a C++ exception in the caller of a function that was not shipped, so that a program can go on without it.
 *
 * On a fault on the first instruction of a function, the stack is as the caller left it. If the handler continues at
 * throw_missing() instead, that is what was called. The caller must be C++: its libraries catch exceptions before they
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

static int in_code(const struct link_map *object, uintptr_t address) {
    size_t count = 0;
    const ElfW(Phdr) *headers = object_headers(object, &count);
    for (size_t i = 0; headers && i < count; i++)
        if (headers[i].p_type == PT_LOAD && headers[i].p_flags & PF_X &&
            address - object->l_addr - headers[i].p_vaddr < headers[i].p_memsz)
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

#if defined(__x86_64__)
typedef greg_t *Registers;
static const int register_numbers[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                         REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static int32_t signed_at(const uint8_t *at) { return (int32_t)(at[0] | at[1] << 8 | at[2] << 16 | (uint32_t)at[3] << 24); }

/* The operand of the indirect call in the `length` bytes before `next`; 0 if they are not one. */
static uintptr_t indirect_target(const uint8_t *next, size_t length, Registers registers) {
    const uint8_t *at = next - length;
    int rex = (*at & 0xf8) == 0x40 ? *at++ : 0;
    if (*at++ != 0xff || (*at & 0x38) != 0x10) return 0;
    int mode = *at >> 6, base = *at++ & 7;
    if (mode == 3) return at == next ? (uintptr_t)registers[register_numbers[base | (rex & 1) << 3]] : 0;
    uintptr_t place = 0;
    int far = mode == 2 || (mode == 0 && base == 5);
    if (mode == 0 && base == 5) {
        place = (uintptr_t)next;
    } else if (base == 4) {
        int index = (*at >> 3 & 7) | (rex & 2) << 2, scale = *at >> 6;
        base = *at++ & 7;
        if (mode == 0 && base == 5) return 0;
        if (index != 4) place = (uintptr_t)registers[register_numbers[index]] << scale;
        base |= (rex & 1) << 3;
        /* The call has pushed the return address. */
        place += (uintptr_t)registers[register_numbers[base]] + (base == 4 ? 8 : 0);
    } else {
        place = (uintptr_t)registers[register_numbers[base | (rex & 1) << 3]];
    }
    if (far) place += (uintptr_t)(intptr_t)signed_at(at), at += 4;
    if (mode == 1) place += (uintptr_t)(intptr_t)(int8_t)*at++;
    unsigned char present;
    if (at != next || failed(kernel_call(SYS_mincore, (long)(place & ~4095UL), 1, (long)&present, 0, 0, 0))) return 0;
    return *(uintptr_t *)place;
}

/* Return whether the instruction before `next` has called `address`, directly or through the linkage table. */
static int has_called(const uint8_t *next, uintptr_t address, Registers registers) {
    if (next[-5] == 0xe8) {
        const uint8_t *to = next + signed_at(next - 4);
        if ((uintptr_t)to == address) return 1;
        if (to[0] == 0xf3 && to[1] == 0x0f && to[2] == 0x1e && to[3] == 0xfa) to += 4; /* endbr64 */
        if (*to == 0xf2) to++;                                                        /* bnd */
        if (to[0] == 0xff && to[1] == 0x25 && *(const uintptr_t *)(to + 6 + signed_at(to + 2)) == address) return 1;
    }
    for (size_t length = 2; length <= 8; length++)
        if (indirect_target(next, length, registers) == address) return 1;
    return 0;
}
#else
typedef unsigned long long *Registers;

static int has_called(const uint8_t *next, uintptr_t address, Registers registers) {
    uint32_t call = *(const uint32_t *)(next - 4);
    if ((call & 0xfffffc1f) == 0xd63f0000) return registers[call >> 5 & 31] == address; /* blr */
    if (call >> 26 != 0x25) return 0;                                                   /* bl */
    uintptr_t to = (uintptr_t)next - 4 + (uintptr_t)((int64_t)(int32_t)(call << 6) >> 4);
    return to == address || registers[17] == address; /* the linkage table jumps through x17 */
}
#endif

/* Continue at throw_missing() if a C++ library has called the function at this address.
 *
 * At the first instruction of a function all registers are those of the call, so that its target can be computed again.
 * A library that has some of its code can also get to the address by a jump, with any state of the stack. */
static int throw_in_caller(uintptr_t address, ucontext_t *context, const char *message) {
#if defined(__x86_64__)
    Registers registers = context->uc_mcontext.gregs;
    uintptr_t instruction = (uintptr_t)registers[REG_RIP], caller = *(uintptr_t *)registers[REG_RSP];
#else
    Registers registers = context->uc_mcontext.regs;
    uintptr_t instruction = context->uc_mcontext.pc, caller = registers[30];
#endif
    if (!dlopen || !dlsym || instruction != address) return 0;
    FOR_EACH_OBJECT(other) {
        if (!in_code(other, caller) || !needs_cxx(other)) continue;
        if (!has_called((const uint8_t *)caller, address, registers)) return 0;
#if defined(__x86_64__)
        registers[REG_RIP] = (greg_t)throw_missing;
        registers[REG_RDI] = (greg_t)message;
#else
        context->uc_mcontext.pc = (uintptr_t)throw_missing;
        registers[0] = (uintptr_t)message;
#endif
        return 1;
    }
    return 0;
}

#endif
