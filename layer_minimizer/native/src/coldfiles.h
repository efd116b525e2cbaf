/* Restores cold files: finds what a path means, and writes the file where its link leads to.
 *
 * All processes of a user that run on a layer share one folder. Whoever restores a file holds a lock on it, so that a
 * file is decoded once; a file gets its name when it is whole, and what a killed process has left is overwritten.
 * Nothing here uses libc's memory or locks: it runs in signal handlers, between fork and exec, and in every thread. */
#ifndef LAYER_COLDFILES_H
#define LAYER_COLDFILES_H

#include <errno.h>
#include <sys/file.h>

#include "coldstore.h"

/* What a path means in a layer. */
struct Place {
    struct Store *store;
    const struct ColdFile *file;  /* NULL: a file that is in the layer and was looked for beside restored ones */
    char target[PATH_ROOM];       /* where it is restored */
    char link[PATH_ROOM];         /* the path of the link that leads there, or of what is not there; empty: none */
};

static inline const char *path_in_site(const struct Place *place) { return relative_of(place->target); }

/* Read a symbolic link. Return its length, not above PATH_ROOM - 1, or an error. */
static long read_link(int at, const char *path, char *room) {
    long length = kernel_call(SYS_readlinkat, at, (long)path, (long)room, PATH_ROOM - 1, 0, 0);
    if (length > 0) room[length] = 0;
    return length;
}

/* Make the path of a link absolute. Return 0 if that is not possible. */
static int make_absolute(int at, char *path) {
    char folder[PATH_ROOM], name[64];
    if (*path == '/') return 1;
    long length;
    if (at == AT_FDCWD) {
        length = kernel_call(SYS_getcwd, (long)folder, PATH_ROOM, 0, 0, 0, 0) - 1;
    } else {
        struct Line line;
        begin_line(&line);
        add_text(&line, "/proc/self/fd/");
        add_number(&line, (uint64_t)at);
        append_text(name, name + sizeof name - 1, line.text);
        length = read_link(AT_FDCWD, name, folder);
    }
    size_t more = text_length(path);
    if (length <= 0 || folder[0] != '/' || (size_t)length + more + 2 > PATH_ROOM) return 0;
    __builtin_memmove(path + length + 1, path, more + 1);
    __builtin_memcpy(path, folder, (size_t)length);
    path[length] = '/';
    return 1;
}

/* Write the path of an open folder. Return 0 if it is not known. */
static int folder_path(int folder, char *path) {
    path[0] = '.', path[1] = 0;
    if (!make_absolute(folder, path)) return 0;
    path[text_length(path) - 2] = 0; /* without the "/." */
    return 1;
}

/* Write the real path of a folder. Return 0 if it cannot be found. */
static int real_folder(const char *path, char *real) {
    long folder = kernel_call(SYS_openat, AT_FDCWD, (long)path, O_PATH | O_CLOEXEC, 0, 0, 0);
    if (failed(folder)) return 0;
    int found = folder_path((int)folder, real);
    close_file((int)folder);
    return found;
}

/* Follow links to one that leads to restored files. Return 0 if there is none. */
static int follow(int at, const char *path, struct Place *place) {
    char *link = place->link, *target = place->target;
    append_text(link, link + PATH_ROOM - 1, path);
    if (text_length(path) >= PATH_ROOM) return 0;
    if (is_put_back(path)) {
        append_text(target, target + PATH_ROOM - 1, path);
        *link = 0;
        return 1;
    }
    for (int turn = 0; turn < 40; turn++) {
        long length = read_link(at, link, target);
        if (length <= 0) return 0;
        if (is_put_back(target)) return 1;
        if (*target == '/') {
            append_text(link, link + PATH_ROOM - 1, target);
            continue;
        }
        char *name = link;
        for (char *c = link; *c; c++)
            if (*c == '/') name = c + 1;
        if ((size_t)(name - link) + (size_t)length >= PATH_ROOM) return 0;
        append_text(name, link + PATH_ROOM - 1, target);
    }
    return 0;
}

/* Remove the last `tail` and the slash before it. Return 0 if a path does not end so. */
static int remove_tail(char *path, const char *tail) {
    size_t length = text_length(path), less = text_length(tail);
    if (length <= less + 1 || path[length - less - 1] != '/' || !same_text(path + length - less, tail)) return 0;
    path[length - less - 1] = 0;
    return 1;
}

/* The folder in which the files of a store are restored. */
static char *put_back_folder(const char *target, char *room) {
    append_text(room, room + PATH_ROOM - 1, target);
    room[PUT_BACK_LENGTH + DIGEST_LENGTH] = 0;
    return room;
}

