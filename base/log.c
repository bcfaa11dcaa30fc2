// The only place that prints, besides the sub-commands' own results.
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"

enum { LINE_BYTES = 4096 };  // a longer line is cut

static int my_rank = 0, my_size = 1;
static bool line_open = false;  // a progress line waits for its newline

void log_set_rank(int rank, int size) {
    my_rank = rank;
    my_size = size;
}

static void end_line(void) {
    if (line_open) fputc('\n', stdout);
    line_open = false;
}

// Names and values in it come from anywhere.
static void put_masked(const char *fmt, va_list ap) {
    char text[LINE_BYTES];
    vsnprintf(text, sizeof text, fmt, ap);
    text_mask(text, strlen(text));
    fputs(text, stdout);
}

void log_info(const char *fmt, ...) {
    if (my_rank != 0) return;
    end_line();
    va_list ap;
    va_start(ap, fmt);
    put_masked(fmt, ap);
    va_end(ap);
    putchar('\n');
    fflush(stdout);
}

// mpirun gives rank 0 a terminal of its own as stdout, wherever the output goes; its stderr is a pipe.
static bool is_terminal(void) {
    return isatty(STDOUT_FILENO) != 0 && isatty(STDERR_FILENO) != 0;
}

void log_progress(const char *fmt, ...) {
    if (my_rank != 0) return;
    bool terminal = is_terminal();
    if (terminal) fputs("\r\033[K", stdout);
    va_list ap;
    va_start(ap, fmt);
    put_masked(fmt, ap);
    va_end(ap);
    if (!terminal) putchar('\n');
    line_open = terminal;
    fflush(stdout);
}

void log_warn(const char *fmt, ...) {
    end_line();
    char text[LINE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    text_mask(text, strlen(text));
    if (my_size > 1) {
        fprintf(stderr, "sterna: [rank %d] warning: %s\n", my_rank, text);
    } else {
        fprintf(stderr, "sterna: warning: %s\n", text);
    }
}

void print_result(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    put_masked(fmt, ap);
    va_end(ap);
}

void print_text(const char *text, size_t bytes) {
    char piece[LINE_BYTES];
    bool terminal = is_terminal();
    for (size_t at = 0, n; at < bytes; at += n) {
        n = bytes - at < sizeof piece ? bytes - at : sizeof piece;
        while (n > 1 && at + n < bytes && ((unsigned char)text[at + n] & 0xC0) == 0x80) n--;
        memcpy(piece, text + at, n);
        if (terminal) text_mask(piece, n);
        fwrite(piece, 1, n, stdout);
    }
}

void log_error(Status st) {
    end_line();
    fflush(stdout);
    fprintf(stderr, "sterna: %s\n", err_message()[0] != '\0' ? err_message() : status_text(st));
    if (err_hint()[0] != '\0') fprintf(stderr, "  hint: %s\n", err_hint());
    fflush(stderr);
}

double clock_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
