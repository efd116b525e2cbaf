/* Loads libshapes.so (argument 2) and does with it what argument 1 says; "ok" at the end when all answers are right. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FUNCTIONS = 300, THREADS = 16 };
static char **words; /* the arguments from the library on */
static int (*call)(int, int);
static char *(*place)(int);

static void fail(const char *why) {
    printf("failed: %s\n", why);
    fflush(stdout);
    _exit(1);
}

static void *load(const char *path) {
    void *handle = dlopen(path, RTLD_NOW);
    if (!handle) fail(dlerror());
    call = (int (*)(int, int))dlsym(handle, "call");
    place = (char *(*)(int))dlsym(handle, "place");
    return handle;
}

static void check(int first, int step) {
    for (int i = 0; i < FUNCTIONS; i++) {
        int n = (first + i * step) % FUNCTIONS;
        if (call(n, 7) != 7 * (n + 3) + n % 7) fail("a wrong answer");
    }
}

static void wait_for(pid_t child) {
    int status;
    if (waitpid(child, &status, 0) != child || status) fail("the child");
}

/* ---- threads and processes ---- */

static pthread_barrier_t start;

static void *check_together(void *number) {
    pthread_barrier_wait(&start);
    check((int)(intptr_t)number % 2 ? 0 : (int)(intptr_t)number * 17, 7);
    return NULL;
}

static void threads(void) {
    pthread_t all[THREADS];
    load(words[0]);
    pthread_barrier_init(&start, NULL, THREADS);
    for (intptr_t i = 0; i < THREADS; i++) pthread_create(&all[i], NULL, check_together, (void *)i);
    for (int i = 0; i < THREADS; i++) pthread_join(all[i], NULL);
}

static void fork_before(void) {
    load(words[0]);
    pid_t child = fork();
    check(0, 1);
    if (!child) _exit(0);
    wait_for(child);
}

static void fork_after(void) {
    load(words[0]);
    if (call(0, 1) != 3) fail("the first answer");
    pid_t child = fork();
    if (!child) check(0, 1), _exit(0);
    wait_for(child);
    check(0, 1);
}

static void fork_among_threads(void) {
    pthread_t other;
    load(words[0]);
    pthread_barrier_init(&start, NULL, 2);
    pthread_create(&other, NULL, check_together, (void *)1);
    pthread_barrier_wait(&start);
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        if (!child) check(i * 13, 7), _exit(0);
        wait_for(child);
    }
    pthread_join(other, NULL);
}

/* ---- the program's own handlers ---- */

static sigjmp_buf back;
static void *volatile seen_address;

static void on_fault(int number, siginfo_t *fault, void *context) {
    (void)number, (void)context;
    seen_address = fault->si_addr;
    siglongjmp(back, 1);
}

static void on_plain_fault(int number) {
    (void)number;
    seen_address = (void *)0x1238;
    siglongjmp(back, 1);
}

static void genuine_fault(void) {
    seen_address = NULL;
    if (!sigsetjmp(back, 1)) (void)*(volatile int *)0x1238;
    if (seen_address != (void *)0x1238) fail("si_addr");
    seen_address = NULL;
    if (!sigsetjmp(back, 1)) *place(299) = 1;
    if (!seen_address) fail("a write to code");
}

static void set_handler(int plain) {
    struct sigaction action = {.sa_flags = SA_SIGINFO, .sa_sigaction = on_fault}, now;
    if (plain) {
        if (signal(SIGSEGV, on_plain_fault) == SIG_ERR) fail("signal");
        return;
    }
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGSEGV, NULL, &now);
    if (now.sa_sigaction != on_fault) fail("another handler than was set");
}

static void handlers(int before, int plain) {
    if (before) set_handler(plain);
    load(words[0]);
    if (!before) set_handler(plain);
    genuine_fault();
    for (int i = 0; i < 150; i++) call(i, 7);
    genuine_fault();
    check(0, 1);
    genuine_fault();
}
static void sigaction_before(void) { handlers(1, 0); }
static void sigaction_after(void) { handlers(0, 0); }
static void signal_before(void) { handlers(1, 1); }
static void signal_after(void) { handlers(0, 1); }

/* ---- signals that are blocked ---- */

static void *check_blocked(void *with) {
    sigset_t all, now;
    sigfillset(&all);
    ((int (*)(int, const sigset_t *, sigset_t *))with)(SIG_SETMASK, &all, NULL);
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    if (!sigismember(&now, SIGUSR1)) fail("other signals are not blocked");
    check(0, 1);
    return NULL;
}

static void blocked_by_thread(void) {
    pthread_t other;
    load(words[0]);
    pthread_create(&other, NULL, check_blocked, pthread_sigmask);
    pthread_join(other, NULL);
}

static void blocked_by_process(void) {
    load(words[0]);
    check_blocked(sigprocmask);
}

static void blocked_before_loading(void) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    load(words[0]);
    check(0, 1);
}

/* ---- inside handlers, on small stacks ---- */

static volatile sig_atomic_t handled;

static void on_user(int number) {
    (void)number;
    check(0, 1);
    handled = 1;
}

static void user_signal(int flags) {
    struct sigaction action = {.sa_handler = on_user, .sa_flags = flags};
    sigfillset(&action.sa_mask);
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    if (!handled) fail("the handler was not called");
}

