/* What a compacted library says about the pages that it was shipped without. Little-endian, as the library itself.
 *
 * ../compact.py writes it; both must agree. Addresses are those of the ELF file, before the loader adds its base. */
#ifndef LAYER_COLDINDEX_H
#define LAYER_COLDINDEX_H

#include <stdint.h>

#define DT_COLD_INDEX 0x6c61796cLL             /* in the range that is left to operating systems; loaders skip it */
#define COLD_INDEX_MAGIC 0x31444c4f4359414cULL /* "LAYCOLD1" */

struct ColdIndex {
    uint64_t magic;
    uint32_t size;      /* of the whole index, in bytes */
    uint32_t checksum;  /* CRC-32 of what follows this field */
    uint32_t page_size; /* unit of all page numbers and counts */
    uint32_t chunks;    /* entries of the table behind this header */
    uint32_t runs;      /* entries of the table behind that one, by rising page */
    uint32_t name;      /* of the library: offset of its text from the start of the index */
    uint32_t store;     /* path of the store from the library's folder: offset of its text; 0: dropped */
    uint32_t early;     /* 1: it has IFUNC resolvers, which run before any constructor and may need a cold page */
    uint64_t first, last; /* addresses that bound all runs */
    uint64_t store_size;  /* of the store file, in bytes */
};

/* What must be found even when the index is damaged is told by its place instead: the dynamic section lies above all
 * else but the struct ColdState, which follows its DT_NULL; below it, in a mapping without holes, lie the index, below
 * that the dynamic strings, and right below those the program headers. */

#define COLD_INDEX_UNCHECKED 16 /* bytes before the part that the checksum covers */

struct ColdRun {
    uint32_t page, pages;
    uint32_t chunk;
    uint32_t at; /* first page within the chunk */
    uint32_t executable;
};

struct ColdChunk {
    uint64_t offset; /* in the store */
    uint32_t packed; /* bytes; as many as the pages have: stored as they are; none: dropped */
    uint32_t pages;
    uint32_t checksum; /* CRC-32 of the pages */
    uint32_t first_run, runs;
    uint32_t code; /* 1: what was compressed went through the filter for x86 machine code; see x86code.h */
};

/* Zero when the library is loaded. Its alignment is that of the dynamic section. */
struct ColdState {
    const uint8_t *store;
    uint32_t checked;
    uint32_t unused;
    uint8_t restored[]; /* one a chunk */
};

#endif
