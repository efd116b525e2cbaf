/* Reads the cold stores of layers: which files are cold, and their bytes. See fileindex.h for the format.
 *
 * In the layer a cold file is a symbolic link to where it is restored: PUT_BACK, the digest of its store, and its path in
 * the site folder. So a link says by itself which store has the file. */
#ifndef LAYER_COLDSTORE_H
#define LAYER_COLDSTORE_H

#include "checksum.h"
#include "fileindex.h"
#include "lzma.h"
#include "messages.h"
#include "x86code.h"

#define PUT_BACK "/tmp/.layer_minimizer-"
enum { PUT_BACK_LENGTH = sizeof PUT_BACK - 1, DIGEST_LENGTH = 16, PATH_ROOM = 4096, MOST_STORES = 32 };

struct Store {
    char digest[DIGEST_LENGTH + 1];
    char root[PATH_ROOM]; /* the real path of the site folder */
    const struct FileIndex *index;
    const struct FileBody *body; /* NULL until it is needed */
    const struct ColdFile *files;
    const struct FileChunk *chunks;
    const uint32_t *needs;
    const char *texts;
    /* The chunk that was decoded last: many small files share one. Changed with the folder's lock held. */
    uint8_t *decoded;
    uint32_t decoded_chunk;
    size_t decoded_size;
};

static struct Store stores[MOST_STORES];
static int store_count;

static inline const char *after_prefix(const char *text, const char *prefix) {
    while (*prefix && *text == *prefix) text++, prefix++;
    return *prefix ? NULL : text;
}

/* Return 1 if a path lies where files are restored: it has a digest and a relative path. */
static inline int is_put_back(const char *path) {
    const char *digest = after_prefix(path, PUT_BACK);
    if (!digest) return 0;
    for (int i = 0; i < DIGEST_LENGTH; i++)
        if (!digest[i] || digest[i] == '/') return 0;
    return digest[DIGEST_LENGTH] == '/' && digest[DIGEST_LENGTH + 1];
}

static inline const char *relative_of(const char *put_back) { return put_back + PUT_BACK_LENGTH + DIGEST_LENGTH + 1; }

static inline int same_digest(const char *one, const char *two) {
    for (int i = 0; i < DIGEST_LENGTH; i++)
        if (one[i] != two[i]) return 0;
    return 1;
}

static const void *map_file(const char *path, size_t *size) {
    int file = open_file(path, O_RDONLY, 0);
    if (file < 0) return NULL;
    long end = kernel_call(SYS_lseek, file, 0, SEEK_END, 0, 0, 0);
    long at = failed(end) || !end ? -1 : kernel_call(SYS_mmap, 0, end, PROT_READ, MAP_PRIVATE, file, 0);
    close_file(file);
    *size = (size_t)end;
    return failed(at) ? NULL : (const void *)at;
}

static char *store_path(const struct Store *store, const char *name, char *room) {
    char *at = room, *end = room + PATH_ROOM - 1;
    at = append_text(at, end, store->root);
    at = append_text(at, end, "/_layer_minimizer/cold/");
    at = append_text(at, end, store->digest);
    at = append_text(at, end, "/");
    append_text(at, end, name);
    return room;
}

/* End the process: a damaged layer must not give another result without a word. */
static void __attribute__((noreturn)) refuse(const char *root, const char *path, const char *why) {
    struct Line line;
    begin_line(&line);
    add_text(&line, "layer_minimizer: ");
    add_text(&line, path);
    add_text(&line, " ");
    add_text(&line, why);
    add_text(&line, ": the layer in ");
    add_text(&line, root);
    add_text(&line, " is not what was proved. Deploy it again, or build it anew; where another layer is meant to replace "
                    "that file, LAYER_MINIMIZER_CHECK=off lets it run");
    write_line(&line, 2);
    for (;;) kernel_call(SYS_exit_group, 1, 0, 0, 0, 0, 0);
}

static void __attribute__((noreturn)) refuse_store(const struct Store *store, const char *name, const char *why) {
    char room[PATH_ROOM];
    refuse(store->root, store_path(store, name, room), why);
}

