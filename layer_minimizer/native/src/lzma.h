/* Decodes one raw LZMA stream of known decoded size, as written by Python's lzma module (FORMAT_RAW, LZMA1).
 *
 * Written after the LZMA specification, which Igor Pavlov placed in the public domain. Safe in signal handlers: no
 * allocation, no library calls, a few hundred bytes of stack; the caller provides the memory for the probabilities.
 * Every read and write is checked, so damaged input only results in an error.
 */
#ifndef LAYER_LZMA_H
#define LAYER_LZMA_H

#include <stddef.h>
#include <stdint.h>

enum { LZMA_LC = 3, LZMA_LP = 0, LZMA_PB = 2 };
enum {
    LZMA_STATES = 12,
    LZMA_POS_STATES = 16,
    LZMA_LENGTH_PROBS = 2 + 2 * LZMA_POS_STATES * 8 + 256,
    LZMA_IS_MATCH = 0,
    LZMA_IS_REP = LZMA_IS_MATCH + LZMA_STATES * LZMA_POS_STATES,
    LZMA_IS_REP_G0 = LZMA_IS_REP + LZMA_STATES,
    LZMA_IS_REP_G1 = LZMA_IS_REP_G0 + LZMA_STATES,
    LZMA_IS_REP_G2 = LZMA_IS_REP_G1 + LZMA_STATES,
    LZMA_IS_REP0_LONG = LZMA_IS_REP_G2 + LZMA_STATES,
    LZMA_POS_SLOT = LZMA_IS_REP0_LONG + LZMA_STATES * LZMA_POS_STATES,
    LZMA_POS_SPECIAL = LZMA_POS_SLOT + 4 * 64,
    LZMA_ALIGN = LZMA_POS_SPECIAL + 128,
    LZMA_LENGTH = LZMA_ALIGN + 16,
    LZMA_REP_LENGTH = LZMA_LENGTH + LZMA_LENGTH_PROBS,
    LZMA_LITERAL = LZMA_REP_LENGTH + LZMA_LENGTH_PROBS,
    LZMA_PROBS = LZMA_LITERAL + (0x300 << (LZMA_LC + LZMA_LP)),
};

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("O2") /* the rest is compiled for size */
#endif

typedef struct {
    const uint8_t *in, *end;
    uint32_t range, code;
    int short_of_input;
} LzmaRange;

static inline void lzma_normalize(LzmaRange *rc) {
    if (rc->range < (1u << 24)) {
        rc->range <<= 8;
        if (rc->in == rc->end) {
            rc->short_of_input = 1;
            rc->code <<= 8;
        } else {
            rc->code = (rc->code << 8) | *rc->in++;
        }
    }
}

static inline unsigned lzma_bit(LzmaRange *rc, uint16_t *prob) {
    lzma_normalize(rc);
    uint32_t bound = (rc->range >> 11) * *prob;
    if (rc->code < bound) {
        rc->range = bound;
        *prob = (uint16_t)(*prob + ((2048 - *prob) >> 5));
        return 0;
    }
    rc->range -= bound;
    rc->code -= bound;
    *prob = (uint16_t)(*prob - (*prob >> 5));
    return 1;
}

static inline unsigned lzma_tree(LzmaRange *rc, uint16_t *probs, unsigned bits) {
    unsigned symbol = 1;
    for (unsigned i = 0; i < bits; i++) symbol = (symbol << 1) | lzma_bit(rc, probs + symbol);
    return symbol - (1u << bits);
}

static inline unsigned lzma_reverse_tree(LzmaRange *rc, uint16_t *probs, unsigned bits) {
    unsigned symbol = 1, value = 0;
    for (unsigned i = 0; i < bits; i++) {
        unsigned bit = lzma_bit(rc, probs + symbol);
        symbol = (symbol << 1) | bit;
        value |= bit << i;
    }
    return value;
}

static inline uint32_t lzma_direct(LzmaRange *rc, unsigned bits) {
    uint32_t value = 0;
    while (bits--) {
        lzma_normalize(rc);
        rc->range >>= 1;
        uint32_t above = rc->code >= rc->range;
        if (above) rc->code -= rc->range;
        value = (value << 1) | above;
    }
    return value;
}

static unsigned lzma_length(LzmaRange *rc, uint16_t *probs, unsigned pos_state) {
    if (!lzma_bit(rc, probs)) return 2 + lzma_tree(rc, probs + 2 + pos_state * 8, 3);
    if (!lzma_bit(rc, probs + 1)) return 10 + lzma_tree(rc, probs + 2 + LZMA_POS_STATES * 8 + pos_state * 8, 3);
    return 18 + lzma_tree(rc, probs + 2 + 2 * LZMA_POS_STATES * 8, 8);
}

