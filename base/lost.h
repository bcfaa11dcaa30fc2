// A mapped file that somebody cuts short while it is in use ends the program by SIGBUS at the next
// look at what is gone. With the mappings noted here it ends as any other failure of a file does:
// by a message that names it, on all ranks, and the exit code of E_IO.
#pragma once

#include <stddef.h>

// Notes a mapping, or forgets it. The first one installs the handler. Safe to call from any thread.
void lost__watch(const char *path, const void *data, size_t bytes);
void lost__forget(const void *data);
