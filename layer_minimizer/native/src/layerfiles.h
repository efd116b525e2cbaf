/* The files that a layer has in place: refuses a layer that differs from the one that was verified, and names the files
 * that were left out of it.
 *
 * ../../pack/checksums.py writes the table _layer_minimizer/check/DIGEST of each layer; both have to agree. A file must
 * match one of the layers that contain it. */
#ifndef LAYER_LAYERFILES_H
#define LAYER_LAYERFILES_H

#include <dirent.h>

#include "coldfiles.h"

struct FileTable {
    uint64_t magic;
    uint32_t checksum; /* CRC-32 of all bytes after this field */
    uint32_t size;     /* of the whole table */
    uint32_t files, needs, texts, unused;
};
#define FILE_TABLE_MAGIC 0x3154535454594c4cULL /* "LLYTTST1" */

struct KeptFile { /* in order of their paths; then the lists of needed libraries, then the texts */
    uint32_t path, needs;
    uint32_t checksum;
    uint32_t when; /* its contents are compared */
    uint64_t size;
};
enum When { WHEN_NEVER, WHEN_USED, WHEN_STARTED };

struct Table {
    const struct FileTable *head;
    const struct KeptFile *files;
    const uint32_t *needs;
    const char *texts;
    uint8_t *compared; /* a byte for each file */
};

/* One site folder, by the path that it was started with and by its real one. */
struct Root {
    char path[PATH_ROOM], real[PATH_ROOM];
    size_t path_length, real_length;
    struct Table tables[MOST_STORES];
    int table_count;
};

enum { MOST_ROOTS = 4 };
static struct Root roots[MOST_ROOTS];
static int root_count;
static int checks = 1; /* LAYER_MINIMIZER_CHECK: 0 off, 2 all */

static const char *below(const char *path, const char *folder, size_t length) {
    if (!length) return NULL;
    for (size_t i = 0; i < length; i++)
        if (path[i] != folder[i]) return NULL;
    return path[length] == '/' ? path + length + 1 : path[length] ? NULL : path + length;
}

/* Return the path in the site folder of an absolute path, NULL if it lies elsewhere. */
static const char *in_root(const char *path, struct Root **root) {
    for (int i = 0; i < root_count; i++) {
        *root = roots + i;
        const char *found = below(path, roots[i].path, roots[i].path_length);
        if (!found) found = below(path, roots[i].real, roots[i].real_length);
        if (found) return found;
    }
    return NULL;
}

