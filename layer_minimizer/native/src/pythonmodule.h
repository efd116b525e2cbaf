/* This library as a module of Python: importing it is how a layer loads it. Included by coldpages.c. */
#ifndef LAYER_PYTHONMODULE_H
#define LAYER_PYTHONMODULE_H

/* Of the stable ABI, without the headers of one version. */
extern void *PyModuleDef_Init(void *) __attribute__((weak));
extern void *PyBool_FromLong(long) __attribute__((weak));
extern const char *PyUnicode_AsUTF8AndSize(void *, intptr_t *) __attribute__((weak));
extern const char *Py_GetVersion(void) __attribute__((weak));

/* add(site): serve the layers in a site folder, by this name of it. */
static void *python_add(void *module, void *site) {
    const char *text = PyUnicode_AsUTF8AndSize(site, NULL);
    (void)module;
    if (text) add_root(text);
    return text ? PyBool_FromLong(1) : NULL;
}

/* is_cold(path): whether a path leads to a file of a cold store, restored or not. */
static void *python_is_cold(void *module, void *path) {
    const char *text = PyUnicode_AsUTF8AndSize(path, NULL);
    (void)module;
    return text ? PyBool_FromLong(is_cold(AT_FDCWD, text)) : NULL;
}

/* is_left_out(path): whether the environment has a file that the layer does not have. */
static void *python_is_left_out(void *module, void *path) {
    const char *text = PyUnicode_AsUTF8AndSize(path, NULL);
    struct Store *store;
    struct Root *root;
    (void)module;
    return text ? PyBool_FromLong(find_missing(AT_FDCWD, text, &store, &root) != NULL) : NULL;
}

static const char *read_hex(const char *text, uint64_t *value) {
    for (*value = 0; (*text >= '0' && *text <= '9') || (*text >= 'a' && *text <= 'f'); text++)
        *value = *value * 16 + (uint64_t)(*text <= '9' ? *text - '0' : *text - 'a' + 10);
    return text;
}

/* restore_pages("0x1c+0x2 of LIBRARY"), as in the log: whether pages of a loaded library were restored. */
static void *python_restore_pages(void *module, void *which) {
    const char *text = PyUnicode_AsUTF8AndSize(which, NULL);
    uint64_t page = 0, pages = 0;
    (void)module;
    if (!text) return NULL;
    const char *rest = after_prefix(text, "0x");
    if (rest) rest = after_prefix(read_hex(rest, &page), "+0x");
    if (rest) rest = after_prefix(read_hex(rest, &pages), " of ");
    return PyBool_FromLong(rest && restore_pages(rest, page, pages));
}

__attribute__((visibility("default"))) void *PyInit_native(void) {
    static const struct {
        const char *name;
        void *(*function)(void *, void *);
        int flags;
        const char *documentation;
    } methods[] = {
        {"add", python_add, 8 /* METH_O */, "Serve the layers in a site folder."},
        {"is_cold", python_is_cold, 8, "Return whether a path is that of a cold file."},
        {"is_left_out", python_is_left_out, 8, "Return whether a path is that of a file that was left out."},
        {"restore_pages", python_restore_pages, 8, "Restore pages of a loaded library before they are needed."},
        {0},
    };
    /* What it can do without: each version refuses slots that it does not know. */
    static struct {
        int slot;
        intptr_t value;
    } slots[] = {{3 /* Py_mod_multiple_interpreters */, 2 /* each with a lock of its own */}, {4 /* Py_mod_gil */, 1}, {0, 0}};
    /* struct PyModuleDef: the head of an object, three words, name, documentation, size, functions, slots. */
    static struct {
        intptr_t references;
        void *type, *init;
        intptr_t index;
        void *copy;
        const char *name, *documentation;
        intptr_t size;
        const void *methods, *slots, *others[3];
    } module = {.references = 1, .name = "native", .documentation = "Serves the cold files of layers.",
                .methods = methods, .slots = slots};
    int minor = atoi(Py_GetVersion() + 2);
    if (minor < 13) slots[minor < 12 ? 0 : 1].slot = 0;
    return PyModuleDef_Init(&module);
}

#endif
