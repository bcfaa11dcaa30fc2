// The only place that prints, besides the sub-commands' own results.
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

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

void log_info(const char *fmt, ...) {
    if (my_rank != 0) return;
    end_line();
    va_list ap;
    va_start(ap, fmt);
    vprintf(fmt, ap);
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
    vprintf(fmt, ap);
    va_end(ap);
    if (!terminal) putchar('\n');
    line_open = terminal;
    fflush(stdout);
}

void log_warn(const char *fmt, ...) {
    end_line();
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (my_size > 1) {
        fprintf(stderr, "sterna: [rank %d] warning: %s\n", my_rank, text);
    } else {
        fprintf(stderr, "sterna: warning: %s\n", text);
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
