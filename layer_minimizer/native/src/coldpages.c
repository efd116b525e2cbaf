/* Restores the pages that were left out of a compacted library.
 *
 * A compacted library names this one as its first DT_NEEDED entry. A dynamic tag points to an index of the pages that
 * were left out. These are mapped without access rights, so that accessing one raises SIGSEGV. The handler finds the
 * library and the chunk, decodes the chunk from the store file into new memory, compares its checksum, and moves the
 * pages into place atomically, so that other threads never read incomplete pages.
 *
 * There are no tables of libraries here: the handler looks up the library among the loaded objects for every fault, so
 * that unloading one and loading another at its address is not a special case. State is stored in the library's own
 * writable memory (struct ColdState), which is unmapped with it and copied by fork.
 *
 * From the C library it only needs the functions that it diverts (sigaction and others) and dl*; see kernel.h. */
#define _GNU_SOURCE
#include "checksum.h"
#include "coldindex.h"
#include "faults.h"
#include "loading.h"
#include "exceptions.h"
#include "programs.h"

#define DIVERTED SIGNAL_FUNCTIONS FILE_FUNCTIONS PROGRAM_FUNCTIONS LOADING_FUNCTIONS
#include "divert.h"

/* ---- which library, which page ---- */

typedef struct {
    const struct link_map *object;
    const struct ColdIndex *index;
    const struct ColdRun *runs;
    const struct ColdChunk *chunks;
    struct ColdState *state;
} Library;

static int open_library(const struct link_map *object, Library *library) {
    const ElfW(Dyn) *tag = dynamic_entry(object, DT_COLD_INDEX);
    if (!tag) return 0;
    /* The loader ignores the tag, so its value is still relative to the base. */
    const struct ColdIndex *index = (const struct ColdIndex *)(object->l_addr + tag->d_un.d_ptr);
    while (tag->d_tag != DT_NULL) tag++;
    library->object = object;
    library->index = index;
    library->chunks = (const struct ColdChunk *)(index + 1);
    library->runs = (const struct ColdRun *)(library->chunks + index->chunks);
    library->state = (struct ColdState *)(tag + 1);
    return 1;
}

/* The index is part of the library's file: compare its checksum once per mapping, before it is used. */
static int index_is_whole(const Library *library) {
    const struct ColdIndex *index = library->index;
    if (__atomic_load_n(&library->state->checked, __ATOMIC_ACQUIRE)) return 1;
    size_t room = (uintptr_t)library->object->l_ld - (uintptr_t)index; /* all mapped */
    if (index->magic != COLD_INDEX_MAGIC || index->size < sizeof *index || index->size > room) return 0;
    const uint8_t *from = (const uint8_t *)index + COLD_INDEX_UNCHECKED;
    if (checksum(from, index->size - COLD_INDEX_UNCHECKED) != index->checksum) return 0;
    __atomic_store_n(&library->state->checked, 1, __ATOMIC_RELEASE);
    return 1;
}

/* Find the library that contains an address, and whose index has cold pages around it or is damaged. */
static int find_library(uintptr_t address, Library *library) {
    /* Another thread may be unloading an object: only the one that contains the address is certainly still mapped. */
    FOR_EACH_OBJECT(object) {
        if (address - object->l_addr >= (uintptr_t)object->l_ld - object->l_addr || !open_library(object, library))
            continue;
        uint64_t within = address - object->l_addr;
        if (!index_is_whole(library) || (within >= library->index->first && within < library->index->last)) return 1;
    }
    return 0;
}

static const struct ColdRun *find_run(const Library *library, uint64_t page) {
    size_t low = 0, high = library->index->runs;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct ColdRun *run = library->runs + middle;
        if (page < run->page)
            high = middle;
        else if (page >= (uint64_t)run->page + run->pages)
            low = middle + 1;
        else
            return run;
    }
    return NULL;
}