/* Return the store of a site folder by its digest, NULL if there is none. `digest` need not end there. */
static struct Store *open_file_store(const char *digest, const char *root) {
    static int adding;
    for (int i = 0; i < __atomic_load_n(&store_count, __ATOMIC_ACQUIRE); i++)
        if (same_digest(stores[i].digest, digest)) return stores + i;
    if (!root || text_length(root) >= PATH_ROOM - 64) return NULL;
    while (__atomic_exchange_n(&adding, 1, __ATOMIC_ACQUIRE)) kernel_call(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
    struct Store *store = store_count < MOST_STORES ? stores + store_count : NULL;
    for (int i = 0; i < store_count; i++)
        if (same_digest(stores[i].digest, digest)) store = stores + i; /* by another thread */
    if (store == stores + store_count) {
        char path[PATH_ROOM];
        size_t size;
        __builtin_memcpy(store->digest, digest, DIGEST_LENGTH);
        append_text(store->root, store->root + PATH_ROOM - 1, root);
        store->index = map_file(store_path(store, "index", path), &size);
        if (!store->index) {
            store = NULL;
        } else {
            const struct FileIndex *index = store->index;
            if (size < sizeof *index || index->magic != FILE_INDEX_MAGIC ||
                size != sizeof *index + index->filter + (size_t)index->packed ||
                checksum((const uint8_t *)index + 12, size - 12) != index->checksum)
                refuse_store(store, "index", "is damaged");
            __atomic_store_n(&store_count, store_count + 1, __ATOMIC_RELEASE);
        }
    }
    __atomic_store_n(&adding, 0, __ATOMIC_RELEASE);
    return store;
}

/* Decode compressed bytes into memory, with LZMA_PROBS values of work space. Return 0, or -1 if they are damaged. */
static int decode_into(const uint8_t *packed, size_t packed_size, uint8_t *data, size_t size, int method,
                       uint16_t *probabilities) {
    if (method == CHUNK_STORED) {
        if (packed_size != size) return -1;
        __builtin_memcpy(data, packed, size);
        return 0;
    }
    if (lzma_decode(packed, packed_size, data, size, probabilities)) return -1;
    if (method == CHUNK_CODE) x86_relative(data, size);
    return 0;
}

/* Decode compressed bytes into new memory; NULL if they are damaged or there is no memory. */
static uint8_t *decode(const uint8_t *packed, size_t packed_size, size_t size, int method) {
    size_t work = sizeof(uint16_t) * LZMA_PROBS;
    uint8_t *data = map_memory(size);
    if (!data) return NULL;
    uint16_t *probabilities = map_memory(work);
    int problem = !probabilities || decode_into(packed, packed_size, data, size, method, probabilities);
    if (probabilities) unmap_memory(probabilities, work);
    if (!problem) return data;
    unmap_memory(data, size);
    return NULL;
}

static const struct FileBody *body_of(struct Store *store) {
    const struct FileBody *body = __atomic_load_n(&store->body, __ATOMIC_ACQUIRE);
    if (body) return body;
    const struct FileIndex *index = store->index;
    const uint8_t *packed = (const uint8_t *)(index + 1) + index->filter;
    body = (const struct FileBody *)decode(packed, index->packed, index->size, CHUNK_LZMA);
    if (!body) refuse_store(store, "index", "is damaged, or there is no memory left");
    const struct ColdFile *files = (const struct ColdFile *)(body + 1);
    const struct FileChunk *chunks = (const struct FileChunk *)(files + body->files);
    const uint32_t *needs = (const uint32_t *)(chunks + body->chunks);
    store->files = files; /* another thread writes the address of an equal copy at worst */
    store->chunks = chunks;
    store->needs = needs;
    store->texts = (const char *)(needs + body->needs);
    const struct FileBody *none = NULL;
    __atomic_compare_exchange_n(&store->body, &none, body, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    return body;
}

static int compare_texts(const char *one, const char *two) {
    while (*one && *one == *two) one++, two++;
    return (int)(unsigned char)*one - (int)(unsigned char)*two;
}

/* Return the first row whose path is not below `path`. Rows are in the order of their paths, and begin with the offset of
 * the path in the texts. */
static uint32_t first_row(const void *rows, size_t row_size, uint32_t count, const char *texts, const char *path) {
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (compare_texts(texts + *(const uint32_t *)((const char *)rows + middle * row_size), path) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Return the first file whose path is not below `path` in the order of the index. */
static uint32_t position_of(struct Store *store, const char *path) {
    uint32_t files = body_of(store)->files;
    return first_row(store->files, sizeof *store->files, files, store->texts, path);
}

static const struct ColdFile *find_file_in(struct Store *store, const char *path) {
    uint32_t at = position_of(store, path);
    if (at == store->body->files || !same_text(store->texts + store->files[at].path, path)) return NULL;
    return store->files + at;
}

/* Return 0 if a path is certainly not one of those that the filter was made of. */
static int may_contain(const struct Store *store, const char *path) {
    const struct FileIndex *index = store->index;
    const uint8_t *filter = (const uint8_t *)(index + 1);
    uint64_t hash = 0xcbf29ce484222325ULL; /* FNV-1a */
    if (!index->filter) return 0;
    for (const char *at = path; *at; at++) hash = (hash ^ (unsigned char)*at) * 0x100000001b3ULL;
    uint32_t one = (uint32_t)hash, two = (uint32_t)(hash >> 32) | 1, mask = index->filter * 8 - 1;
    for (int k = 0; k < FILTER_HASHES; k++, one += two)
        if (!(filter[(one & mask) >> 3] >> (one & 7) & 1)) return 0;
    return 1;
}

#endif
