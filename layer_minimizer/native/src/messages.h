/* Lines on standard error and in the log: composed of parts, written with one system call. */
#ifndef LAYER_MESSAGES_H
#define LAYER_MESSAGES_H

#include "kernel.h"

/* LAYER_MINIMIZER_LOG: the destination of a line for everything that is restored. A value with a slash is the path of a
 * file, any other value means standard error. */
static char log_target[1024];

struct Line {
    char text[2048];
    char *at;
};

static inline void begin_line(struct Line *line) { line->at = line->text; }

static inline void add_text(struct Line *line, const char *text) {
    line->at = append_text(line->at, line->text + sizeof line->text - 2, text);
}

static inline void add_hex(struct Line *line, uint64_t value) {
    line->at = append_hex(line->at, line->text + sizeof line->text - 2, value);
}

static inline void add_number(struct Line *line, uint64_t value) {
    char digits[21], *at = digits + 20;
    *at = 0;
    do *--at = (char)('0' + value % 10);
    while (value /= 10);
    add_text(line, at);
}

static inline void write_line(struct Line *line, int file) {
    *line->at++ = '\n';
    kernel_call(SYS_write, file, (long)line->text, line->at - line->text, 0, 0, 0);
}

static inline void log_line(struct Line *line) {
    if (!log_target[0]) return;
    for (const char *c = log_target; *c; c++) {
        if (*c != '/') continue;
        int file = open_file(log_target, O_WRONLY | O_APPEND | O_CREAT, 0600);
        if (file < 0) return;
        write_line(line, file);
        close_file(file);
        return;
    }
    write_line(line, 2);
}

#endif
