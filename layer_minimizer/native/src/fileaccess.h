/* Replacements for libc's functions that take paths: what the environment has is there, cold or not.
 *
 * Each calls the original (or the kernel, where libc adds nothing and old versions lack the function). Only when that
 * finds nothing, the path is followed to a cold file. Opening restores the file; questions about it are answered from
 * the index. Writing to it fails as everything in a layer does, which is read-only. */
#ifndef LAYER_FILEACCESS_H
#define LAYER_FILEACCESS_H

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "layerfiles.h"

#define UNUSUAL __attribute__((noinline, cold)) /* needs much of the stack */

/* The kernel does not read pages that are restored at a fault: it would report a bad address. */
static inline void touch(const char *text) {
    volatile char last;
    if (text) do last = *text; while (last && text++);
}

static long result_of(long result) {
    if (!failed(result)) return result;
    errno = (int)-result;
    return -1;
}

/* Nothing was found: restore what the path leads to. Return 0 if there is something now, else the error to report. */
static UNUSUAL long restore_at(int at, const char *path) {
    struct Place place;
    long problem = find_place(at, path, &place) ? restore_place(&place) : -ENOENT;
    if (problem == -ENOENT) explain_missing(at, place.link);
    return problem;
}

static UNUSUAL int is_cold(int at, const char *path) {
    struct Place place;
    return find_place(at, path, &place) && place.file;
}

/* Return whether a path is that of a source whose bytecode lies beside it. */
static UNUSUAL int has_bytecode(int at, const char *path) {
    char bytecode[PATH_ROOM];
    size_t length = text_length(path);
    if (length < 4 || length + 2 > PATH_ROOM || !same_text(path + length - 3, ".py")) return 0;
    append_text(append_text(bytecode, bytecode + PATH_ROOM - 1, path), bytecode + PATH_ROOM - 1, "c");
    return !failed(kernel_call(SYS_faccessat, at, (long)bytecode, 0, 0, 0, 0));
}

/* Describe a cold file as it will be. Return 0 or the error to report. */
static UNUSUAL long describe_at(int at, const char *path, struct stat *about) {
    struct Place place;
    char link[PATH_ROOM], *end = link + PATH_ROOM - 1;
    if (!find_place(at, path, &place)) {
        if (!has_bytecode(at, path)) explain_missing(at, place.link); /* the import system asks for the source, too */
        return -ENOENT;
    }
    if (!place.file) {
        long problem = restore_place(&place);
        if (problem) return problem;
        return kernel_call(SYS_newfstatat, AT_FDCWD, (long)place.target, (long)about, 0, 0, 0);
    }
    append_text(append_text(append_text(link, end, place.store->root), end, "/"), end, path_in_site(&place));
    long known = kernel_call(SYS_newfstatat, AT_FDCWD, (long)link, (long)about, AT_SYMLINK_NOFOLLOW, 0, 0);
    if (failed(known)) return known;
    about->st_mode = S_IFREG | place.file->mode;
    about->st_nlink = 1;
    about->st_size = (off_t)place.file->size;
    about->st_blocks = (about->st_size + 511) / 512;
    return 0;
}

/* Return whether a link leads to where cold files are restored. */
static UNUSUAL int is_cold_link(int at, const char *path) {
    char target[PATH_ROOM];
    return read_link(at, path, target) > 0 && is_put_back(target);
}

/* Nothing in a layer can be written, as everything in it is read-only: not what is cold, and not what was left out. */
static UNUSUAL int may_change(int at, const char *path) {
    struct stat about;
    if (is_cold(at, path)) return 0;
    return kernel_call(SYS_newfstatat, at, (long)path, (long)&about, 0, 0, 0) != -ENOENT || !explain_missing(at, path);
}