/* Return the store of a place: known, or beside the link, or named where its files are restored. */
static struct Store *store_of(int at, const struct Place *place) {
    char root[PATH_ROOM], folder[PATH_ROOM];
    const char *digest = place->target + PUT_BACK_LENGTH, *path = path_in_site(place);
    struct Store *store = open_file_store(digest, NULL);
    if (store) return store;
    if (!*place->link) {
        char *end = folder + PATH_ROOM - 1;
        append_text(put_back_folder(place->target, folder) + PUT_BACK_LENGTH + DIGEST_LENGTH, end, "/.root");
        return read_link(AT_FDCWD, folder, root) > 0 ? open_file_store(digest, root) : NULL;
    }
    append_text(root, root + PATH_ROOM - 1, place->link);
    if (!make_absolute(at, root)) return NULL;
    /* The folder may have been reached through links, too: its real path ends as the file's in the site does. */
    const char *name = root;
    for (char *c = root; *c; c++)
        if (*c == '/') name = c;
    char last[PATH_ROOM];
    append_text(last, last + PATH_ROOM - 1, name);
    root[name - root] = 0;
    if (!real_folder(root, folder)) return NULL;
    size_t length = text_length(folder);
    if (length + text_length(last) >= PATH_ROOM) return NULL;
    append_text(append_text(root, root + PATH_ROOM - 1, folder), root + PATH_ROOM - 1, last);
    return remove_tail(root, path) ? open_file_store(digest, root) : NULL;
}

/* Find out whether a path, relative to the folder `at`, leads to a cold file, or to where such files are restored. */
static int find_place(int at, const char *path, struct Place *place) {
    place->link[0] = 0;
    if (!path || !follow(at, path, place)) return 0;
    place->store = store_of(at, place);
    if (!place->store) return 0;
    place->file = find_file_in(place->store, path_in_site(place));
    if (place->file && place->file->chunk == LEFT_OUT) place->file = NULL;
    return 1;
}

/* ---- restoring ---- */

static const char *error_text(long error) {
    switch (error) {
        case ENOSPC: return "no space is left";
        case EDQUOT: return "the quota is used up";
        case EROFS: return "it is read-only";
        case EACCES: return "permission denied";
        case ENOENT: return "there is no such folder";
        case EMFILE: case ENFILE: return "too many open files";
        case ENOMEM: return "there is no memory left";
        case EFBIG: return "the file is too large";
        case EIO: return "input/output error";
        case EPERM: return "it belongs to another user, or others can write to it";
        default: return "it cannot be written";
    }
}

static long report(const struct Store *store, const struct ColdFile *file, long error) {
    struct Line line;
    begin_line(&line);
    add_text(&line, "layer_minimizer: cannot restore ");
    add_text(&line, store->texts + file->path);
    add_text(&line, " of the layer in ");
    add_text(&line, store->root);
    add_text(&line, ": it needs ");
    add_number(&line, file->size);
    add_text(&line, " bytes in " PUT_BACK);
    add_text(&line, store->digest);
    add_text(&line, ", and ");
    add_text(&line, error_text(error));
    add_text(&line, "; free or enlarge /tmp, or build the layer with an event that uses this file");
    write_line(&line, 2);
    /* A missing folder must not look as if the file itself did not exist. */
    return error == ENOENT ? -ENOSPC : -error;
}

static long make_folders(int base, char *path) {
    for (char *c = path; *c; c++) {
        if (*c != '/') continue;
        *c = 0;
        long made = kernel_call(SYS_mkdirat, base, (long)path, 0700, 0, 0, 0);
        *c = '/';
        if (failed(made) && made != -EEXIST) return made;
    }
    return 0;
}

/* Make a link, also in place of one that leads nowhere: to a layer with the same files that is gone. */
static long make_link(const char *to, int base, const char *name) {
    if (!failed(kernel_call(SYS_faccessat, base, (long)name, 0, 0, 0, 0))) return 0;
    long made = kernel_call(SYS_symlinkat, (long)to, base, (long)name, 0, 0, 0);
    if (made != -EEXIST) return made;
    kernel_call(SYS_unlinkat, base, (long)name, 0, 0, 0, 0);
    made = kernel_call(SYS_symlinkat, (long)to, base, (long)name, 0, 0, 0);
    return made == -EEXIST ? 0 : made; /* by another process */
}

