/* CRC-32 (IEEE 802.3), eight bytes at a time. */
#ifndef LAYER_CHECKSUM_H
#define LAYER_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("O2") /* the rest is compiled for size */
#endif

static uint32_t crc_tables[8][256];

static void make_crc_tables(void) {
    if (crc_tables[7][255]) return;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >> 1) ^ 0xEDB88320 : crc >> 1;
        crc_tables[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int k = 1; k < 8; k++)
            crc_tables[k][i] = (crc_tables[k - 1][i] >> 8) ^ crc_tables[0][crc_tables[k - 1][i] & 255];
}

/* Continue with the bytes after those whose checksum is `crc`; 0 at the beginning. */
static uint32_t continue_checksum(uint32_t crc, const uint8_t *data, size_t size) {
    crc = ~crc;
    for (; size >= 8; size -= 8, data += 8) {
        uint64_t word;
        __builtin_memcpy(&word, data, 8);
        word ^= crc;
        crc = 0;
        for (int k = 0; k < 8; k++) crc ^= crc_tables[7 - k][(word >> (8 * k)) & 255];
    }
    while (size--) crc = (crc >> 8) ^ crc_tables[0][(crc ^ *data++) & 255];
    return ~crc;
}

static uint32_t checksum(const uint8_t *data, size_t size) { return continue_checksum(0, data, size); }

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif

#endif