/* Return whether a path is the link in the layer itself, and no other that leads to the same file, as /proc/self/fd has. */
static UNUSUAL int is_own_link(int at, const char *path) {
    struct Place place;
    struct stat asked, own;
    char *end = place.link + PATH_ROOM - 1;
    if (!is_cold_link(at, path) || !find_place(at, path, &place)) return 0;
    append_text(append_text(append_text(place.link, end, place.store->root), end, "/"), end, path_in_site(&place));
    return !failed(kernel_call(SYS_newfstatat, at, (long)path, (long)&asked, AT_SYMLINK_NOFOLLOW, 0, 0)) &&
           !failed(kernel_call(SYS_newfstatat, AT_FDCWD, (long)place.link, (long)&own, AT_SYMLINK_NOFOLLOW, 0, 0)) &&
           asked.st_ino == own.st_ino && asked.st_dev == own.st_dev;
}

/* Remove a restored source again once it is open, if its bytecode is in the layer: a process without this runtime takes
 * that as long as the source's link leads nowhere, and it starts the runtime. */
static UNUSUAL void forget_source(int at, const char *path) {
    struct Place place;
    if (has_bytecode(at, path) && find_place(at, path, &place))
        kernel_call(SYS_unlinkat, AT_FDCWD, (long)place.target, 0, 0, 0, 0);
}

enum { MOST_TURNS = 99 }; /* another process may have opened and removed it in between */

/* ---- opening ---- */

static int changes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)); }

static int open_at(int at, const char *path, int flags, int mode) {
    touch(path);
    if (path && changes(flags) && !may_change(at, path)) return (int)result_of(-EROFS);
    long file = kernel_call(SYS_openat, at, (long)path, flags, mode, 0, 0);
    if (file == -ELOOP && (flags & O_NOFOLLOW) && is_cold_link(at, path)) { /* no link for the program */
        flags &= ~O_NOFOLLOW;
        file = kernel_call(SYS_openat, at, (long)path, flags, mode, 0, 0);
    }
    for (int turn = 0; file == -ENOENT && turn < MOST_TURNS; turn++) {
        long problem = restore_at(at, path);
        file = problem ? problem : kernel_call(SYS_openat, at, (long)path, flags, mode, 0, 0);
        if (problem) break;
        if (!failed(file)) forget_source(at, path);
    }
    if (!failed(file) && !changes(flags) && at == AT_FDCWD) compare_opened(path, (int)file);
    return (int)result_of(file);
}

#define TAKE_MODE                                \
    int mode = 0;                                \
    if (flags & (O_CREAT | O_TMPFILE)) {         \
        va_list rest;                            \
        va_start(rest, flags);                   \
        mode = va_arg(rest, int);                \
        va_end(rest);                            \
    }

static int our_open(const char *path, int flags, ...) {
    TAKE_MODE
    return open_at(AT_FDCWD, path, flags, mode);
}

static int our_openat(int at, const char *path, int flags, ...) {
    TAKE_MODE
    return open_at(at, path, flags, mode);
}

static int our_open_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
static int our_openat_2(int at, const char *path, int flags) { return open_at(at, path, flags, 0); }

static int may_open(const char *path, const char *mode) {
    touch(path);
    for (const char *c = mode; path && c && *c && *c != ','; c++)
        if (*c == 'w' || *c == 'a' || *c == '+') return may_change(AT_FDCWD, path);
    return 1;
}

static FILE *opened_stream(const char *path, FILE *stream) {
    if (stream) compare_opened(path, fileno(stream));
    return stream;
}

static int restored_for_stream(const char *path) {
    if (errno != ENOENT || !path) return 0;
    long problem = restore_at(AT_FDCWD, path);
    errno = (int)-problem;
    return !problem;
}

static FILE *our_fopen(const char *path, const char *mode) {
    if (!may_open(path, mode)) return result_of(-EROFS), NULL;
    FILE *stream = fopen(path, mode);
    for (int turn = 0; !stream && turn < MOST_TURNS && restored_for_stream(path); turn++) {
        stream = fopen(path, mode);
        if (stream) forget_source(AT_FDCWD, path);
    }
    return opened_stream(path, stream);
}

static FILE *our_freopen(const char *path, const char *mode, FILE *old) {
    if (path && !may_open(path, mode)) return result_of(-EROFS), NULL;
    /* It closes the old stream even when it fails. */
    struct stat about;
    if (path && kernel_call(SYS_newfstatat, AT_FDCWD, (long)path, (long)&about, 0, 0, 0) == -ENOENT)
        restore_at(AT_FDCWD, path);
    FILE *stream = freopen(path, mode, old);
    return path ? opened_stream(path, stream) : stream;
}