static const char *library_name(const Library *library) {
    if (!index_is_whole(library)) return library->object->l_name;
    return (const char *)library->index + library->index->name;
}

/* ---- errors ---- */

static void end_process(void) {
    put_action(SIGABRT, (struct KernelAction){.handler = SIG_DFL});
    uint64_t none = 0;
    kernel_call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&none, 0, 8, 0, 0);
    long process = kernel_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
    kernel_call(SYS_tgkill, process, kernel_call(SYS_gettid, 0, 0, 0, 0, 0, 0), SIGABRT, 0, 0, 0);
    for (;;) kernel_call(SYS_exit_group, 134, 0, 0, 0, 0, 0);
}

/* Write why a page cannot be had, and return the line. */
static void name_page(const Library *library, uintptr_t address, const char *why, struct Line *line) {
    begin_line(line);
    add_text(line, "layer_minimizer: cannot restore page ");
    add_hex(line, address - library->object->l_addr);
    add_text(line, " of ");
    add_text(line, library_name(library));
    add_text(line, ": ");
    add_text(line, why);
    write_line(line, 2);
}

static void give_up(const Library *library, uintptr_t address, const char *why) {
    struct Line line;
    name_page(library, address, why, &line);
    end_process();
}

/* ---- the store ---- */

static const char DROPPED[] = "it was dropped; build the layer with --cold keep, or trace this use";

/* A library of which nothing is shipped but what others link to: see ../hollow.py. */
static int is_hollow(const struct ColdIndex *index) { return index->store && !index->store_size; }

static const char *why_dropped(const struct ColdIndex *index) {
    return is_hollow(index) ? (const char *)index + index->store : DROPPED;
}

/* Find the file of an object that was loaded by a relative name: that of the mapping with its dynamic section. */
static int path_from_maps(uintptr_t address, char *path, size_t room) {
    int file = open_file("/proc/self/maps", O_RDONLY, 0);
    if (file < 0) return 0;
    char *line = path; /* lines are read into the caller's buffer; the path is moved to its start */
    size_t length = 0;
    int found = 0;
    char byte;
    while (!found && kernel_call(SYS_read, file, (long)&byte, 1, 0, 0, 0) == 1) {
        if (byte != '\n') {
            if (length < room - 1) line[length++] = byte;
            continue;
        }
        line[length] = 0;
        uintptr_t bounds[2] = {0, 0};
        size_t at = 0;
        for (int side = 0; side < 2; side++, at++)
            for (; at < length && line[at] != (side ? ' ' : '-'); at++)
                bounds[side] = bounds[side] * 16 + (uintptr_t)(line[at] <= '9' ? line[at] - '0' : line[at] - 'a' + 10);
        while (at < length && line[at] != '/') at++;
        if (address >= bounds[0] && address < bounds[1] && at < length) {
            size_t to = 0;
            while (line[at]) path[to++] = line[at++];
            path[to] = 0;
            found = 1;
        }
        length = 0;
    }
    close_file(file);
    return found;
}

/* Map the store of a library. Return NULL or the reason for failure. `room` is a buffer for the path. */
static const char *open_store(const Library *library, char *room, size_t size) {
    const struct ColdIndex *index = library->index;
    if (__atomic_load_n(&library->state->store, __ATOMIC_ACQUIRE)) return NULL;
    if (!index->store_size) return why_dropped(index);
    if (library->object->l_name[0] == '/')
        append_text(room, room + size - 1, library->object->l_name);
    else if (!path_from_maps((uintptr_t)library->object->l_ld, room, size))
        return "its own file cannot be found";
    char *slash = room;
    for (char *at = room; *at; at++)
        if (*at == '/') slash = at;
    append_text(slash + 1, room + size - 1, (const char *)index + index->store);
    int file = open_file(room, O_RDONLY, 0);
    if (file < 0) return "its cold store is missing; if the library was copied, build the layer with --native off";
    long end = kernel_call(SYS_lseek, file, 0, SEEK_END, 0, 0, 0);
    if (failed(end) || (uint64_t)end != index->store_size) {
        close_file(file);
        return "its cold store has been cut or replaced";
    }
    long at = kernel_call(SYS_mmap, 0, end, PROT_READ, MAP_PRIVATE, file, 0);
    close_file(file);
    if (failed(at)) return "its cold store cannot be mapped";
    const uint8_t *nothing = NULL;
    if (!__atomic_compare_exchange_n(&library->state->store, &nothing, (const uint8_t *)at, 0, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE))
        unmap_memory((void *)at, (size_t)end); /* another thread has mapped it */
    return NULL;
}

