/* Replacements for libc's functions that start programs: a child finds in the layer what its parent finds.
 *
 * A program for the same C library gets this library by LD_PRELOAD, and hides that from its own program. For others -
 * linked statically, for another C library or architecture - what their arguments name is restored before they start. */
#ifndef LAYER_PROGRAMS_H
#define LAYER_PROGRAMS_H

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fileaccess.h"

extern char **environ;

static const char PRELOAD[] = "LD_PRELOAD=";
static char own_path[PATH_ROOM]; /* of this library; empty: it cannot be preloaded */

/* ---- which programs can load this library ---- */

static int read_at(int file, void *to, size_t size, uint64_t offset) {
    return kernel_call(SYS_pread64, file, (long)to, (long)size, (long)offset, 0, 0) == (long)size;
}

/* Read which loader an ELF file names. Return 0 if it has none. */
static int loader_of(int file, char *loader) {
    ElfW(Ehdr) head;
    ElfW(Phdr) part;
    if (!read_at(file, &head, sizeof head, 0) || memcmp(head.e_ident, ELFMAG, SELFMAG)) return 0;
    if (head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_phentsize != sizeof part) return 0;
    for (int i = 0; i < head.e_phnum; i++) {
        if (!read_at(file, &part, sizeof part, head.e_phoff + (uint64_t)i * sizeof part)) return 0;
        if (part.p_type == PT_INTERP)
            return part.p_filesz > 1 && part.p_filesz < 256 && read_at(file, loader, part.p_filesz, part.p_offset);
    }
    return 0;
}

/* The loader of this process, as programs name it; it knows its own path as the last part of that. */
static int is_own_loader(const char *loader) {
    uintptr_t at = getauxval(AT_BASE);
    FOR_EACH_OBJECT(object) {
        if (object->l_addr != at || !at) continue;
        const char *own = object->l_name, *name = loader;
        for (const char *c = own; *c; c++)
            if (*c == '/') own = c + 1;
        for (const char *c = loader; *c; c++)
            if (*c == '/') name = c + 1;
        return same_text(own, name);
    }
    return 0;
}

/* Return whether a program, or the interpreter that it names in its first line, can load this library; -1 if there is no
 * such program. */