static const struct KeptFile *find_kept(const struct Table *table, const char *path) {
    uint32_t low = 0, high = table->head->files;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = compare_texts(table->texts + table->files[middle].path, path);
        if (!order) return table->files + middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static uint32_t checksum_of(int file) {
    uint8_t piece[16384];
    uint32_t crc = 0;
    long offset = 0, got;
    while ((got = kernel_call(SYS_pread64, file, (long)piece, sizeof piece, offset, 0, 0)) > 0) {
        crc = continue_checksum(crc, piece, (size_t)got);
        offset += got;
    }
    return crc;
}

/* Refuse the layers if this file differs from all of them. `file` is a descriptor of it, -1: it is opened here. */
static void compare_file(struct Root *root, const char *path, int file, enum When least) {
    int known = 0, same_size = 0, same = 0, wanted = 0, opened = -1;
    for (int i = 0; i < root->table_count; i++) {
        struct Table *table = root->tables + i;
        const struct KeptFile *kept = find_kept(table, path);
        if (!kept || table->compared[kept - table->files]) continue;
        known = 1;
        if (kept->when >= least && kept->when) wanted = 1;
    }
    if (!known) return;
    if (file < 0) {
        char full[PATH_ROOM], *end = full + PATH_ROOM - 1;
        append_text(append_text(append_text(full, end, root->path), end, "/"), end, path);
        opened = file = open_file(full, O_RDONLY, 0);
        if (file == -ENOENT || file == -ENOTDIR) refuse(root->path, path, "is missing");
        if (file < 0) return; /* whoever uses it gets the error */
    }
    struct stat about = {0};
    kernel_call(SYS_fstat, file, (long)&about, 0, 0, 0, 0);
    uint32_t crc = wanted || least == WHEN_NEVER ? checksum_of(file) : 0;
    for (int i = 0; i < root->table_count; i++) {
        struct Table *table = root->tables + i;
        const struct KeptFile *kept = find_kept(table, path);
        if (!kept) continue;
        same_size |= kept->size == (uint64_t)about.st_size;
        same |= kept->size == (uint64_t)about.st_size && (!(wanted || least == WHEN_NEVER) || kept->checksum == crc);
        table->compared[kept - table->files] = 1;
    }
    if (opened >= 0) close_file(opened);
    if (!same_size) refuse(root->path, path, "is cut short, or has grown");
    if (!same) refuse(root->path, path, "is damaged (its checksum is wrong)");
}

/* Compare a file that was opened, by its absolute path. */
static void compare_opened(const char *path, int file) {
    struct Root *root;
    if (!root_count || !checks || *path != '/') return;
    const char *relative = in_root(path, &root);
    if (relative && *relative) compare_file(root, relative, file, WHEN_USED);
}

/* Compare a library and the libraries that are loaded with it. */
static void compare_library(const char *path) {
    struct Root *root;
    if (!root_count || !checks || *path != '/') return;
    const char *relative = in_root(path, &root);
    if (!relative || !*relative) return;
    for (int i = 0; i < root->table_count; i++) {
        struct Table *table = root->tables + i;
        const struct KeptFile *kept = find_kept(table, relative);
        if (!kept || table->compared[kept - table->files]) continue;
        for (const uint32_t *need = table->needs + kept->needs; *need != LAST_NEED; need++)
            compare_file(root, table->texts + *need, -1, WHEN_USED);
    }
    compare_file(root, relative, -1, WHEN_USED);
}

/* Refuse the layers if a file is missing from a folder that is about to be listed. */
static void compare_folder(int folder) {
    char path[PATH_ROOM], start[PATH_ROOM];
    struct Root *root;
    if (!root_count || !checks) return;
    path[0] = '.', path[1] = 0;
    if (!make_absolute(folder, path)) return;
    path[text_length(path) - 2] = 0;
    const char *relative = in_root(path, &root);
    if (!relative) return;
    char *at = append_text(start, start + PATH_ROOM - 2, relative);
    if (*relative) append_text(at, start + PATH_ROOM - 2, "/");
    for (int i = 0; i < root->table_count; i++) {
        struct Table *table = root->tables + i;
        uint32_t low = 0, high = table->head->files;
        while (low < high) {
            uint32_t middle = low + (high - low) / 2;
            if (compare_texts(table->texts + table->files[middle].path, start) < 0)
                low = middle + 1;
            else
                high = middle;
        }
        for (; low < table->head->files; low++) {
            const char *name = after_prefix(table->texts + table->files[low].path, start);
            if (!name) break;
            int direct = 1;
            for (const char *c = name; *c; c++) direct &= *c != '/';
            if (!direct || table->compared[low]) continue;
            long there = kernel_call(SYS_faccessat, folder, (long)name, 0, 0, 0, 0);
            if (there == -ENOENT) refuse(root->path, table->texts + table->files[low].path, "is missing");
        }
    }
}

/* ---- what was left out ---- */

/* The last file that was asked for and was left out, for the text of the error that follows. */
static struct {
    long thread;
    long parent; /* process: a child between vfork and exec tells it, and it raises the exception */
    char text[1024];
} last_left_out;

static uint32_t told[64]; /* hashes of the paths that were reported */

static int was_told(const char *path) {
    uint32_t hash = checksum((const uint8_t *)path, text_length(path)) | 1;
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        if (told[i] == hash) return 1;
        if (!told[i]) {
            told[i] = hash;
            return 0;
        }
    }
    return 0;
}

static int is_about_last_left_out(void) {
    return last_left_out.thread && (last_left_out.thread == kernel_call(SYS_gettid, 0, 0, 0, 0, 0, 0) ||
                                    last_left_out.parent == kernel_call(SYS_getpid, 0, 0, 0, 0, 0, 0));
}

/* Add the option that keeps a file: as a module, by its name, or else by its path. */
static void add_option(struct Line *line, const char *path) {
    char name[PATH_ROOM], *last = name, *dot = NULL;
    append_text(name, name + PATH_ROOM - 1, path);
    for (char *c = name; *c; c++)
        if (*c == '/') last = c + 1;
    for (char *c = last; *c && !dot; c++)
        if (*c == '.') dot = c;
    if (!dot || !(same_text(dot, ".py") || after_prefix(dot, ".so") || after_prefix(dot, ".abi3.so") ||
                  after_prefix(dot, ".cpython-"))) {
        add_text(line, "--include ");
        add_text(line, path);
        return;
    }
    *dot = 0;
    if (last > name && same_text(last, "__init__")) last[-1] = 0;
    for (char *c = name; *c; c++)
        if (*c == '/') *c = '.';
    add_text(line, "--keep ");
    add_text(line, name);
}