/* ---- restoring pages ---- */

static void write_log(const Library *library, const struct ColdRun *run) {
    struct Line line;
    begin_line(&line);
    add_text(&line, "restored pages ");
    add_hex(&line, run->page);
    add_text(&line, "+");
    add_hex(&line, run->pages);
    add_text(&line, " of ");
    add_text(&line, library_name(library));
    log_line(&line);
}

/* Decode one chunk and move its pages into place. Return NULL or the reason for failure. */
static const char *restore(const Library *library, uint32_t number) {
    const struct ColdIndex *index = library->index;
    const struct ColdChunk *chunk = library->chunks + number;
    if (!chunk->packed) return why_dropped(index);
    size_t size = chunk->pages * (size_t)index->page_size;
    size_t work = (sizeof(uint16_t) * LZMA_PROBS + 8192 + index->page_size - 1) / index->page_size * index->page_size;
    uint8_t *fresh = map_memory(size + work);
    if (!fresh) return "there is no memory left";
    const char *problem = open_store(library, (char *)fresh + size, 8192);
    if (!problem) {
        const uint8_t *packed = __atomic_load_n(&library->state->store, __ATOMIC_ACQUIRE) + chunk->offset;
        uint16_t *probabilities = (uint16_t *)(fresh + size + 8192);
        int method = chunk->packed == size ? CHUNK_STORED : chunk->code ? CHUNK_CODE : CHUNK_LZMA;
        if (decode_into(packed, chunk->packed, fresh, size, method, probabilities))
            problem = "its cold store is damaged";
        if (!problem && checksum(fresh, size) != chunk->checksum) problem = "its cold store is damaged";
    }
    if (problem) {
        unmap_memory(fresh, size + work);
        return problem;
    }
    for (uint32_t i = chunk->first_run; i < chunk->first_run + chunk->runs; i++) {
        const struct ColdRun *run = library->runs + i;
        uint8_t *from = fresh + run->at * (size_t)index->page_size;
        uintptr_t to = library->object->l_addr + run->page * (uintptr_t)index->page_size;
        size_t bytes = run->pages * (size_t)index->page_size;
        int rights = PROT_READ | (run->executable ? PROT_EXEC : 0);
        if (run->executable) __builtin___clear_cache((char *)from, (char *)from + bytes);
        if (failed(kernel_call(SYS_mprotect, (long)from, (long)bytes, rights, 0, 0, 0)))
            return "the system does not allow memory to be made executable";
        if (failed(kernel_call(SYS_mremap, (long)from, (long)bytes, (long)bytes, MREMAP_MAYMOVE | MREMAP_FIXED, (long)to,
                               0)))
            return "the system allows no further mapping";
    }
    unmap_memory(fresh + size, work);
    __atomic_store_n(&library->state->restored[number], 1, __ATOMIC_RELEASE);
    return NULL;
}

/* End the process, or raise an exception in the code that has called a function. */
static int throw_or_end(const Library *library, uintptr_t address, enum Access access, ucontext_t *context) {
    struct Line *line = map_memory(sizeof *line); /* the exception refers to it */
    if (!line) end_process();
    name_page(library, address, why_dropped(library->index), line);
    line->at[-1] = 0;
    if (access == ACCESS_EXECUTE && throw_in_caller(address, context, line->text)) return 1;
    end_process();
}

