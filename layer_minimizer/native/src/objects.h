/* The objects that are loaded in this process, as the dynamic loader's debugger interface lists them.
 *
 * dl_iterate_phdr takes a lock and is not for signal handlers; this list can be read anywhere: the loader appends to
 * it, and keeps it whole for debuggers that stop a process at any instruction. */
#ifndef LAYER_OBJECTS_H
#define LAYER_OBJECTS_H

#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

#include "coldindex.h"
#include "kernel.h"

static struct r_debug *loaded_objects;

/* Find the list through the program's own dynamic section. To be called before anything else, outside of handlers. */
static void find_loaded_objects(void) {
    const ElfW(Phdr) *headers = (const ElfW(Phdr) *)getauxval(AT_PHDR);
    size_t count = getauxval(AT_PHNUM);
    ElfW(Addr) base = 0;
    for (size_t i = 0; i < count; i++)
        if (headers[i].p_type == PT_PHDR) base = (ElfW(Addr))headers - headers[i].p_vaddr;
    for (size_t i = 0; i < count; i++) {
        if (headers[i].p_type != PT_DYNAMIC) continue;
        for (const ElfW(Dyn) *d = (const ElfW(Dyn) *)(base + headers[i].p_vaddr); d->d_tag != DT_NULL; d++)
            if (d->d_tag == DT_DEBUG) loaded_objects = (struct r_debug *)d->d_un.d_ptr;
    }
}

static inline const struct link_map *first_object(void) { return loaded_objects ? loaded_objects->r_map : NULL; }

/* Addresses in a dynamic section: the loader adds the base to those that it knows, and leaves others alone. */
static inline uintptr_t dynamic_address(const struct link_map *object, ElfW(Addr) value) {
    return value < object->l_addr ? object->l_addr + value : value;
}

static inline const ElfW(Dyn) *dynamic_entry(const struct link_map *object, ElfW(Sxword) tag) {
    for (const ElfW(Dyn) *d = object->l_ld; d && d->d_tag != DT_NULL; d++)
        if (d->d_tag == tag) return d;
    return NULL;
}

/* Give an object's program headers, NULL when it is not known where they are in memory. */
static inline const ElfW(Phdr) *object_headers(const struct link_map *object, size_t *count) {
    const ElfW(Dyn) *tag = dynamic_entry(object, DT_COLD_INDEX);
    unsigned char present;
    if (object == first_object()) {
        *count = getauxval(AT_PHNUM);
        return (const ElfW(Phdr) *)getauxval(AT_PHDR);
    }
    if (failed(kernel_call(SYS_mincore, (long)object->l_addr, 1, (long)&present, 0, 0, 0))) return NULL;
    const ElfW(Ehdr) *head = (const ElfW(Ehdr) *)object->l_addr;
    if (head->e_ident[0] != 0x7f || head->e_ident[1] != 'E' || head->e_phentsize != sizeof(ElfW(Phdr))) return NULL;
    *count = head->e_phnum;
    const ElfW(Dyn) *strings = dynamic_entry(object, DT_STRTAB);
    if (tag) return strings ? (const ElfW(Phdr) *)dynamic_address(object, strings->d_un.d_ptr) - *count : NULL;
    /* Elsewhere than behind the header, a file offset does not tell the address. */
    return head->e_phoff == sizeof *head ? (const ElfW(Phdr) *)(head + 1) : NULL;
}

#endif