static UNUSUAL char *in_layer(char *path, char *room);

static DIR *our_opendir(const char *path) {
    char room[PATH_ROOM];
    touch(path);
    if (path && is_put_back(path)) path = in_layer((char *)path, room); /* only there are all of them */
    DIR *folder = opendir(path);
    if (folder) compare_folder(dirfd(folder));
    else if (errno == ENOENT && path) explain_missing(AT_FDCWD, path), errno = ENOENT;
    return folder;
}

static DIR *our_fdopendir(int file) {
    DIR *folder = fdopendir(file);
    if (folder) compare_folder(file);
    return folder;
}

/* ---- asking ---- */

static int stat_at(int at, const char *path, struct stat *about, int flags) {
    touch(path);
    long known = kernel_call(SYS_newfstatat, at, (long)path, (long)about, flags, 0, 0);
    if (known == -ENOENT || (!known && S_ISLNK(about->st_mode) && is_own_link(at, path)))
        known = path ? describe_at(at, path, about) : known;
    return (int)result_of(known);
}

static int our_stat(const char *path, struct stat *about) { return stat_at(AT_FDCWD, path, about, 0); }
static int our_lstat(const char *path, struct stat *about) { return stat_at(AT_FDCWD, path, about, AT_SYMLINK_NOFOLLOW); }
static int our_fstatat(int at, const char *path, struct stat *about, int flags) { return stat_at(at, path, about, flags); }
/* Before glibc 2.33, with the version of the structure first. */
static int our_xstat(int version, const char *path, struct stat *about) { return (void)version, our_stat(path, about); }
static int our_lxstat(int version, const char *path, struct stat *about) { return (void)version, our_lstat(path, about); }
static int our_fxstatat(int version, int at, const char *path, struct stat *about, int flags) {
    return (void)version, stat_at(at, path, about, flags);
}

#ifdef SYS_statx
static int our_statx(int at, const char *path, int flags, unsigned mask, struct statx *about) {
    struct stat cold;
    touch(path);
    long known = kernel_call(SYS_statx, at, (long)path, flags, mask, (long)about, 0);
    if (path && (known == -ENOENT || (!known && S_ISLNK(about->stx_mode) && is_own_link(at, path)))) {
        known = describe_at(at, path, &cold);
        if (!known) {
            /* The times and numbers of the link, which stands for the file. */
            long of_link = kernel_call(SYS_statx, at, (long)path, flags | AT_SYMLINK_NOFOLLOW, mask, (long)about, 0);
            if (failed(of_link)) return (int)result_of(of_link);
            about->stx_mode = (uint16_t)cold.st_mode;
            about->stx_nlink = 1;
            about->stx_size = (uint64_t)cold.st_size;
            about->stx_blocks = (uint64_t)cold.st_blocks;
        }
    }
    return (int)result_of(known);
}
#endif

static int access_at(int at, const char *path, int mode) {
    touch(path);
    long allowed = kernel_call(SYS_faccessat, at, (long)path, mode, 0, 0, 0);
    if (!allowed && (mode & W_OK) && is_cold(at, path)) allowed = -EROFS; /* restored */
    if (allowed == -ENOENT && path) {
        struct stat about;
        allowed = describe_at(at, path, &about);
        if (!allowed && (mode & W_OK)) allowed = -EROFS;
        if (!allowed && (mode & X_OK) && !(about.st_mode & 0111)) allowed = -EACCES;
    }
    return (int)result_of(allowed);
}

static int our_access(const char *path, int mode) { return access_at(AT_FDCWD, path, mode); }

static int our_faccessat(int at, const char *path, int mode, int flags) {
    touch(path);
    int allowed = faccessat(at, path, mode, flags);
    return (!allowed && (mode & W_OK)) || (allowed && errno == ENOENT) ? access_at(at, path, mode) : allowed;
}

