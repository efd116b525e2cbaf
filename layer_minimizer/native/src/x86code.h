/* Reverses liblzma's filter for x86 machine code (FILTER_X86), which is applied to a chunk before compression.
 *
 * The filter makes the targets of calls and jumps absolute, so that all calls of a function have equal bytes. It
 * guesses which bytes are instructions: E8 or E9, followed by an offset whose highest byte is that of a near target.
 * `recent` has a bit for each of the last three bytes that was such an opcode and was not converted, because an offset
 * that overlaps with it is handled differently. Guesses may be wrong; encoder and decoder have to agree. */
#ifndef LAYER_X86CODE_H
#define LAYER_X86CODE_H

#include <stddef.h>
#include <stdint.h>

static inline int x86_near(uint8_t highest) { return highest == 0x00 || highest == 0xFF; }

static inline void x86_relative(uint8_t *code, size_t size) {
    /* Indexed by `recent` (bit 0: one byte ago): may the offset be converted, and which of its bytes is overlapped? */
    static const uint8_t allowed[8] = {1, 1, 1, 0, 1, 0, 0, 0};
    static const uint8_t overlapped[8] = {0, 1, 2, 2, 3, 3, 3, 3};
    size_t last = (size_t)-1; /* where the last opcode was */
    uint32_t recent = 0;
    if (size < 5) return;
    for (size_t at = 0; at < size - 4; at++) {
        if ((code[at] & 0xFE) != 0xE8) continue;
        size_t apart = at - last;
        last = at;
        if (apart > 3) {
            recent = 0;
        } else {
            recent = (recent << (apart - 1)) & 7;
            if (recent && (!allowed[recent] || x86_near(code[at + 4 - overlapped[recent]]))) {
                recent = (recent << 1) | 1;
                continue;
            }
        }
        if (!x86_near(code[at + 4])) {
            recent = (recent << 1) | 1;
            continue;
        }
        uint32_t value;
        __builtin_memcpy(&value, code + at + 1, sizeof value);
        for (int turn = 0; turn < 4; turn++) { /* valid input needs at most two; damaged input must end, too */
            value -= (uint32_t)at + 5;
            if (!recent) break;
            uint32_t shift = 24 - overlapped[recent] * 8;
            if (!x86_near((uint8_t)(value >> shift))) break;
            value ^= (1u << (shift + 8)) - 1;
        }
        value &= 0x01FFFFFF;
        value |= 0u - (value & 0x01000000);
        __builtin_memcpy(code + at + 1, &value, sizeof value);
        at += 4;
    }
}

#endif
