/* Shows what libshapes.so does and what its memory holds, for test_aarch64.py: argument 1 says what, argument 2 is the
 * library. Prints, and judges nothing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

enum { FUNCTIONS = 300, LINKS = 40 };
static void *library;

static void *find(const char *name) {
    void *found = dlsym(library, name);
    if (!found) fprintf(stderr, "%s\n", dlerror()), exit(3);
    return found;
}

static void answers(void) {
    int (*call)(int, int) = (int (*)(int, int))find("call"), (*caught)(int) = (int (*)(int))find("caught");
    const char *(*text)(int) = (const char *(*)(int))find("text");
    void *(*place)(int) = (void *(*)(int))find("place");
    for (int n = 0; n < FUNCTIONS; n++) printf("call %d %d\n", n, call(n, 7));
    for (int n = 0; n < FUNCTIONS; n++) printf("text %s\n", text(n));
    for (int n = 0; n <= LINKS; n++) printf("caught %d %d\n", n, caught(n));
    printf("frames %d\n", ((int (*)(void))find("count_frames"))());
    printf("built %d\n", ((int (*)(void))find("was_built"))());
    printf("visits %d\n", *((int *(*)(void))find("visits_here"))());
    printf("chosen %d %d\n", ((int (*)(int))find("chosen"))(1), ((int (*)(int))find("call_chosen"))(2));
    printf("room %d\n", (int)((uintptr_t)((void *(*)(void))find("room"))() % 64));
    for (int n = 0; n < FUNCTIONS; n += 37) {
        Dl_info about = {0};
        int known = dladdr(place(n), &about);
        printf("place %d %s %d\n", known, about.dli_sname ? about.dli_sname : "?", about.dli_saddr == place(n));
    }
    int (*older)(void) = (int (*)(void))dlvsym(library, "versioned", "V1");
    int (*newer)(void) = (int (*)(void))dlvsym(library, "versioned", "V2");
    printf("versions %d %d\n", older ? older() : 0, newer ? newer() : 0);
    int ends[2];
    char said[16] = {0};
    if (pipe(ends)) exit(3);
    long sent = ((long (*)(int, int))find("say"))(ends[1], 3), got = read(ends[0], said, sizeof said - 1);
    printf("said %ld %ld %s\n", sent, got, said);
}

/* Write the memory at pairs of address (within the library) and size to a file. */
static void memory(char **words) {
    struct link_map *object;
    FILE *out = fopen(*words++, "wb");
    if (!out || dlinfo(library, RTLD_DI_LINKMAP, &object)) exit(3);
    for (; *words; words += 2) {
        const volatile uint8_t *from = (const uint8_t *)(object->l_addr + strtoul(words[0], NULL, 0));
        size_t size = strtoul(words[1], NULL, 0);
        uint8_t *copy = malloc(size); /* a system call must not be the first to touch a page */
        for (size_t i = 0; i < size; i++) copy[i] = from[i];
        if (fwrite(copy, 1, size, out) != size) exit(3);
        free(copy);
    }
    fclose(out);
}

static void use(char **words) {
    for (; *words; words++) {
        char name[32];
        snprintf(name, sizeof name, "f%s", *words);
        printf("%s %d\n", name, ((int (*)(int))find(name))(7));
    }
}

static void in_child(char **words) {
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (!child) use(words), exit(0);
    if (waitpid(child, &status, 0) != child || status) exit(3);
}

static void scribble(char **words) {
    use(words);
    *(volatile char *)find("f3") = 1;
}

#if defined(__aarch64__)
static void on_fault(int number, siginfo_t *fault, void *context) {
    const struct _aarch64_ctx *record = (const struct _aarch64_ctx *)((ucontext_t *)context)->uc_mcontext.__reserved;
    (void)number, (void)fault;
    while (record->magic && record->magic != ESR_MAGIC)
        record = (const struct _aarch64_ctx *)((const char *)record + record->size);
    puts(record->magic ? "yes" : "no");
    exit(0);
}

/* Say whether the kernel tells a handler the processor's syndrome. */
static void syndrome(void) {
    struct sigaction action = {.sa_flags = SA_SIGINFO, .sa_sigaction = on_fault};
    sigaction(SIGSEGV, &action, NULL);
    *(volatile int *)mmap(NULL, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) = 1;
}
#endif

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "";
    alarm(40);
    if (!strcmp(what, "page-size")) return printf("%lu\n", getauxval(AT_PAGESZ)), 0;
#if defined(__aarch64__)
    if (!strcmp(what, "syndrome")) return syndrome(), 3;
#endif
    library = count > 2 ? dlopen(words[2], RTLD_NOW) : NULL;
    if (!library) return fprintf(stderr, "%s\n", count > 2 ? dlerror() : "which library?"), 3;
    if (!strcmp(what, "answers")) return answers(), 0;
    if (!strcmp(what, "memory")) return memory(words + 3), 0;
    if (!strcmp(what, "use")) return use(words + 3), 0;
    if (!strcmp(what, "in-child")) return in_child(words + 3), 0;
    if (!strcmp(what, "scribble")) return scribble(words + 3), 0;
    return 4;
}