/* A cold file is no link; other links to it lead to its place in the layer. */
static UNUSUAL long cold_link_at(int at, const char *path, char *text, size_t size) {
    struct Place place;
    char target[PATH_ROOM], *end = target + PATH_ROOM - 1;
    long length = read_link(at, path, target);
    if (length <= 0 || is_own_link(at, path)) return -EINVAL;
    if (is_put_back(target) && find_place(at, path, &place)) {
        append_text(append_text(append_text(target, end, place.store->root), end, "/"), end, path_in_site(&place));
        length = (long)text_length(target);
    }
    if ((size_t)length > size) length = (long)size;
    memcpy(text, target, (size_t)length);
    return length;
}

static ssize_t read_link_at(int at, const char *path, char *text, size_t size) {
    touch(path);
    long length = kernel_call(SYS_readlinkat, at, (long)path, (long)text, (long)size, 0, 0);
    if (length >= PUT_BACK_LENGTH && !memcmp(text, PUT_BACK, PUT_BACK_LENGTH)) length = cold_link_at(at, path, text, size);
    return (ssize_t)result_of(length);
}

static ssize_t our_readlink(const char *path, char *text, size_t size) { return read_link_at(AT_FDCWD, path, text, size); }
static ssize_t our_readlinkat(int at, const char *path, char *text, size_t size) { return read_link_at(at, path, text, size); }
static ssize_t our_readlink_chk(const char *path, char *text, size_t size, size_t room) {
    return (void)room, read_link_at(AT_FDCWD, path, text, size);
}
static ssize_t our_readlinkat_chk(int at, const char *path, char *text, size_t size, size_t room) {
    return (void)room, read_link_at(at, path, text, size);
}

/* The real path of a restored file is its place in the layer. */
static UNUSUAL char *in_layer(char *path, char *room) {
    struct Place place;
    if (!path || !is_put_back(path) || !find_place(AT_FDCWD, path, &place)) return path;
    char *end = place.link + PATH_ROOM - 1, *at = append_text(place.link, end, place.store->root);
    append_text(append_text(at, end, "/"), end, path_in_site(&place));
    if (room) return strcpy(room, place.link);
    free(path);
    return strdup(place.link);
}

static char *our_realpath(const char *path, char *room) {
    char *found = realpath(path, room);
    if (!found && errno == ENOENT && path) {
        if (restore_at(AT_FDCWD, path)) return errno = ENOENT, NULL;
        found = realpath(path, room);
    }
    return in_layer(found, room);
}

static char *our_realpath_chk(const char *path, char *room, size_t size) { return (void)size, our_realpath(path, room); }
static char *our_canonicalize(const char *path) { return our_realpath(path, NULL); }

/* ---- listing ---- */

static int is_hidden(int folder, const char *name) {
    char source[NAME_MAX + 1];
    size_t length = strlen(name);
    if (length < 5 || length > NAME_MAX || strcmp(name + length - 4, ".pyc")) return 0;
    memcpy(source, name, length - 1);
    source[length - 1] = 0;
    return is_cold_link(folder, source);
}

/* Bytecode beside a cold source is the layer's own; the environment has the source alone. A cold file is no link. */
static struct dirent *our_readdir(DIR *folder) {
    struct dirent *entry;
    do entry = readdir(folder);
    while (entry && entry->d_type != DT_DIR && is_hidden(dirfd(folder), entry->d_name));
    if (entry && entry->d_type == DT_LNK && is_cold_link(dirfd(folder), entry->d_name)) entry->d_type = DT_REG;
    return entry;
}

/* ---- functions that libc carries out by path; on a cold file they only have to find it ---- */

#define AGAIN(type, call)                                                         \
    type result = call;                                                           \
    return result < 0 && errno == ENOENT && !restore_at(AT_FDCWD, path) ? call : result

extern ssize_t listxattr(const char *, char *, size_t), getxattr(const char *, const char *, void *, size_t);
struct statvfs;
extern int statvfs(const char *, struct statvfs *);
extern long pathconf(const char *, int);