/* Open the folder of restored files, which only this user may have made. Return its descriptor or an error. */
static long open_base(const struct Store *store) {
    char path[PATH_ROOM], *at = append_text(path, path + PATH_ROOM - 1, PUT_BACK);
    append_text(at, path + PATH_ROOM - 1, store->digest);
    long made = kernel_call(SYS_mkdirat, AT_FDCWD, (long)path, 0700, 0, 0, 0);
    if (failed(made) && made != -EEXIST) return made;
    long base = kernel_call(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0, 0, 0);
    if (base == -ENOTDIR || base == -ELOOP || base == -EACCES) return -EPERM; /* no folder, a link, somebody else's */
    if (failed(base)) return base;
    struct stat about;
    long known = kernel_call(SYS_fstat, base, (long)&about, 0, 0, 0, 0);
    if (failed(known) || (long)about.st_uid != kernel_call(SYS_geteuid, 0, 0, 0, 0, 0, 0) || (about.st_mode & 077)) {
        close_file((int)base);
        return -EPERM;
    }
    make_link(store->root, (int)base, ".root");
    return base;
}

static long lock_base(const struct Store *store) {
    for (int turn = 0; turn < 100; turn++) {
        long base = open_base(store);
        if (failed(base)) return base;
        long locked;
        do locked = kernel_call(SYS_flock, base, LOCK_EX, 0, 0, 0, 0);
        while (locked == -EINTR);
        struct stat about;
        /* It may have been removed while this process waited. */
        if (!failed(kernel_call(SYS_fstat, base, (long)&about, 0, 0, 0, 0)) && about.st_nlink > 0) return base;
        close_file((int)base);
    }
    return -EIO;
}

static void unlock_base(long base) {
    /* Not by closing alone: a process that was forked meanwhile has the descriptor, too. */
    kernel_call(SYS_flock, base, LOCK_UN, 0, 0, 0, 0);
    close_file((int)base);
}

/* Return a chunk's bytes; valid while the folder's lock is held. */
static const uint8_t *chunk_of(struct Store *store, const uint8_t *data, uint32_t number) {
    const struct FileChunk *chunk = store->chunks + number;
    if (store->decoded && store->decoded_chunk == number) return store->decoded;
    if (store->decoded) unmap_memory(store->decoded, store->decoded_size);
    store->decoded = NULL;
    if (chunk->offset + chunk->packed > store->index->data) refuse_store(store, "index", "is damaged");
    uint8_t *decoded = decode(data + chunk->offset, chunk->packed, chunk->size, (int)chunk->method);
    if (!decoded || checksum(decoded, chunk->size) != chunk->checksum)
        refuse_store(store, "data", "is damaged, or there is no memory left");
    store->decoded_chunk = number;
    store->decoded_size = chunk->size;
    store->decoded = decoded;
    return decoded;
}

static long write_all(int file, const uint8_t *from, size_t size) {
    while (size) {
        long written = kernel_call(SYS_write, file, (long)from, (long)size, 0, 0, 0);
        if (written == -EINTR) continue;
        if (written <= 0) return written ? written : -EIO;
        from += written;
        size -= (size_t)written;
    }
    return 0;
}

static long write_contents(struct Store *store, const struct ColdFile *file, int to) {
    char path[PATH_ROOM];
    size_t size, left = (size_t)file->size, offset = file->offset;
    const uint8_t *data = left ? map_file(store_path(store, "data", path), &size) : NULL;
    if (left && (!data || size != store->index->data)) refuse_store(store, "data", data ? "is cut short" : "is missing");
    long problem = 0;
    for (uint32_t number = file->chunk; left && !problem; number++, offset = 0) {
        if (number >= store->body->chunks || store->chunks[number].size <= offset) refuse_store(store, "index", "is damaged");
        size_t part = store->chunks[number].size - offset;
        if (part > left) part = left;
        problem = write_all(to, chunk_of(store, data, number) + offset, part);
        left -= part;
    }
    if (data) unmap_memory((void *)data, size);
    return problem;
}

/* Take over the times of the link: of the file, as the layer was unpacked. */
static void copy_times(const struct Store *store, const char *path, int to) {
    char link[PATH_ROOM], *end = link + PATH_ROOM - 1;
    struct stat about;
    append_text(append_text(append_text(link, end, store->root), end, "/"), end, path);
    if (failed(kernel_call(SYS_newfstatat, AT_FDCWD, (long)link, (long)&about, AT_SYMLINK_NOFOLLOW, 0, 0))) return;
    struct timespec times[2] = {about.st_atim, about.st_mtim};
    kernel_call(SYS_utimensat, to, 0, (long)times, 0, 0, 0);
}

static int is_there(int base, const char *path) {
    struct stat about;
    return !failed(kernel_call(SYS_newfstatat, base, (long)path, (long)&about, AT_SYMLINK_NOFOLLOW, 0, 0));
}

