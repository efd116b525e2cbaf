/* The index of a layer's cold files: those that the layer holds compressed, and those that were left out of it.
 *
 * ../../layer/cold_store.py writes it; both have to agree. All numbers are little-endian. A layer has it as
 * _layer_minimizer/cold/DIGEST/index, beside the compressed bytes in data. */
#ifndef LAYER_FILEINDEX_H
#define LAYER_FILEINDEX_H

#include <stdint.h>

#define FILE_INDEX_MAGIC 0x3158444946594c4cULL /* "LLYFIDX1" */

/* Followed by the filter, then by the compressed body. */
struct FileIndex {
    uint64_t magic;
    uint32_t checksum; /* CRC-32 of all bytes after this field */
    uint32_t filter;   /* bytes of the filter, a power of two; 0: it holds nothing */
    uint32_t packed;   /* bytes of the body: LZMA, as a chunk */
    uint32_t size;     /* of the body when it is decoded */
    uint64_t data;     /* bytes of the file with the chunks */
};

/* The filter tells most paths that are not in the index without decoding it: a Bloom filter of the paths that were left
 * out and of their folders, and of "/" and the file name of each shared library, which programs load without a path. */
enum { FILTER_HASHES = 6 };

/* The body: this, then the files in order of their paths, the chunks, the lists of needed libraries, the texts. */
struct FileBody {
    uint32_t files, chunks, needs, texts; /* entries; the last one in bytes */
};

struct ColdFile {
    uint32_t path;  /* relative to the site folder: offset in the texts, as all texts */
    uint32_t owner; /* name and version of its distribution */
    uint32_t needs; /* its first one in the list of needed libraries, which ends with LAST_NEED */
    uint32_t mode;  /* permission bits */
    uint32_t chunk; /* its first one; LEFT_OUT: its bytes are not in the layer */
    uint32_t offset; /* in that chunk; continues in the next ones; BY_COLD_KEEP: it was left out by --cold drop */
    uint64_t size;
};
#define LEFT_OUT 0xffffffffu
#define BY_COLD_KEEP 1u
#define BY_GPU_KEEP 2u /* it was left out because it is for a GPU */
#define LAST_NEED 0xffffffffu

struct FileChunk {
    uint64_t offset; /* in the file with the data */
    uint32_t packed, size;
    uint32_t checksum; /* CRC-32 of the decoded bytes */
    uint32_t method;
};
enum { CHUNK_STORED, CHUNK_LZMA, CHUNK_CODE }; /* the last: LZMA after the filter for x86 machine code */

#endif