static ssize_t our_listxattr(const char *path, char *list, size_t size) { AGAIN(ssize_t, listxattr(path, list, size)); }
static ssize_t our_getxattr(const char *path, const char *name, void *value, size_t size) {
    AGAIN(ssize_t, getxattr(path, name, value, size));
}
static int our_chdir(const char *path) {
    touch(path);
    long changed = kernel_call(SYS_chdir, (long)path, 0, 0, 0, 0, 0);
    if (changed == -ENOENT && path) explain_missing(AT_FDCWD, path);
    return (int)result_of(changed);
}

static int our_statvfs(const char *path, struct statvfs *about) { AGAIN(int, statvfs(path, about)); }
static long our_pathconf(const char *path, int name) { AGAIN(long, pathconf(path, name)); }

#include "filechanges.h"

/* Return the usual text of an error, and after it that the file that was asked for was left out. */
static char *with_last_left_out(int error, char *usual) {
    static char text[1200];
    if ((error != ENOENT && error != EROFS) || !is_about_last_left_out()) return usual;
    last_left_out.thread = 0;
    char *end = text + sizeof text - 2, *at = append_text(text, end, usual);
    append_text(append_text(append_text(at, end, " ("), end, last_left_out.text), end, ")");
    return text;
}

static char *our_strerror(int error) { return with_last_left_out(error, strerror(error)); }

/* CPython asks this one from 3.14 on. */
static char *our_strerror_r(int error, char *buffer, size_t size) {
    return with_last_left_out(error, strerror_r(error, buffer, size));
}

#ifdef SYS_statx
#define STATX_FUNCTION {"statx", (void *)our_statx},
#else
#define STATX_FUNCTION
#endif

#define FILE_FUNCTIONS                                                                                             \
    {"open", (void *)our_open}, {"open64", (void *)our_open}, {"openat", (void *)our_openat},                      \
        {"openat64", (void *)our_openat}, {"__open_2", (void *)our_open_2}, {"__open64_2", (void *)our_open_2},    \
        {"__openat_2", (void *)our_openat_2}, {"__openat64_2", (void *)our_openat_2}, {"fopen", (void *)our_fopen}, \
        {"fopen64", (void *)our_fopen}, {"freopen", (void *)our_freopen}, {"freopen64", (void *)our_freopen},      \
        {"opendir", (void *)our_opendir}, {"fdopendir", (void *)our_fdopendir}, {"stat", (void *)our_stat},        \
        {"stat64", (void *)our_stat}, {"lstat", (void *)our_lstat}, {"lstat64", (void *)our_lstat},                \
        {"fstatat", (void *)our_fstatat}, {"fstatat64", (void *)our_fstatat}, {"__xstat", (void *)our_xstat},      \
        {"__xstat64", (void *)our_xstat}, {"__lxstat", (void *)our_lxstat}, {"__lxstat64", (void *)our_lxstat},    \
        {"__fxstatat", (void *)our_fxstatat}, {"__fxstatat64", (void *)our_fxstatat},                              \
        {"access", (void *)our_access}, {"eaccess", (void *)our_access}, {"euidaccess", (void *)our_access},       \
        {"faccessat", (void *)our_faccessat}, {"readlink", (void *)our_readlink},                                  \
        {"readlinkat", (void *)our_readlinkat}, {"__readlink_chk", (void *)our_readlink_chk},                      \
        {"__readlinkat_chk", (void *)our_readlinkat_chk}, {"realpath", (void *)our_realpath},                      \
        {"__realpath_chk", (void *)our_realpath_chk}, {"canonicalize_file_name", (void *)our_canonicalize},        \
        {"readdir", (void *)our_readdir}, {"readdir64", (void *)our_readdir}, {"listxattr", (void *)our_listxattr}, \
        {"getxattr", (void *)our_getxattr}, {"statvfs", (void *)our_statvfs}, {"statvfs64", (void *)our_statvfs},  \
        {"pathconf", (void *)our_pathconf}, {"chdir", (void *)our_chdir}, {"strerror", (void *)our_strerror},      \
        {"strerror_r", (void *)our_strerror_r}, CHANGING_FUNCTIONS, STATX_FUNCTION

#endif
