// Runs another program and reads what it prints: APT is asked for addresses, and used when libcurl
// cannot fetch.
#pragma once

#include "base/status.h"

// argv is NULL-terminated, argv[0] is searched in PATH, no shell is involved; dir is its working
// directory (NULL: ours). *output: its standard output, malloc'ed, NUL-terminated, at most 1 MiB.
// E_NETWORK: cannot be started, exit code not 0 (with its last line on standard error), or not done
// after timeout_s (it is killed then): what it stands for is out of reach. E_IO, E_NOMEM: our own
// means.
Status command_read(char **output, const char *const argv[], const char *dir,
                    double timeout_s) CHECKED;