static void tell_left_out(struct Store *store, const struct ColdFile *file) {
    struct Line line;
    const char *path = store->texts + file->path;
    begin_line(&line);
    add_text(&line, path);
    add_text(&line, " of ");
    add_text(&line, store->texts + file->owner);
    add_text(&line, " was left out of this layer: build it with an event that uses it, with ");
    add_option(&line, path);
    add_text(&line, ", or with --cold keep");
    last_left_out.thread = kernel_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
    last_left_out.parent = kernel_call(SYS_getppid, 0, 0, 0, 0, 0, 0);
    append_text(last_left_out.text, last_left_out.text + sizeof last_left_out.text - 1, line.text);
    if (was_told(path)) return;
    struct Line said;
    begin_line(&said);
    add_text(&said, "layer_minimizer: ");
    add_text(&said, line.text);
    write_line(&said, 2);
}

/* Write a path without "." and empty parts, up to the first "..": what lies before that is looked for, too. */
static void plain_path(const char *path, char *plain) {
    char *at = plain, *end = plain + PATH_ROOM - 1;
    while (*path && at < end) {
        while (*path == '/') path++;
        size_t length = 0;
        while (path[length] && path[length] != '/') length++;
        if (length == 2 && path[0] == '.' && path[1] == '.') break;
        if (length && !(length == 1 && *path == '.') && at + length + 1 < end) {
            *at++ = '/';
            __builtin_memcpy(at, path, length);
            at += length;
        }
        path += length;
    }
    *at = 0;
}

/* Return the file of this path that a store knows, or the first one in the folder of this path, which is not there. */
static const struct ColdFile *known_to(struct Store *store, const char *path) {
    if (!may_contain(store, path)) return NULL;
    char start[PATH_ROOM], *end = start + PATH_ROOM - 1;
    const struct ColdFile *file = find_file_in(store, path);
    if (file) return file;
    append_text(append_text(append_text(start, end, store->root), end, "/"), end, path);
    if (is_there(AT_FDCWD, start)) return NULL;
    append_text(append_text(start, end, path), end, "/");
    uint32_t first = position_of(store, start);
    if (first == store->body->files) return NULL;
    return after_prefix(store->texts + store->files[first].path, start) ? store->files + first : NULL;
}

/* Find what is known of a path that does not exist, in the stores of its site. */
static const struct ColdFile *find_missing(int at, const char *path, struct Store **store, struct Root **root) {
    char full[PATH_ROOM], plain[PATH_ROOM];
    if (!root_count || text_length(path) >= PATH_ROOM) return NULL;
    append_text(full, full + PATH_ROOM - 1, path);
    if (!make_absolute(at, full)) return NULL;
    plain_path(full, plain);
    const char *relative = in_root(plain, root);
    if (!relative || !*relative) return NULL;
    for (int i = 0; checks && i < (*root)->table_count; i++)
        if (find_kept((*root)->tables + i, relative)) refuse((*root)->path, relative, "is missing");
    for (int i = 0; i < store_count; i++) {
        *store = stores + i;
        const struct ColdFile *file = same_text((*store)->root, (*root)->real) ? known_to(*store, relative) : NULL;
        if (file) return file;
    }
    return NULL;
}

/* A path does not exist: say so if the environment has it. */
static int explain_missing(int at, const char *path) {
    struct Store *store;
    struct Root *root;
    last_left_out.thread = last_left_out.parent = 0;
    const struct ColdFile *file = find_missing(at, path, &store, &root);
    if (!file) return 0;
    if (file->chunk != LEFT_OUT && checks) refuse(root->path, store->texts + file->path, "is missing");
    tell_left_out(store, file);
    return 1;
}

/* ---- the start ---- */

static void open_table(struct Root *root, const char *path) {
    size_t size = 0;
    const struct FileTable *head = map_file(path, &size);
    struct Table *table = root->tables + root->table_count;
    if (root->table_count == MOST_STORES) return;
    if (!head || size < sizeof *head || head->magic != FILE_TABLE_MAGIC || head->size != size ||
        checksum((const uint8_t *)head + 12, size - 12) != head->checksum)
        refuse(root->path, path, "is damaged");
    table->head = head;
    table->files = (const struct KeptFile *)(head + 1);
    table->needs = (const uint32_t *)(table->files + head->files);
    table->texts = (const char *)(table->needs + head->needs);
    table->compared = map_memory(head->files + 1);
    if (table->compared) root->table_count++;
}

struct Entry {
    uint64_t inode;
    int64_t offset;
    uint16_t size;
    uint8_t type;
    char name[];
};

