// Places by identity: spellings, links, parts that do not exist yet.
#include <criterion/criterion.h>
#include <unistd.h>

#include "base/path.h"
#include "temp.h"

static char root[PATH_BYTES];

// In a directory of its own: a/b/ and a/file; to_b, a/b/up and far are links.
static void setup(void) {
    temp_open(root);
    cr_assert_eq(chdir(root), 0);
    ASSERT_OK(dir_make("a/b"));
    ASSERT_OK(file_write("a/file", "x", 1));
    cr_assert_eq(symlink("a/b", "to_b") | symlink("..", "a/b/up") | symlink("none/here", "far"), 0);
}

static void cleanup(void) {
    cr_assert_eq(chdir("/"), 0);
    temp_close(root);
}

TestSuite(path, .init = setup, .fini = cleanup);

Test(path, spellings_and_links_of_one_place_are_one) {
    static const char *const SAME[] = {"a/b",      "./a/b", "a//b/",    "a/b/.",  "to_b",
                                       "a/../a/b", "to_b/", "a/b/up/b", "to_b/.", "./././to_b"};
    enum { COUNT = sizeof SAME / sizeof SAME[0] };
    char whole[PATH_BYTES];
    path_join(whole, root, "a/b");
    for (int i = 0; i < COUNT; i++) {
        cr_expect(path_is_within(SAME[i], whole) && path_is_within(whole, SAME[i]), "%s", SAME[i]);
        cr_expect(path_is_within(SAME[i], "a") && !path_is_within("a", SAME[i]), "%s", SAME[i]);
    }
}

Test(path, below_is_told_from_beside) {
    ASSERT_OK(dir_make("ab"));
    cr_expect(path_is_within("a/file", "a"));
    cr_expect(path_is_within("to_b/up/file", "a"));
    cr_expect(path_is_within("a", "/") && path_is_within("a", "."));
    cr_expect_not(path_is_within("ab", "a"));  // the same letters
    cr_expect_not(path_is_within("a/b", "a/file"));
    cr_expect_not(path_is_within("a", "a/b"));
}

Test(path, what_is_not_there_lies_where_it_would_be_made) {
    cr_expect(path_is_within("a/new/one", "a"));
    cr_expect(path_is_within("to_b/new", "a/b"));
    cr_expect(path_is_within("a/new/one", "./a//new"));
    cr_expect(path_is_within("new", "new/"));
    cr_expect(path_is_within(".new/x", ".new"));
    cr_expect_not(path_is_within("new", "a"));
    cr_expect_not(path_is_within("new", "new/one"));
    cr_expect_not(path_is_within("newer", "new"));
    cr_expect_not(path_is_within("a/new", "a/b/new"));
    cr_expect_not(path_is_within("a", "a/new"));
    cr_expect(path_is_within("far", "."));  // a link to nowhere is a name
    cr_expect_not(path_is_within("", "a") || path_is_within("a", ""));
}
