// A directory of its own for a test, and a short way to say "this failed with that message".
#pragma once

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/status.h"
#include "tests/ref/tree.h"

static inline void temp_open(char dir[PATH_BYTES]) {
    const char *root = getenv("TMPDIR");
    path_join(dir, root != NULL && strlen(root) < 200 ? root : "/tmp", "sterna-test-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
}

static inline void temp_close(const char *dir) {
    cr_assert_eq(tree_remove(dir), OK, "%s", err_message());
}

// Evaluates `call`, and expects this status and this part of the message.
#define EXPECT_FAIL(call, status, part)                                                            \
    do {                                                                                           \
        err_clear();                                                                               \
        Status got_ = (call);                                                                      \
        cr_expect_eq(got_, status, "%s, not %s", status_name(got_), #status);                      \
        cr_expect(strstr(err_message(), part) != NULL, "no '%s' in '%s'", part, err_message());    \
        cr_expect(err_hint()[0] != '\0', "no hint for '%s'", err_message());                       \
    } while (0)
#define EXPECT_OK(call) cr_expect_eq(call, OK, "%s", err_message())
#define ASSERT_OK(call) cr_assert_eq(call, OK, "%s", err_message())
