/* Records which pages of shared libraries a process touches. Loaded with LD_AUDIT.
 *
 * When an object of the table is mapped (before relocation and constructors), the pages that could be left out of its
 * file are made inaccessible. The first access to a page raises SIGSEGV; the handler marks the page and makes it
 * accessible again. This is exact to the page and needs no privileges. Only pages that may be cold are traced, so that
 * system calls see the same memory while tracing as with the compacted library.
 *
 * The table is the file named by LAYER_MINIMIZER_PAGES, written by ../pagetrace.py. It is mapped shared and has a byte
 * for each page, so that child processes add to the same record and nothing is lost if a process is killed. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "faults.h"

#define DIVERTED SIGNAL_FUNCTIONS
#include "divert.h"

struct TableHeader {
    uint64_t magic;
    uint32_t libraries, ranges;
    uint32_t processes; /* in which this library has been loaded */
    uint32_t watched;   /* how many objects of the table they have loaded */
};
struct TableLibrary { /* in ascending order of device and inode */
    uint64_t device, inode;
    uint32_t first_range, ranges;
};
struct TableRange {
    uint64_t address, size;
    uint32_t page_size, executable;
    uint64_t marks; /* offset in the table of the first page's byte */
};
#define TABLE_MAGIC 0x3247504c4e494d4cULL /* "LMINLPG2" */

static struct TableHeader *table;
static const struct TableLibrary *libraries;
static const struct TableRange *ranges;

static struct {
    uintptr_t base; /* 0: free */
    const struct TableLibrary *library;
} mapped[4096];
static int mapped_count;
static int started; /* the program's first objects are relocated */

static int mend(uintptr_t address, enum Access access, ucontext_t *context) {
    (void)context;
    for (int i = __atomic_load_n(&mapped_count, __ATOMIC_ACQUIRE) - 1; i >= 0; i--) {
        const struct TableLibrary *library = __atomic_load_n(&mapped[i].library, __ATOMIC_ACQUIRE);
        if (!library) continue;
        for (uint32_t k = library->first_range; k < library->first_range + library->ranges; k++) {
            const struct TableRange *range = ranges + k;
            uintptr_t within = address - mapped[i].base - range->address;
            if (within >= range->size) continue;
            if (access == ACCESS_WRITE || (access == ACCESS_EXECUTE && !range->executable)) return 0;
            uintptr_t page = within / range->page_size;
            ((volatile uint8_t *)table)[range->marks + page] = 1;
            uintptr_t at = mapped[i].base + range->address + page * range->page_size;
            int rights = PROT_READ | (range->executable ? PROT_EXEC : 0);
            return !failed(kernel_call(SYS_mprotect, (long)at, range->page_size, rights, 0, 0, 0));
        }
    }
    return 0;
}

static const struct TableLibrary *find_file(const char *path) {
    struct stat about;
    if (failed(kernel_call(SYS_newfstatat, AT_FDCWD, (long)path, (long)&about, 0, 0, 0))) return NULL;
    for (uint32_t low = 0, high = table->libraries; low < high;) {
        uint32_t middle = (low + high) / 2;
        const struct TableLibrary *library = libraries + middle;
        if (library->device == about.st_dev && library->inode == about.st_ino) return library;
        if (library->device < about.st_dev || (library->device == about.st_dev && library->inode < about.st_ino))
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

#define FOR_THE_LOADER __attribute__((visibility("default")))

FOR_THE_LOADER unsigned la_version(unsigned version) {
    const char *path = getenv("LAYER_MINIMIZER_PAGES");
    int file = path ? open_file(path, O_RDWR, 0) : -1;
    if (file < 0) return 0; /* nothing to do: the loader continues without this library */
    long size = kernel_call(SYS_lseek, file, 0, SEEK_END, 0, 0, 0);
    long at = kernel_call(SYS_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close_file(file);
    if (failed(at) || ((struct TableHeader *)at)->magic != TABLE_MAGIC) return 0;
    table = (struct TableHeader *)at;
    libraries = (const struct TableLibrary *)(table + 1);
    ranges = (const struct TableRange *)(libraries + table->libraries);
    __atomic_fetch_add(&table->processes, 1, __ATOMIC_RELAXED);
    /* The functions used here are the same in all versions; the loader for aarch64 only accepts its own version. */
    return version;
}

/* Trace an object that was just mapped. Return its slot, -1 if it is not in the table. */
static int watch(const struct link_map *object) {
    const struct TableLibrary *library = find_file(object->l_name);
    int slot = 0;
    if (!library) return -1;
    while (slot < mapped_count && mapped[slot].library) slot++;
    if (slot == sizeof mapped / sizeof *mapped) return -1;
    mapped[slot].base = object->l_addr;
    __atomic_store_n(&mapped[slot].library, library, __ATOMIC_RELEASE);
    if (slot == mapped_count) __atomic_store_n(&mapped_count, slot + 1, __ATOMIC_RELEASE);
    __atomic_fetch_add(&table->watched, 1, __ATOMIC_RELAXED);
    take_faults();
    for (uint32_t k = library->first_range; k < library->first_range + library->ranges; k++)
        kernel_call(SYS_mprotect, (long)(object->l_addr + ranges[k].address), (long)ranges[k].size, PROT_NONE, 0, 0, 0);
    return slot;
}

FOR_THE_LOADER unsigned la_objopen(struct link_map *object, Lmid_t space, uintptr_t *cookie) {
    *cookie = 0;
    if (space != LM_ID_BASE || !object->l_name || !object->l_name[0]) return LA_FLG_BINDTO | LA_FLG_BINDFROM;
    *cookie = (uintptr_t)(watch(object) + 1);
    return LA_FLG_BINDTO | LA_FLG_BINDFROM;
}

/* Called for functions that are bound lazily. */
FOR_THE_LOADER uintptr_t la_symbind64(Elf64_Sym *symbol, unsigned index, uintptr_t *from, uintptr_t *to, unsigned *flags,
                                      const char *name) {
    (void)index, (void)from, (void)to, (void)flags;
    void *ours = our_function(name);
    return ours ? (uintptr_t)ours : symbol->st_value;
}

/* A load begins: all objects of earlier loads are relocated. */
FOR_THE_LOADER void la_activity(uintptr_t *cookie, unsigned what) {
    (void)cookie;
    if (what != LA_ACT_ADD || !started) return;
    divert_all();
    take_faults();
}

FOR_THE_LOADER unsigned la_objclose(uintptr_t *cookie) {
    if (*cookie) __atomic_store_n(&mapped[*cookie - 1].library, NULL, __ATOMIC_RELEASE);
    return 0;
}

/* The program's first objects are relocated: from now on its calls can be diverted. */
FOR_THE_LOADER void la_preinit(uintptr_t *cookie) {
    (void)cookie;
    started = 1;
    divert_all();
    take_faults();
}