static UNUSUAL int can_preload(int at, const char *path) {
    char loader[256], line[256];
    for (int turn = 0; turn < 4; turn++) {
        long file = kernel_call(SYS_openat, at, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
        if (failed(file)) return turn == 0 && (file == -ENOENT || file == -ENOTDIR) ? -1 : 0;
        struct stat about;
        int found = loader_of((int)file, loader);
        int special = failed(kernel_call(SYS_fstat, file, (long)&about, 0, 0, 0, 0)) || (about.st_mode & (S_ISUID | S_ISGID));
        long got = kernel_call(SYS_pread64, file, (long)line, sizeof line - 1, 0, 0, 0);
        close_file((int)file);
        if (found) return own_path[0] && !special && is_own_loader(loader);
        if (got < 3 || line[0] == ELFMAG[0]) return 0;
        if (line[0] != '#' || line[1] != '!') return own_path[0] && turn == 0; /* for the shell */
        line[got] = 0;
        char *name = line + 2;
        while (*name == ' ' || *name == '\t') name++;
        for (char *c = name; *c; c++)
            if (*c == ' ' || *c == '\t' || *c == '\n') *c = 0;
        memmove(line, name, strlen(name) + 1);
        path = line;
        at = AT_FDCWD;
    }
    return 0;
}

/* ---- what a program is told ---- */

/* Restore what a path names: a cold file, or all below a folder of the layer. */
static UNUSUAL void restore_named(const char *path) {
    struct Place place;
    struct Root *root;
    char full[PATH_ROOM];
    if (find_place(AT_FDCWD, path, &place)) {
        restore_place(&place);
        return;
    }
    if (text_length(path) >= PATH_ROOM) return;
    append_text(full, full + PATH_ROOM - 1, path);
    if (!make_absolute(AT_FDCWD, full)) return;
    size_t length = text_length(full);
    while (length > 1 && (full[length - 1] == '/' || (full[length - 1] == '.' && full[length - 2] == '/'))) full[--length] = 0;
    const char *relative = in_root(full, &root);
    if (!relative) return;
    for (int i = 0; i < store_count; i++)
        if (same_text(stores[i].root, root->real)) restore_folder(stores + i, relative);
}

/* Restore what an argument names: as a whole, or a word in it. */
static UNUSUAL void restore_words(const char *text) {
    char word[PATH_ROOM];
    size_t length = 0;
    restore_named(text);
    for (const char *c = text;; c++) {
        if (*c && !strchr(" \t\n\"'=:,;&|<>()$`", *c)) {
            if (length < PATH_ROOM - 1) word[length++] = *c;
            continue;
        }
        word[length] = 0;
        if (length && length < (size_t)(c - text) + 1) restore_named(word);
        length = 0;
        if (!*c) return;
    }
}

/* A program may look for files beside its own. */
static UNUSUAL void restore_program(int at, const char *path) {
    struct Place place;
    if (!find_place(at, path, &place) || !place.file) return;
    char folder[PATH_ROOM], *end = folder;
    append_text(folder, folder + PATH_ROOM - 1, path_in_site(&place));
    for (char *c = folder; *c; c++)
        if (*c == '/') end = c;
    if (restore_place(&place) || end == folder) return;
    *end = 0;
    restore_folder(place.store, folder);
}

/* Bytes for the environment of a child that gets this library. */
static size_t room_for(char *const *variables, size_t *count) {
    size_t length = sizeof PRELOAD + sizeof own_path;
    for (*count = 0; variables && variables[*count]; ++*count)
        if (after_prefix(variables[*count], PRELOAD)) length += text_length(variables[*count]);
    return length;
}

static void add_preload(char *const *variables, char **changed, char *value) {
    size_t used = 0;
    const char *end = value + sizeof PRELOAD + sizeof own_path - 1;
    char *at = append_text(append_text(value, end, PRELOAD), end, own_path);
    for (size_t i = 0; variables && variables[i]; i++) {
        const char *others = after_prefix(variables[i], PRELOAD);
        if (!others) {
            changed[used++] = variables[i];
            continue;
        }
        at = append_text(at, at + 2, ":");
        at = append_text(at, at + text_length(others) + 1, others);
    }
    changed[used++] = value;
    changed[used] = NULL;
}

/* Get ready for a program. Return whether it is to get this library. */
static int prepare(int at, const char *path, char *const *arguments) {
    if (!path || !store_count) return 0;
    touch(path);
    restore_program(at, path);
    int preload = can_preload(at, path);
    if (preload < 0) explain_missing(at, path);
    if (preload) return preload > 0;
    for (size_t i = 1; arguments && arguments[0] && arguments[i] && i < 4096; i++) restore_words(arguments[i]);
    restore_named(".");
    return 0;
}

/* Find a program in PATH as execvp does. Return `name` if it has a slash or is not found. */
static UNUSUAL const char *in_path(const char *name, char *room) {
    const char *path = getenv("PATH");
    if (!name || !*name || strchr(name, '/') || !path) return name;
    for (const char *from = path;; from++) {
        const char *to = strchr(from, ':');
        size_t length = to ? (size_t)(to - from) : strlen(from);
        if (length + strlen(name) + 2 < PATH_ROOM) {
            memcpy(room, from, length);
            room[length] = 0;
            append_text(append_text(room + length, room + PATH_ROOM - 1, length ? "/" : ""), room + PATH_ROOM - 1, name);
            if (!access_at(AT_FDCWD, room, X_OK)) return room;
        }
        if (!to) return name;
        from = to;
    }
}

/* Call with the environment of the child, which has this library if that program can load it. Memory of the stack: in
 * a child of vfork, any other would be lost to the parent. */
#define WITH_ENVIRONMENT(preload, variables, call)                         \
    do {                                                                   \
        size_t count = 0, room = preload ? room_for(variables, &count) : 1; \
        char *changed[count + 2], value[room];                             \
        if (preload) {                                                     \
            add_preload(variables, changed, value);                        \
            variables = changed;                                           \
        }                                                                  \
        call;                                                              \
    } while (0)

static int our_execve(const char *path, char *const arguments[], char *const variables[]) {
    int preload = prepare(AT_FDCWD, path, arguments);
    WITH_ENVIRONMENT(preload, variables, return execve(path, arguments, variables));
}

static int our_execv(const char *path, char *const arguments[]) { return our_execve(path, arguments, environ); }

extern int execvpe(const char *, char *const[], char *const[]);

static int our_execvpe(const char *name, char *const arguments[], char *const variables[]) {
    char room[PATH_ROOM];
    int preload = prepare(AT_FDCWD, in_path(name, room), arguments);
    WITH_ENVIRONMENT(preload, variables, return execvpe(name, arguments, variables));
}

static int our_execvp(const char *name, char *const arguments[]) { return our_execvpe(name, arguments, environ); }

static int our_fexecve(int file, char *const arguments[], char *const variables[]) {
    struct Line line;
    begin_line(&line);
    add_text(&line, "/proc/self/fd/");
    add_number(&line, (uint64_t)file);
    int preload = prepare(AT_FDCWD, line.text, arguments);
    WITH_ENVIRONMENT(preload, variables, return fexecve(file, arguments, variables));
}

/* The arguments of execl and its relatives, up to the NULL. */
#define TAKE_ARGUMENTS(first)                                             \
    va_list rest;                                                         \
    size_t number = 1;                                                    \
    va_start(rest, first);                                                \
    while (va_arg(rest, char *)) number++;                                \
    va_end(rest);                                                         \
    char *arguments[number + 1];                                          \
    arguments[0] = (char *)first;                                         \
    va_start(rest, first);                                                \
    for (size_t i = 1; i <= number; i++) arguments[i] = va_arg(rest, char *)

static int our_execl(const char *path, const char *first, ...) {
    TAKE_ARGUMENTS(first);
    va_end(rest);
    return our_execv(path, arguments);
}

static int our_execlp(const char *name, const char *first, ...) {
    TAKE_ARGUMENTS(first);
    va_end(rest);
    return our_execvp(name, arguments);
}

static int our_execle(const char *path, const char *first, ...) {
    TAKE_ARGUMENTS(first);
    char *const *variables = va_arg(rest, char *const *);
    va_end(rest);
    return our_execve(path, arguments, variables);
}

static int our_posix_spawn(pid_t *child, const char *path, const posix_spawn_file_actions_t *actions,
                           const posix_spawnattr_t *attributes, char *const arguments[], char *const variables[]) {
    int preload = prepare(AT_FDCWD, path, arguments);
    WITH_ENVIRONMENT(preload, variables, return posix_spawn(child, path, actions, attributes, arguments, variables));
}

static int our_posix_spawnp(pid_t *child, const char *name, const posix_spawn_file_actions_t *actions,
                            const posix_spawnattr_t *attributes, char *const arguments[], char *const variables[]) {
    char room[PATH_ROOM];
    int preload = prepare(AT_FDCWD, in_path(name, room), arguments);
    WITH_ENVIRONMENT(preload, variables, return posix_spawnp(child, name, actions, attributes, arguments, variables));
}

/* As libc's, which starts the shell without a call that could be diverted. */
static int our_system(const char *command) {
    if (!command) return system(NULL);
    char *arguments[] = {"sh", "-c", (char *)command, NULL};
    struct sigaction ignored = {.sa_handler = SIG_IGN}, interrupt, quit;
    posix_spawnattr_t attributes;
    sigset_t child_ended, before, defaults;
    pid_t child;
    int status = -1, problem;
    sigaction(SIGINT, &ignored, &interrupt);
    sigaction(SIGQUIT, &ignored, &quit);
    sigemptyset(&child_ended);
    sigaddset(&child_ended, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child_ended, &before);
    sigemptyset(&defaults);
    if (interrupt.sa_handler != SIG_IGN) sigaddset(&defaults, SIGINT);
    if (quit.sa_handler != SIG_IGN) sigaddset(&defaults, SIGQUIT);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &before);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    problem = our_posix_spawn(&child, "/bin/sh", NULL, &attributes, arguments, environ);
    if (problem) errno = problem;
    else
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    posix_spawnattr_destroy(&attributes);
    sigaction(SIGINT, &interrupt, NULL);
    sigaction(SIGQUIT, &quit, NULL);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return status;
}

