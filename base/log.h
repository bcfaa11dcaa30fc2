// What the program tells people. Rank 0 prints information on stdout; every rank prints warnings on
// stderr with its rank. Nothing else in the product prints, except sub-commands printing their
// result.
#pragma once

#include <stddef.h>

#include "base/status.h"

// First of all: closed standard streams are kept from becoming the numbers of files, and a pipe
// that nobody reads is an error of the write, not a signal. A line of the log that cannot be
// written is lost, with one warning; work goes on.
void log_begin(void);
void log_set_rank(int rank, int size);
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));  // rank 0 only
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
// The progress line: redrawn in place on a terminal, one plain line otherwise. Rank 0 only.
void log_progress(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
// printf for a sub-command's result that holds names or values of files: control characters but
// line ends and tabs become '?'. At most 4095 bytes.
void print_result(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
// Text as a result, for example a model's: byte by byte into a file or a pipe, masked likewise on a
// terminal. `text` does not end inside of a character.
void print_text(const char *text, size_t bytes);
// Prints the kept error once, as "sterna: <message>" and "  hint: <hint>" on stderr.
void log_error(Status st);
// What sub-commands print as their result. False: some of it could not be written, now or earlier.
bool output_flush(void);
// E_IO with the reason when it could not. *unread: what read it has ended, which is nobody's fault
// and is not told.
Status output_end(bool *unread) CHECKED;
