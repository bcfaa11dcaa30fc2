// The only place that prints, besides the sub-commands' own results.
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"

enum { LINE_BYTES = 4096 };  // a longer line is cut

static int my_rank = 0, my_size = 1;
static bool line_open = false;  // a progress line waits for its newline
static bool line_lost = false;  // a line of the log, and that has been said
static int result_lost = 0;     // errno of the first part of a result that could not be written

// A closed stream's number would be the next file's: lines would go into it. /dev/null takes it,
// opened the wrong way round, so that using it is the error it was.
static void stream_open(int fd, int mode) {
    if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF) return;
    int null = open("/dev/null", mode);  // the lowest number that is free: this one
    if (null != fd && null >= 0) close(null);
}

// Not SIG_IGN, which the programs that this one starts would inherit.
static void pipe_unread(int signal) {
    (void)signal;
}

void log_begin(void) {
    stream_open(STDIN_FILENO, O_WRONLY);
    stream_open(STDOUT_FILENO, O_RDONLY);
    stream_open(STDERR_FILENO, O_RDONLY);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = pipe_unread;
    action.sa_flags = SA_RESTART;
    sigaction(SIGPIPE, &action, NULL);
}

// 0, or why standard output does not take what was written. The stream can be used again.
static int stdout_error(void) {
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) return 0;
    int why = errno;
    clearerr(stdout);
    struct pollfd pipe = {STDOUT_FILENO, POLLOUT, 0};
    if (why == 0 && poll(&pipe, 1, 0) > 0 && (pipe.revents & POLLERR) != 0) why = EPIPE;
    return why != 0 ? why : EIO;  // a write before this one failed, and its errno is gone
}

bool output_flush(void) {
    int why = stdout_error();
    if (result_lost == 0) result_lost = why;
    return result_lost == 0;
}

Status output_end(bool *unread) {
    *unread = false;
    if (output_flush()) return OK;
    *unread = result_lost == EPIPE;
    FAIL(E_IO, "is the disk full?", "standard output: %s", strerror(result_lost));
}

void log_set_rank(int rank, int size) {
    my_rank = rank;
    my_size = size;
}

static void line_end(void) {
    int why = stdout_error();
    if (why == 0 || line_lost) return;
    line_lost = true;
    log_warn("standard output: %s; lines of the log are lost, the work goes on", strerror(why));
}

// What comes before a line of the log.
static void line_begin(void) {
    if (!line_open) {
        output_flush();  // a result is not the log's to lose
        return;
    }
    line_open = false;
    putchar('\n');
    line_end();
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
    line_begin();
    va_list ap;
    va_start(ap, fmt);
    put_masked(fmt, ap);
    va_end(ap);
    putchar('\n');
    line_end();
}

// mpirun gives rank 0 a terminal of its own as stdout, wherever the output goes; its stderr is a
// pipe.
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
    line_end();
}

void log_warn(const char *fmt, ...) {
    line_begin();
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
    line_begin();
    output_flush();
    fprintf(stderr, "sterna: %s\n", err_message()[0] != '\0' ? err_message() : status_text(st));
    if (err_hint()[0] != '\0') fprintf(stderr, "  hint: %s\n", err_hint());
    fflush(stderr);
}