static FILE *our_popen(const char *command, const char *mode) {
    if (command && store_count) restore_words(command), restore_named(".");
    return popen(command, mode);
}

#define PROGRAM_FUNCTIONS                                                                                    \
    {"execve", (void *)our_execve}, {"execv", (void *)our_execv}, {"execvp", (void *)our_execvp},            \
        {"execvpe", (void *)our_execvpe}, {"fexecve", (void *)our_fexecve}, {"execl", (void *)our_execl},    \
        {"execlp", (void *)our_execlp}, {"execle", (void *)our_execle}, {"system", (void *)our_system},      \
        {"posix_spawn", (void *)our_posix_spawn}, {"posix_spawnp", (void *)our_posix_spawnp},                \
        {"popen", (void *)our_popen},

/* ---- in a child ---- */

/* Remove this library from LD_PRELOAD: the program is not to see it. */
static void hide_preload(void) {
    for (char **variable = environ; variable && *variable; variable++) {
        char *value = (char *)after_prefix(*variable, PRELOAD);
        const char *rest = value ? after_prefix(value, own_path) : NULL;
        if (!own_path[0] || !rest || (*rest && *rest != ':')) continue;
        if (*rest) {
            memmove(value, rest + 1, strlen(rest + 1) + 1);
        } else {
            for (char **next = variable; *next; next++) next[0] = next[1];
        }
        return;
    }
}

#endif