static int mend(uintptr_t address, enum Access access, ucontext_t *context) {
    Library library;
    if (!find_library(address, &library)) return 0;
    if (!index_is_whole(&library)) {
        if (access == ACCESS_WRITE) return 0;
        give_up(&library, address, "its index is damaged");
    }
    const struct ColdRun *run = find_run(&library, (address - library.object->l_addr) / library.index->page_size);
    /* Cold pages are readable, some of them executable, none writable: any other access is an error of the program and
     * would fault with the original library, too. */
    if (!run) return 0;
    if (is_hollow(library.index)) return throw_or_end(&library, address, access, context);
    if (access == ACCESS_WRITE || (access == ACCESS_EXECUTE && !run->executable)) return 0;
    if (__atomic_load_n(&library.state->restored[run->chunk], __ATOMIC_ACQUIRE)) return 1; /* by another thread */
    const char *problem = restore(&library, run->chunk);
    if (problem) give_up(&library, address, problem);
    write_log(&library, run);
    return 1;
}

/* ---- start ---- */

/* Return whether another copy of this library is active: two layers may contain one each. It serves all libraries. */
static int another_runtime_serves(void) {
    struct KernelAction action;
    get_action(SIGSEGV, &action);
    uintptr_t handler = (uintptr_t)action.handler;
    if (handler == (uintptr_t)on_fault) return 0;
    FOR_EACH_OBJECT(object)
        if (handler - object->l_addr < (uintptr_t)object->l_ld - object->l_addr && is_runtime(object)) return 1;
    return 0;
}

/* Divert the calls of new objects, and map the stores early: later there may be no free file descriptor. */
static int look_at_objects(struct dl_phdr_info *first, size_t size, void *nothing) {
    Library library;
    (void)first, (void)size, (void)nothing;
    divert_all();
    if (!first_diverted) take_faults();
    FOR_EACH_OBJECT(object) {
        char room[4096];
        if (open_library(object, &library) && index_is_whole(&library) && library.index->store_size &&
            !library.state->store)
            open_store(&library, room, sizeof room); /* an error is reported when a page is needed */
    }
    return 1;
}

/* With the lock of dl_iterate_phdr: without it, another thread could unload an object while it is read. */
static void after_load(void) { dl_iterate_phdr(look_at_objects, NULL); }

/* The signal may have been blocked before calls were diverted. */
static void unblock_faults(void) {
    uint64_t faults = 1ULL << (SIGSEGV - 1);
    kernel_call(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&faults, 0, 8, 0, 0);
}

/* The program's handler may be in a library that has been unloaded: then there is none. */
static void forget_unloaded_action(void) {
    unsigned char present;
    uintptr_t page = (uintptr_t)program_action()->sa_handler & ~(getauxval(AT_PAGESZ) - 1);
    if (page && failed(kernel_call(SYS_mincore, (long)page, 1, (long)&present, 0, 0, 0)))
        set_program_action(&(struct sigaction){.sa_handler = SIG_DFL});
}

static void nothing(void) {}

/* IFUNC resolvers of compacted libraries run while the loader relocates, before all constructors. The libraries that
 * depend on this one are relocated after it. This function is a resolver itself: the loader calls it while relocating
 * this library.
 *
 * The handler is only installed here if needed: if loading failed afterwards, it would remain without its code. */
static void (*serve_early(void))(void) {
    /* clang calls a function that a resolver always returns directly, and leaves the resolver out. */
    void (*volatile resolved)(void) = nothing;
    Library library;
    int needed = 0;
    make_crc_tables();
    FOR_EACH_OBJECT(object)
        needed |= open_library(object, &library) && (!index_is_whole(&library) || library.index->early);
    if (needed && !another_runtime_serves()) {
        unblock_faults();
        take_faults();
    }
    return resolved;
}

