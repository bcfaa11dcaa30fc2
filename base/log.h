// What the program tells people. Rank 0 prints information on stdout; every rank prints warnings on
// stderr with its rank. Nothing else in the product prints, except sub-commands printing their result.
#pragma once

#include "base/status.h"

void log_set_rank(int rank, int size);
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));  // rank 0 only
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
// The progress line: redrawn in place on a terminal, one plain line otherwise. Rank 0 only.
void log_progress(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
// Prints the kept error once, as "sterna: <message>" and "  hint: <hint>" on stderr.
void log_error(Status st);
double clock_s(void);  // monotonic seconds
