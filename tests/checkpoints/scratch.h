// A directory of its own for each test, removed afterwards.
#pragma once

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/ref/tree.h"

static char scratch[PATH_BYTES];

static inline void scratch_open(void) {
    snprintf(scratch, sizeof scratch, "/tmp/sterna_ckpt_XXXXXX");
    cr_assert_not_null(mkdtemp(scratch));
}

static inline void scratch_close(void) {
    cr_assert_eq(tree_remove(scratch), OK, "%s", err_message());
}

static inline const char *scratch_path(const char *name) {
    static char paths[4][PATH_BYTES];  // so that a few can be used in one expression
    static int next;
    char *path = paths[next++ % 4];
    path_join(path, scratch, name);
    return path;
}

static inline void scratch_write(const char *name, const void *data, size_t bytes) {
    cr_assert_eq(file_write(scratch_path(name), data, bytes), OK, "%s", err_message());
}
