/* Says of a path that does not exist that the environment has it, and which option brings it back: on standard error once,
 * and in the text of the error. Included by layerfiles.h. */
#ifndef LAYER_LEFTOUT_H
#define LAYER_LEFTOUT_H

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
    add_text(&line, " was left out of this layer: build it with an event that uses it");
    add_text(&line, file->offset ? ", with " : ", or with ");
    add_option(&line, path);
    if (file->offset == BY_COLD_KEEP) add_text(&line, ", or with --cold keep");
    if (file->offset == BY_GPU_KEEP) add_text(&line, ", or with --gpu keep");
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

#endif
