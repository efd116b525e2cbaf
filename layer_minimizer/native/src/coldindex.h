/* The index of a compacted library: the pages that were left out of its file. Little-endian, as the library itself.
 *
 * ../compact.py writes it; both have to agree. Addresses are those of the ELF file, before the loader adds its base. */
#ifndef LAYER_COLDINDEX_H
#define LAYER_COLDINDEX_H

#include <stdint.h>

#define DT_COLD_INDEX 0x6c61796cLL             /* in the range reserved for operating systems; loaders ignore it */
#define COLD_INDEX_MAGIC 0x31444c4f4359414cULL /* "LAYCOLD1" */

struct ColdIndex {
    uint64_t magic;
    uint32_t size;      /* of the whole index, in bytes */
    uint32_t checksum;  /* CRC-32 of the bytes after this field */
    uint32_t page_size; /* unit of all page numbers and counts */
    uint32_t chunks;    /* entries of the table after this header */
    uint32_t runs;      /* entries of the table after that one, in ascending order of page */
    uint32_t name;      /* of the library: offset of the string from the start of the index */
    uint32_t store;     /* path of the store, relative to the library's folder: offset of the string; 0: dropped */
    uint32_t early;     /* 1: it has IFUNC resolvers, which run before all constructors and may need a cold page */
    uint64_t first, last; /* addresses that bound all runs */
    uint64_t store_size;  /* of the store file, in bytes; 0 with a store: that string says why all pages were dropped */
};

/* Parts that must be found even if the index is damaged are located by their position: the struct ColdState follows the
 * DT_NULL of the dynamic section, which is at the highest address of all other parts. Below it, in one mapping without
 * holes, are the index, then the dynamic strings, then, directly below these, the program headers. */

#define COLD_INDEX_UNCHECKED 16 /* bytes before the part covered by the checksum */

struct ColdRun {
    uint32_t page, pages;
    uint32_t chunk;
    uint32_t at; /* first page within the chunk */
    uint32_t executable;
};

struct ColdChunk {
    uint64_t offset; /* in the store */
    uint32_t packed; /* bytes; equal to the bytes of the pages: not compressed; 0: dropped */
    uint32_t pages;
    uint32_t checksum; /* CRC-32 of the pages */
    uint32_t first_run, runs;
    uint32_t code; /* 1: the filter for x86 machine code was applied before compression; see x86code.h */
};

/* All zero when the library is loaded. Aligned as the dynamic section. */
struct ColdState {
    const uint8_t *store;
    uint32_t checked;
    uint32_t unused;
    uint8_t restored[]; /* one per chunk */
};

#endif