static void in_handler(void) {
    load(words[0]);
    user_signal(0);
}

static void on_alternate_stack(void) {
    static char room[32768];
    stack_t stack = {.ss_sp = room, .ss_size = sizeof room};
    load(words[0]);
    sigaltstack(&stack, NULL);
    user_signal(SA_ONSTACK);
}

static void *check_alone(void *nothing) {
    check(0, 1);
    return nothing;
}

static void small_stack(void) {
    pthread_t other;
    pthread_attr_t attributes;
    load(words[0]);
    pthread_attr_init(&attributes);
    size_t size = PTHREAD_STACK_MIN > 65536 ? PTHREAD_STACK_MIN : 65536;
    if (pthread_attr_setstacksize(&attributes, size)) fail("stack size");
    pthread_create(&other, &attributes, check_alone, NULL);
    pthread_join(other, NULL);
}

/* ---- faults that are the program's own ---- */

static void null_write(void) {
    load(words[0]);
    call(3, 1);
    *(volatile int *)0 = 1;
}

static void cold_code_write(void) {
    load(words[0]);
    *place(150) = 1;
}

static void restored_code_write(void) {
    load(words[0]);
    check(0, 1);
    *place(150) = 1;
}

static void sent_signal(void) {
    load(words[0]);
    call(3, 1);
    kill(getpid(), SIGSEGV);
}

/* ---- loading ---- */

static void many_at_once(void) {
    int (*calls[8])(int, int);
    int count = 0;
    for (; words[count]; count++) load(words[count]), calls[count] = call;
    for (int i = 0; i < count; i++) call = calls[i], check(i, 11);
}

static void again_and_again(void) {
    for (int i = 0; i < 10; i++) {
        void *handle = load(words[0]);
        check(i, 7);
        if (dlclose(handle)) fail("dlclose");
        if (dlopen(words[0], RTLD_NOW | RTLD_NOLOAD)) fail("it is loaded still");
    }
}

/* Library 2 installs a handler of its own; loaded anew at its old place it must not get past the runtime. */
static void plugin_again(void) {
    void *plugin;
    load(words[0]);
    for (int i = 0; i < 3; i++) {
        plugin = dlopen(words[1], RTLD_NOW);
        if (!plugin) fail(dlerror());
        ((void (*)(void))dlsym(plugin, "install"))();
        for (int n = 0; n < 100; n++) call(100 * i + n, 7);
        ((void (*)(void))dlsym(plugin, "remove_again"))();
        dlclose(plugin);
    }
    check(0, 1);
}

static void *load_others(void *stop) {
    while (!__atomic_load_n((int *)stop, __ATOMIC_ACQUIRE)) {
        void *handle = dlopen(words[1], RTLD_NOW);
        if (!handle) fail(dlerror());
        dlclose(handle);
    }
    return NULL;
}

/* Faults while another thread loads and unloads another library. */
static void unloading_elsewhere(void) {
    pthread_t other;
    int stop = 0;
    void *handle = load(words[0]);
    pthread_create(&other, NULL, load_others, &stop);
    for (int i = 0; i < 200; i++) {
        check(i, 7);
        dlclose(handle);
        handle = load(words[0]);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    pthread_join(other, NULL);
}

static void relative_path(void) {
    if (chdir(words[1])) fail("chdir");
    load(words[0]);
    if (chdir("/")) fail("chdir");
    check(0, 1);
}

/* In a namespace of its own, with a C library of its own; before and after one in the program's. */
static void other_namespaces(void) {
    for (int i = 0; i < 3; i++) {
        void *handle = i == 1 ? load(words[0]) : dlmopen(LM_ID_NEWLM, words[0], RTLD_NOW);
        if (!handle) fail(dlerror());
        call = (int (*)(int, int))dlsym(handle, "call");
        check(i, 7);
    }
}

static void no_descriptors(void) {
    load(words[0]);
    while (open("/dev/null", O_RDONLY) >= 0) continue;
    check(0, 1);
}

static void plain(void) {
    load(words[0]);
    check(0, 1);
}

/* ---- ---- */

#define SCENARIO(name) {#name, name}
static const struct {
    const char *name;
    void (*run)(void);
} scenarios[] = {
    SCENARIO(threads), SCENARIO(fork_before), SCENARIO(fork_after), SCENARIO(fork_among_threads),
    SCENARIO(sigaction_before), SCENARIO(sigaction_after), SCENARIO(signal_before), SCENARIO(signal_after),
    SCENARIO(blocked_by_thread), SCENARIO(blocked_by_process), SCENARIO(blocked_before_loading),
    SCENARIO(in_handler), SCENARIO(on_alternate_stack), SCENARIO(small_stack), SCENARIO(null_write),
    SCENARIO(cold_code_write), SCENARIO(restored_code_write), SCENARIO(sent_signal), SCENARIO(many_at_once),
    SCENARIO(again_and_again), SCENARIO(plugin_again), SCENARIO(unloading_elsewhere), SCENARIO(relative_path),
    SCENARIO(no_descriptors), SCENARIO(other_namespaces), SCENARIO(plain),
};

int main(int count, char **arguments) {
    alarm(40);
    if (count < 3) return 3;
    words = arguments + 2;
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        if (strcmp(scenarios[i].name, arguments[1])) continue;
        scenarios[i].run();
        puts("ok");
        return 0;
    }
    return 4;
}