static uint32_t lzma_distance(LzmaRange *rc, uint16_t *probs, unsigned length) {
    unsigned kind = length - 2 < 4 ? length - 2 : 3;
    unsigned slot = lzma_tree(rc, probs + LZMA_POS_SLOT + kind * 64, 6);
    if (slot < 4) return slot;
    unsigned bits = (slot >> 1) - 1;
    uint32_t distance = (2 | (slot & 1)) << bits;
    if (slot < 14) return distance + lzma_reverse_tree(rc, probs + LZMA_POS_SPECIAL + distance - slot, bits);
    distance += lzma_direct(rc, bits - 4) << 4;
    return distance + lzma_reverse_tree(rc, probs + LZMA_ALIGN, 4);
}

static uint8_t lzma_literal(LzmaRange *rc, uint16_t *probs, int matched, unsigned match) {
    unsigned symbol = 1;
    if (matched) {
        do {
            unsigned match_bit = (match >> 7) & 1;
            match <<= 1;
            unsigned bit = lzma_bit(rc, probs + ((1 + match_bit) << 8) + symbol);
            symbol = (symbol << 1) | bit;
            if (match_bit != bit) break;
        } while (symbol < 0x100);
    }
    while (symbol < 0x100) symbol = (symbol << 1) | lzma_bit(rc, probs + symbol);
    return (uint8_t)symbol;
}

/* Decode `in` into exactly `out_size` bytes. `probs` has room for LZMA_PROBS values. Returns 0, or -1 for bad input. */
static int lzma_decode(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size, uint16_t *probs) {
    LzmaRange rc = {in, in + in_size, 0xFFFFFFFFu, 0, 0};
    uint32_t rep0 = 0, rep1 = 0, rep2 = 0, rep3 = 0;
    unsigned state = 0;
    size_t at = 0;
    if (in_size < 5 || in[0] != 0) return -1;
    for (int i = 1; i < 5; i++) rc.code = (rc.code << 8) | in[i];
    rc.in += 5;
    for (int i = 0; i < LZMA_PROBS; i++) probs[i] = 1024;
    while (at < out_size) {
        unsigned pos_state = (unsigned)at & ((1u << LZMA_PB) - 1), length;
        if (rc.short_of_input) return -1;
        if (!lzma_bit(&rc, probs + LZMA_IS_MATCH + state * LZMA_POS_STATES + pos_state)) {
            unsigned before = at ? out[at - 1] : 0;
            uint16_t *literal = probs + LZMA_LITERAL + 0x300 * (before >> (8 - LZMA_LC));
            int matched = state >= 7;
            if (matched && rep0 >= at) return -1;
            out[at] = lzma_literal(&rc, literal, matched, matched ? out[at - rep0 - 1] : 0);
            at++;
            state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
            continue;
        }
        if (lzma_bit(&rc, probs + LZMA_IS_REP + state)) {
            if (!at) return -1;
            if (!lzma_bit(&rc, probs + LZMA_IS_REP_G0 + state)) {
                if (!lzma_bit(&rc, probs + LZMA_IS_REP0_LONG + state * LZMA_POS_STATES + pos_state)) {
                    if (rep0 >= at) return -1;
                    out[at] = out[at - rep0 - 1];
                    at++;
                    state = state < 7 ? 9 : 11;
                    continue;
                }
            } else {
                uint32_t distance;
                if (!lzma_bit(&rc, probs + LZMA_IS_REP_G1 + state)) {
                    distance = rep1;
                } else {
                    if (!lzma_bit(&rc, probs + LZMA_IS_REP_G2 + state)) {
                        distance = rep2;
                    } else {
                        distance = rep3;
                        rep3 = rep2;
                    }
                    rep2 = rep1;
                }
                rep1 = rep0;
                rep0 = distance;
            }
            length = lzma_length(&rc, probs + LZMA_REP_LENGTH, pos_state);
            state = state < 7 ? 8 : 11;
        } else {
            rep3 = rep2;
            rep2 = rep1;
            rep1 = rep0;
            length = lzma_length(&rc, probs + LZMA_LENGTH, pos_state);
            state = state < 7 ? 7 : 10;
            rep0 = lzma_distance(&rc, probs, length);
        }
        if (rep0 >= at || length > out_size - at) return -1;
        for (const uint8_t *from = out + at - rep0 - 1; length--; at++) out[at] = *from++;
    }
    return rc.short_of_input ? -1 : 0;
}

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif

#endif