/* Write one file into the locked folder `base`. */
static long restore_one(struct Store *store, const struct ColdFile *file, int base) {
    char path[PATH_ROOM];
    const char *name = store->texts + file->path;
    if (is_there(base, name)) return 0;
    append_text(path, path + PATH_ROOM - 1, name);
    long problem = make_folders(base, path);
    if (problem) return problem;
    int flags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC;
    long to = kernel_call(SYS_openat, base, (long)".part", flags, 0600, 0, 0);
    if (failed(to)) return to;
    problem = write_contents(store, file, (int)to);
    if (!problem) problem = kernel_call(SYS_fchmod, to, file->mode, 0, 0, 0, 0);
    if (!problem) copy_times(store, name, (int)to);
    close_file((int)to);
    if (!problem) problem = kernel_call(SYS_renameat2, base, (long)".part", base, (long)name, 0, 0);
    if (problem == -ENOSYS) problem = kernel_call(SYS_linkat, base, (long)".part", base, (long)name, 0, 0);
    if (problem) kernel_call(SYS_unlinkat, base, (long)".part", 0, 0, 0, 0);
    if (problem) return problem;
    struct Line line;
    begin_line(&line);
    add_text(&line, "restored file ");
    add_text(&line, name);
    log_line(&line);
    return 0;
}

/* Link a file of the layer into the folder of restored ones, for programs that look beside theirs. A folder is made: a
 * link to one would lead the links in it to themselves. */
static long link_kept(const struct Store *store, const char *name, int base) {
    char path[PATH_ROOM], from[PATH_ROOM], *end = from + PATH_ROOM - 1;
    append_text(append_text(append_text(from, end, store->root), end, "/"), end, name);
    append_text(path, path + PATH_ROOM - 1, name);
    struct stat about;
    if (failed(kernel_call(SYS_newfstatat, AT_FDCWD, (long)from, (long)&about, AT_SYMLINK_NOFOLLOW, 0, 0))) return -ENOENT;
    if (S_ISDIR(about.st_mode)) append_text(path + text_length(path), path + PATH_ROOM - 1, "/");
    long problem = make_folders(base, path);
    return problem || S_ISDIR(about.st_mode) ? problem : make_link(from, base, name);
}

static long restore_needs(struct Store *store, const struct ColdFile *file, int base) {
    for (const uint32_t *need = store->needs + file->needs; *need != LAST_NEED; need++) {
        const char *name = store->texts + *need;
        const struct ColdFile *needed = find_file_in(store, name);
        long problem = needed && needed->chunk != LEFT_OUT ? restore_one(store, needed, base)
                                                           : link_kept(store, name, base);
        if (problem && problem != -ENOENT) return problem;
    }
    return 0;
}

/* Signals wait: their handlers may need a cold file, too, and this thread holds the lock. */
static uint64_t hold_signals(void) {
    uint64_t all = ~(1ULL << (SIGSEGV - 1) | 1ULL << (SIGBUS - 1)), before = 0;
    kernel_call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&all, (long)&before, 8, 0, 0);
    return before;
}

static void release_signals(uint64_t before) {
    kernel_call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&before, 0, 8, 0, 0);
}

/* Restore `files` files of a store, from `file` on, and the libraries that they need. Return 0 or an error. */
static long restore_files(struct Store *store, const struct ColdFile *file, uint32_t files) {
    if (!files) return 0;
    uint64_t before = hold_signals();
    long base = lock_base(store), problem = failed(base) ? base : 0;
    const struct ColdFile *end = file + files;
    for (; !problem && file < end; file++) {
        if (file->chunk == LEFT_OUT) continue;
        problem = restore_one(store, file, (int)base);
        if (!problem) problem = restore_needs(store, file, (int)base);
        if (problem) break;
    }
    if (problem) problem = report(store, file, -problem);
    if (!failed(base)) unlock_base(base);
    release_signals(before);
    return problem;
}

/* Restore all files below a folder of the site. */
static long restore_folder(struct Store *store, const char *folder) {
    char path[PATH_ROOM], *end = path + PATH_ROOM - 2;
    char *at = append_text(path, end, folder);
    if (*folder) at = append_text(at, end, "/");
    uint32_t first = *path ? position_of(store, path) : 0;
    uint32_t files = body_of(store)->files;
    at[0] = '\xff', at[1] = 0;
    uint32_t last = *folder ? position_of(store, path) : files;
    return restore_files(store, store->files + first, last - first);
}

/* Restore what a place means. Return 0 if there is a file now. */
static long restore_place(struct Place *place) {
    if (place->file) return restore_files(place->store, place->file, 1);
    uint64_t before = hold_signals();
    long base = lock_base(place->store), problem = base;
    if (!failed(base)) {
        problem = link_kept(place->store, path_in_site(place), (int)base);
        unlock_base(base);
    }
    release_signals(before);
    return problem;
}

#endif
