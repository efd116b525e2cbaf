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
    uint32_t checksum; /* CRC-32, compared if all files are */
    uint32_t unused;
    uint64_t size;
};

struct Table {
    const struct FileTable *head;
    const struct KeptFile *files;
    const uint32_t *needs;
    const char *texts;
    uint8_t *done; /* for each file: COMPARED; LISTED: the folder that begins with it is complete */
};
enum { COMPARED = 1, LISTED = 2 };

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

/* Return the first file whose path is not below `path` in the order of the table. */
static uint32_t kept_position(const struct Table *table, const char *path) {
    return first_row(table->files, sizeof *table->files, table->head->files, table->texts, path);
}

static const struct KeptFile *find_kept(const struct Table *table, const char *path) {
    uint32_t at = kept_position(table, path);
    if (at == table->head->files || !same_text(table->texts + table->files[at].path, path)) return NULL;
    return table->files + at;
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

/* Refuse the layers if this file differs from all of them in its size, or in its contents. `file` is a descriptor of it,
 * -1: it is opened here. */
static void compare_file(struct Root *root, const char *path, int file, int contents) {
    int known = 0, same_size = 0, same = 0, opened = -1;
    for (int i = 0; i < root->table_count; i++) {
        struct Table *table = root->tables + i;
        const struct KeptFile *kept = find_kept(table, path);
        if (!kept || table->done[kept - table->files] & COMPARED) continue;
        known = 1;
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
    uint32_t crc = contents ? checksum_of(file) : 0;
    for (int i = 0; i < root->table_count; i++) {
        struct Table *table = root->tables + i;
        const struct KeptFile *kept = find_kept(table, path);
        if (!kept) continue;
        same_size |= kept->size == (uint64_t)about.st_size;
        same |= kept->size == (uint64_t)about.st_size && (!contents || kept->checksum == crc);
        table->done[kept - table->files] |= COMPARED;
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
    if (relative && *relative) compare_file(root, relative, file, 0);
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
        if (!kept || table->done[kept - table->files] & COMPARED) continue;
        for (const uint32_t *need = table->needs + kept->needs; *need != LAST_NEED; need++)
            compare_file(root, table->texts + *need, -1, 0);
    }
    compare_file(root, relative, -1, 0);
}

/* Refuse the layers if a file is missing from a folder that is about to be listed. */
static void compare_folder(int folder) {
    char path[PATH_ROOM], start[PATH_ROOM];
    struct Root *root;
    if (!root_count || !checks) return;
    if (!folder_path(folder, path)) return;
    const char *relative = in_root(path, &root);
    if (!relative) return;
    char *at = append_text(start, start + PATH_ROOM - 2, relative);
    if (*relative) append_text(at, start + PATH_ROOM - 2, "/");
    for (int i = 0; i < root->table_count; i++) {
        struct Table *table = root->tables + i;
        uint32_t first = kept_position(table, start);
        if (first == table->head->files || table->done[first] & LISTED) continue;
        for (uint32_t low = first; low < table->head->files; low++) {
            const char *name = after_prefix(table->texts + table->files[low].path, start);
            if (!name) break;
            int direct = 1;
            for (const char *c = name; *c; c++) direct &= *c != '/';
            if (!direct || table->done[low] & COMPARED) continue;
            long there = kernel_call(SYS_faccessat, folder, (long)name, 0, 0, 0, 0);
            if (there == -ENOENT) refuse(root->path, table->texts + table->files[low].path, "is missing");
        }
        table->done[first] |= LISTED;
    }
}

#include "leftout.h"

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
    table->done = map_memory(head->files + 1);
    if (table->done) root->table_count++;
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

/* Return whether root has made the folder, as before a program gave up its rights: nobody else can have put a file there. */
static int is_of_root(const struct Store *store) {
    char path[PATH_ROOM], *end = path + PATH_ROOM - 1;
    struct stat about;
    append_text(append_text(path, end, PUT_BACK), end, store->digest);
    return !failed(kernel_call(SYS_newfstatat, AT_FDCWD, (long)path, (long)&about, AT_SYMLINK_NOFOLLOW, 0, 0)) &&
           S_ISDIR(about.st_mode) && !about.st_uid && !(about.st_mode & 077);
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
    if (base == -EPERM && !is_of_root(store)) refuse_folder(store);
    if (!failed(base)) close_file((int)base);
    if (!checks) return;
    if (!store) refuse(root->path, path, store_count == MOST_STORES ? "is one store too many" : "has no index");
    /* It stands for all links: many programs unpack links as files, or not at all. */
    append_text(append_text(link, end, path), end, "/link");
    if (read_link(AT_FDCWD, link, target) <= 0 || !is_put_back(target) || !same_digest(target + PUT_BACK_LENGTH, name))
        refuse(root->path, link, "is not the symbolic link that it was, nor are others: unpack the layer with a program "
                                 "that keeps links, as unzip does");
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
    for (int i = 0; checks == 2 && i < root->table_count; i++)
        for (uint32_t k = 0; k < root->tables[i].head->files; k++)
            compare_file(root, root->tables[i].texts + root->tables[i].files[k].path, -1, 1);
}

#endif