/* Call a function with each entry of a folder of the runtime. */
static void each_entry(struct Root *root, const char *folder, void (*use)(struct Root *, const char *, const char *)) {
    char path[PATH_ROOM], entries[4096];
    char *at = append_text(append_text(path, path + PATH_ROOM - 1, root->path), path + PATH_ROOM - 1, folder);
    int listed = open_file(path, O_RDONLY | O_DIRECTORY, 0);
    if (listed < 0) return;
    long got;
    while ((got = kernel_call(SYS_getdents64, listed, (long)entries, sizeof entries, 0, 0, 0)) > 0)
        for (long i = 0; i < got; i += ((struct Entry *)(entries + i))->size) {
            const char *name = ((struct Entry *)(entries + i))->name;
            if (*name == '.') continue;
            append_text(append_text(at, path + PATH_ROOM - 1, "/"), path + PATH_ROOM - 1, name);
            use(root, path, name);
        }
    close_file(listed);
}

static void use_table(struct Root *root, const char *path, const char *name) {
    (void)name;
    open_table(root, path);
}

static void __attribute__((noreturn)) refuse_folder(const struct Store *store) {
    struct Line line;
    begin_line(&line);
    add_text(&line, "layer_minimizer: " PUT_BACK);
    add_text(&line, store->digest);
    add_text(&line, " belongs to another user, or others can use it, or it is no folder; the layer in ");
    add_text(&line, store->root);
    add_text(&line, " restores files there. Remove it, or give each user a /tmp of their own");
    write_line(&line, 2);
    for (;;) kernel_call(SYS_exit_group, 1, 0, 0, 0, 0, 0);
}

static void use_store(struct Root *root, const char *path, const char *name) {
    char link[PATH_ROOM], target[PATH_ROOM], *end = link + PATH_ROOM - 1;
    if (text_length(name) != DIGEST_LENGTH) return;
    const struct Store *store = open_file_store(name, root->real);
    /* Made now, or somebody else could make it, with files of theirs for the links to lead to. */
    long base = store ? open_base(store) : -ENOENT;
    if (base == -EPERM) refuse_folder(store);
    if (!failed(base)) close_file((int)base);
    if (!checks) return;
    if (!store) refuse(root->path, path, store_count == MOST_STORES ? "is one store too many" : "has no index");
    /* It stands for all links: many programs unpack links as files, or not at all. */
    append_text(append_text(link, end, path), end, "/link");
    if (read_link(AT_FDCWD, link, target) <= 0 || !is_put_back(target) || !same_digest(target + PUT_BACK_LENGTH, name))
        refuse(root->path, link, "is not the symbolic link that it was, nor are others: unpack the layer with a program "
                                 "that keeps links, as unzip does");
}

/* Write the real path of a folder. Return 0 if it cannot be found. */
static int real_folder(const char *path, char *real) {
    long folder = kernel_call(SYS_openat, AT_FDCWD, (long)path, O_PATH | O_CLOEXEC, 0, 0, 0);
    if (failed(folder)) return 0;
    real[0] = '.', real[1] = 0;
    int found = make_absolute((int)folder, real);
    close_file((int)folder);
    if (found) real[text_length(real) - 2] = 0; /* without the "/." */
    return found;
}

/* Serve the layers in a site folder, by this name of it. */
static void add_root(const char *path) {
    char real[PATH_ROOM];
    if (root_count == MOST_ROOTS || text_length(path) >= PATH_ROOM - 64 || !real_folder(path, real)) return;
    for (int i = 0; i < root_count; i++) {
        if (!same_text(roots[i].real, real)) continue;
        roots[i].path_length = 0;
        append_text(roots[i].path, roots[i].path + PATH_ROOM - 1, path);
        roots[i].path_length = text_length(path);
        return;
    }
    struct Root *root = roots + root_count;
    append_text(root->path, root->path + PATH_ROOM - 1, path);
    append_text(root->real, root->real + PATH_ROOM - 1, real);
    root->path_length = text_length(root->path), root->real_length = text_length(root->real);
    each_entry(root, "/_layer_minimizer/cold", use_store);
    if (checks) each_entry(root, "/_layer_minimizer/check", use_table);
    root_count++;
    for (int i = 0; i < root->table_count; i++)
        for (uint32_t k = 0; k < root->tables[i].head->files; k++) {
            const struct KeptFile *file = root->tables[i].files + k;
            if (checks == 2 || file->when == WHEN_STARTED)
                compare_file(root, root->tables[i].texts + file->path, -1, checks == 2 ? WHEN_NEVER : WHEN_STARTED);
        }
}

#endif
