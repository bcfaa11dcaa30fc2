// Removing what a test made.
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"

static inline Status tree_remove(const char *path) {
    char command[PATH_BYTES + 32];
    snprintf(command, sizeof command, "/bin/rm -rf -- '%s'", path);
    return system(command) == 0 ? OK : err_set(E_IO, "", "%s", command);
}
