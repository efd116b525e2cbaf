/* The objects that are loaded in this process, as the dynamic loader's debugger interface lists them.
 *
 * dl_iterate_phdr takes a lock and must not be called in signal handlers. This list can be read at any time: the loader
 * appends to it, and keeps it consistent for debuggers, which stop a process at any instruction. */
#ifndef LAYER_OBJECTS_H
#define LAYER_OBJECTS_H

#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

#include "coldindex.h"
#include "kernel.h"

/* A variable of the loader: the list of the program's namespace. It is found by name, because the auxiliary vector
 * describes the loader if that was started explicitly, and /proc may be absent. */
#pragma weak _r_debug

/* Namespaces created by dlmopen follow the program's own, from glibc 2.35 on. */
static inline const struct r_debug *next_namespace(const struct r_debug *space) {
    struct Extended {
        struct r_debug base;
        const struct r_debug *next;
    };
    return space->r_version >= 2 ? ((const struct Extended *)space)->next : NULL;
}

#define FOR_EACH_OBJECT(object)                                                                     \
    for (const struct r_debug *space = &_r_debug; space; space = next_namespace(space))        \
        for (const struct link_map *object = space->r_map; object; object = object->l_next)

/* Addresses in a dynamic section: the loader adds the base for tags that it supports, and does not change others. */
static inline uintptr_t dynamic_address(const struct link_map *object, ElfW(Addr) value) {
    return value < object->l_addr ? object->l_addr + value : value;
}

static inline const ElfW(Dyn) *dynamic_entry(const struct link_map *object, ElfW(Sxword) tag) {
    for (const ElfW(Dyn) *d = object->l_ld; d && d->d_tag != DT_NULL; d++)
        if (d->d_tag == tag) return d;
    return NULL;
}

/* Return an object's program headers; NULL if their address in memory is not known. */
static inline const ElfW(Phdr) *object_headers(const struct link_map *object, size_t *count) {
    const ElfW(Dyn) *tag = dynamic_entry(object, DT_COLD_INDEX);
    unsigned char present;
    if (&_r_debug && object == _r_debug.r_map) {
        *count = getauxval(AT_PHNUM);
        return (const ElfW(Phdr) *)getauxval(AT_PHDR);
    }
    if (failed(kernel_call(SYS_mincore, (long)object->l_addr, 1, (long)&present, 0, 0, 0))) return NULL;
    const ElfW(Ehdr) *head = (const ElfW(Ehdr) *)object->l_addr;
    if (head->e_ident[0] != 0x7f || head->e_ident[1] != 'E' || head->e_phentsize != sizeof(ElfW(Phdr))) return NULL;
    *count = head->e_phnum;
    const ElfW(Dyn) *strings = dynamic_entry(object, DT_STRTAB);
    if (tag) return strings ? (const ElfW(Phdr) *)dynamic_address(object, strings->d_un.d_ptr) - *count : NULL;
    /* If they do not follow the ELF header, their address cannot be derived from the file offset. */
    return head->e_phoff == sizeof *head ? (const ElfW(Phdr) *)(head + 1) : NULL;
}

#endif