/* Not static: clang exports such a function. */
void early(void) __attribute__((visibility("hidden"), ifunc("serve_early")));

/* Return the value of an environment variable, NULL if it is not set. */
static const char *variable(char **environment, const char *name) {
    for (char **at = environment; at && *at; at++) {
        const char *value = after_prefix(*at, name);
        if (value) return value;
    }
    return NULL;
}

/* The site folder of this library: it lies in SITE/layer_minimizer.libs. Return 0 if its path is not known. */
static int find_site(char *site) {
    const struct link_map *own = NULL;
    FOR_EACH_OBJECT(object)
        if (object->l_ld == _DYNAMIC) own = object;
    if (!own) return 0;
    if (own->l_name[0] == '/')
        append_text(site, site + PATH_ROOM - 1, own->l_name);
    else if (!path_from_maps((uintptr_t)_DYNAMIC, site, PATH_ROOM))
        return 0;
    for (const char *c = site;; c++) {
        if (!*c) {
            append_text(own_path, own_path + PATH_ROOM - 1, site);
            break;
        }
        if (*c == ':' || *c == ' ') break; /* they separate the entries of LD_PRELOAD */
    }
    for (int part = 0; part < 2; part++) {
        char *slash = site;
        for (char *c = site; *c; c++)
            if (*c == '/') slash = c;
        *slash = 0;
    }
    return 1;
}

__attribute__((constructor)) static void begin(int count, char **arguments, char **environment) {
    char site[PATH_ROOM];
    const char *target = variable(environment, "LAYER_MINIMIZER_LOG="), *check = variable(environment, "LAYER_MINIMIZER_CHECK=");
    (void)count, (void)arguments;
    if (target) append_text(log_target, log_target + sizeof log_target - 1, target);
    checks = check && same_text(check, "off") ? 0 : check && same_text(check, "all") ? 2 : 1;
    early();
    if (another_runtime_serves()) return; /* it serves this layer as soon as Python starts it, or a link of it is met */
    if (find_site(site)) {
        hide_preload();
        add_root(site);
    }
    if (variable(environment, "LAYER_MINIMIZER_PAGES=")) {
        first_diverted = SIGNAL_FUNCTION_COUNT; /* the page tracer has the faults; no library here is compacted */
    } else {
        unblock_faults();
        take_faults();
        forget_unloaded_action();
    }
    after_load();
}

/* ---- ahead of need ---- */

struct Ahead {
    const char *library;
    uint64_t page, end;
    int restored;
};

/* Restore the pages of one library, under the lock of dl_iterate_phdr. A problem is reported when a page is needed. */
static int restore_ahead(struct dl_phdr_info *first, size_t size, void *wanted) {
    struct Ahead *ahead = wanted;
    Library library;
    (void)first, (void)size;
    FOR_EACH_OBJECT(object) {
        if (!open_library(object, &library) || !index_is_whole(&library) || !library.index->store_size) continue;
        if (!same_text(library_name(&library), ahead->library)) continue;
        for (uint32_t i = 0; i < library.index->runs; i++) {
            const struct ColdRun *run = library.runs + i;
            if (run->page >= ahead->end || (uint64_t)run->page + run->pages <= ahead->page) continue;
            if (__atomic_load_n(&library.state->restored[run->chunk], __ATOMIC_ACQUIRE)) continue;
            if (!library.chunks[run->chunk].packed || restore(&library, run->chunk)) continue;
            ahead->restored++;
        }
    }
    return 1;
}

/* Restore `pages` pages of a library, as the log names it, from `page` on. Return how many chunks were restored. */
static int restore_pages(const char *library, uint64_t page, uint64_t pages) {
    struct Ahead ahead = {.library = library, .page = page, .end = page + pages < page ? UINT64_MAX : page + pages};
    dl_iterate_phdr(restore_ahead, &ahead);
    return ahead.restored;
}

#include "pythonmodule.h"
