/* Diverts calls of the loaded objects to functions of this one.
 *
 * A library that is loaded late cannot interpose symbols, so the slots in the global offset tables of all loaded objects
 * (and in their tables of functions, as SQLite has one) are overwritten.
 *
 * The including file defines DIVERTED: pairs of a function's name and its replacement. */
#ifndef LAYER_DIVERT_H
#define LAYER_DIVERT_H

#include "objects.h"

#define RUNTIME_NAME "liblayercold.so"

static const struct {
    const char *name;
    void *ours;
} diverted[] = {DIVERTED};
enum { DIVERTED_FUNCTIONS = sizeof diverted / sizeof *diverted };

/* Functions by the first characters of their names: most symbols of an object begin with others. */
static uint8_t by_start[256], same_start[DIVERTED_FUNCTIONS + 1];

static inline uint8_t start_of(const char *name) {
    unsigned start = 0;
    for (int i = 0; i < 6 && name[i]; i++) start = start * 33 + (unsigned char)name[i];
    return (uint8_t)(start ^ start >> 8);
}

static void sort_functions(void) {
    if (same_start[DIVERTED_FUNCTIONS]) return;
    for (int k = 0; k < DIVERTED_FUNCTIONS; k++) {
        uint8_t *first = by_start + start_of(diverted[k].name);
        same_start[k] = *first;
        *first = (uint8_t)(k + 1);
    }
    same_start[DIVERTED_FUNCTIONS] = 1;
}

static int first_diverted; /* functions before this one are left as they are */

/* Return the replacement for a function by name, NULL if it is not diverted. */
static void *our_function(const char *name) {
    sort_functions();
    for (int k = by_start[start_of(name)]; k; k = same_start[k - 1])
        if (k > first_diverted && same_text(name, diverted[k - 1].name)) return diverted[k - 1].ours;
    return NULL;
}

#if defined(__x86_64__)
enum { SLOT = R_X86_64_JUMP_SLOT, DATA = R_X86_64_GLOB_DAT, TABLE = R_X86_64_64 };
#else
enum { SLOT = R_AARCH64_JUMP_SLOT, DATA = R_AARCH64_GLOB_DAT, TABLE = R_AARCH64_ABS64 };
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
        if (type != SLOT && type != DATA && (type != TABLE || table[i].r_addend)) continue;
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
    const ElfW(Dyn) *relative = dynamic_entry(object, DT_RELACOUNT); /* these come first, and have no symbol */
    int whole = 1;
    for (int i = 0; i < 2; i++) {
        if (!tables[i][0] || !tables[i][1]) continue;
        const ElfW(Rela) *table = (const ElfW(Rela) *)dynamic_address(object, tables[i][0]->d_un.d_ptr);
        size_t skipped = i == 0 && relative ? relative->d_un.d_val : 0, size = tables[i][1]->d_un.d_val;
        if (skipped * sizeof *table < size)
            whole &= divert_in_table(object, table + skipped, size - skipped * sizeof *table);
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

/* Divert the calls of all objects that are new since the last time. */
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
}

#endif
