/* Replacements for the functions that load libraries: cold ones are restored before, and the calls of the new objects are
 * diverted, too. */
#ifndef LAYER_LOADING_H
#define LAYER_LOADING_H

#include <dlfcn.h>

#include "fileaccess.h"
#include "objects.h"

/* glibc 2.34 has moved these functions; the older version of each symbol is there everywhere, but not in a process that
 * loads nothing. A compiler for an older glibc has only that version, in a library that is not linked here: the symbols
 * stay without one, for which loaders take the oldest. */
extern void *dlopen(const char *, int) __attribute__((weak));
extern void *dlsym(void *, const char *) __attribute__((weak));
extern void *dlmopen(Lmid_t, const char *, int) __attribute__((weak));
#if !__GLIBC_PREREQ(2, 34)
#elif defined(__x86_64__)
__asm__(".symver dlopen, dlopen@GLIBC_2.2.5");
__asm__(".symver dlsym, dlsym@GLIBC_2.2.5");
__asm__(".symver dlmopen, dlmopen@GLIBC_2.3.4");
#else
__asm__(".symver dlopen, dlopen@GLIBC_2.17");
__asm__(".symver dlsym, dlsym@GLIBC_2.17");
__asm__(".symver dlmopen, dlmopen@GLIBC_2.17");
#endif

static void after_load(void);

/* Restore a library that is loaded by its path. */
static UNUSUAL void restore_library(const char *path) {
    struct stat about;
    touch(path);
    if (kernel_call(SYS_newfstatat, AT_FDCWD, (long)path, (long)&about, 0, 0, 0) == -ENOENT)
        restore_at(AT_FDCWD, path);
    else
        compare_library(path);
}

/* Restore the libraries of this name, wherever they lie: the loader searches folders that only it knows. */
static UNUSUAL void restore_libraries_named(const char *name) {
    char slashed[256];
    append_text(append_text(slashed, slashed + sizeof slashed - 1, "/"), slashed + sizeof slashed - 1, name);
    for (int i = 0; i < store_count; i++) {
        if (!may_contain(stores + i, slashed)) continue;
        uint32_t files = body_of(stores + i)->files;
        for (uint32_t k = 0; k < files; k++) {
            const struct ColdFile *file = stores[i].files + k;
            const char *path = stores[i].texts + file->path;
            size_t length = text_length(path), tail = text_length(slashed);
            if (length > tail && same_text(path + length - tail, slashed)) restore_files(stores + i, file, 1);
        }
    }
}

static void before_load(const char *name) {
    if (!name || !*name) return;
    for (const char *at = name; *at; at++)
        if (*at == '/') {
            restore_library(name);
            return;
        }
    restore_libraries_named(name);
}

static void *our_dlopen(const char *name, int flags) {
    int marked = 0, slash = 0;
    for (const char *at = name; at && *at; at++) {
        marked |= *at == '$';
        slash |= *at == '/';
    }
    before_load(name);
    /* For a plain name, the loader takes the search path from its caller, so the call must appear to come from the
     * program: a jump, not a call. The objects that it loads are processed at the next call. */
    after_load();
    if (!slash || marked) return dlopen(name, flags);
    void *handle = dlopen(name, flags);
    after_load();
    return handle;
}

static void *our_dlmopen(Lmid_t space, const char *name, int flags) {
    before_load(name);
    void *handle = dlmopen(space, name, flags);
    after_load();
    return handle;
}

static void *our_function(const char *name);

/* Return whether a function is libc's: a program may ask for one of another library that has the same name. */
static int is_of_c_library(const void *function) {
    FOR_EACH_OBJECT(object) {
        if ((uintptr_t)function - object->l_addr >= (uintptr_t)object->l_ld - object->l_addr) continue;
        const char *name = object->l_name;
        for (const char *c = name; *c; c++)
            if (*c == '/') name = c + 1;
        return after_prefix(name, "libc.so") || after_prefix(name, "libdl.so") || after_prefix(name, "libpthread.so");
    }
    return 0;
}

static void *our_dlsym(void *handle, const char *name) {
    /* For these, too, the loader looks at its caller. */
    if (handle == RTLD_NEXT || handle == RTLD_DEFAULT) {
        void *ours = handle == RTLD_DEFAULT ? our_function(name) : NULL;
        if (ours) return ours;
        return dlsym(handle, name);
    }
    void *found = dlsym(handle, name), *ours = found ? our_function(name) : NULL;
    return ours && is_of_c_library(found) ? ours : found;
}

#define LOADING_FUNCTIONS                                                                                   \
    {"dlopen", (void *)our_dlopen}, {"dlmopen", (void *)our_dlmopen}, {"dlsym", (void *)our_dlsym},

#endif
