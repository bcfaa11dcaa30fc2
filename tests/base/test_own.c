// What carries a mark is replaced and removed; nothing else is touched.
#include <criterion/criterion.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/own.h"
#include "temp.h"

static bool names(const char *name, const void *user) {
    (void)user;
    return strcmp(name, "one") == 0 || strcmp(name, "two") == 0;
}
static bool deep_names(const char *name, const void *user) {
    (void)user;
    return strcmp(name, "sub/dir/one") == 0;
}
static bool knows(const char *path, const void *user) {
    char sign[PATH_BYTES];
    (void)user;
    path_join(sign, path, "one");
    return path_exists(sign);
}

static const OwnKind WHOLE = {
    .mark = ".mark", .what = "thing", .remedy = "go away", .whole = true, .names = names};
static const OwnKind KNOWN = {.mark = ".mark",
                              .what = "thing",
                              .remedy = "go away",
                              .whole = true,
                              .names = names,
                              .knows = knows};
static const OwnKind NESTED = {.mark = ".mark",
                               .what = "tree",
                               .remedy = "go away",
                               .whole = true,
                               .nested = true,
                               .names = deep_names};
static const OwnKind SHARED = {.mark = ".mark", .what = "run", .remedy = "go away", .names = names};

static char dir[PATH_BYTES];

static void setup(void) {
    temp_open(dir);
    cr_assert_eq(chdir(dir), 0);
}
static void cleanup(void) {
    cr_assert_eq(chdir("/"), 0);
    temp_close(dir);
}
TestSuite(own, .init = setup, .fini = cleanup);

static void put(const char *path) {
    EXPECT_OK(file_append_lines(path, path, strlen(path)));
}

static void expect_there(const char *path) {
    char *text = NULL;
    EXPECT_OK(file_read(path, &text, NULL));
    if (text != NULL) cr_expect_str_eq(text, path);
    free(text);
}

Test(own, what_it_made_it_removes) {
    ASSERT_OK(own_take("a/b", &WHOLE));
    cr_expect(own_is("a/b", &WHOLE));
    put("a/b/one");
    put("a/b/two" DRAFT_SUFFIX);
    put("a/b/two.tmp");  // of an earlier version
    EXPECT_OK(own_check("a/b", &WHOLE));
    EXPECT_OK(own_take("a/b", &WHOLE));
    EXPECT_OK(own_remove("a/b", &WHOLE));
    cr_expect_not(path_exists("a/b"));
    EXPECT_OK(own_remove("a/b", &WHOLE));  // missing is fine
    EXPECT_OK(own_check("a/b", &WHOLE));
}

Test(own, what_has_no_mark_stays_whatever_it_is_called) {
    ASSERT_OK(dir_make("d"));
    put("d/one");
    const char *is = "was not made by this program";
    EXPECT_FAIL(own_check("d", &WHOLE), E_USAGE, "d was not made by this program");
    EXPECT_FAIL(own_take("d", &WHOLE), E_USAGE, is);
    EXPECT_FAIL(own_remove("d", &WHOLE), E_USAGE, is);
    cr_expect_str_eq(err_hint(), "go away");
    ASSERT_OK(own_take("from", &WHOLE));
    put("from/two");
    EXPECT_FAIL(own_replace("from", "d", &WHOLE), E_USAGE, is);
    expect_there("d/one");
    expect_there("from/two");
    cr_expect_not(path_exists("d/.mark"));
}

Test(own, an_empty_directory_is_taken) {
    ASSERT_OK(dir_make("d"));
    EXPECT_OK(own_take("d", &WHOLE));
    cr_expect(own_is("d", &WHOLE));
    ASSERT_OK(dir_make("e"));
    EXPECT_OK(own_replace("d", "e", &WHOLE));
    cr_expect(own_is("e", &WHOLE) && !path_exists("d"));
}

Test(own, one_foreign_entry_keeps_all) {
    static const char *const FOREIGN[] = {"d/notes.txt", "d/one.txt", "d/.hidden", "d/sub/one",
                                          "d/On"};
    for (int i = 0; i < 5; i++) {
        ASSERT_OK(own_take("d", &WHOLE));
        if (i == 3) ASSERT_OK(dir_make("d/sub"));
        put("d/one");
        put(FOREIGN[i]);
        EXPECT_FAIL(own_remove("d", &WHOLE), E_USAGE, i == 3 ? "'sub'" : FOREIGN[i] + 2);
        expect_there("d/one");
        expect_there(FOREIGN[i]);
        cr_expect(own_is("d", &WHOLE));
        ASSERT_OK(tree_remove("d"));
    }
}

Test(own, links_are_not_followed_and_not_removed) {
    ASSERT_OK(own_take("real", &WHOLE));
    put("real/one");
    cr_assert_eq(symlink("real", "link"), 0);
    EXPECT_FAIL(own_remove("link", &WHOLE), E_USAGE, "link is a symbolic link");
    EXPECT_FAIL(own_take("link", &WHOLE), E_USAGE, "symbolic link");
    expect_there("real/one");
    ASSERT_OK(own_take("d", &WHOLE));
    cr_assert_eq(symlink("../real/one", "d/two"), 0);  // a name of ours, but we make no links
    EXPECT_FAIL(own_remove("d", &WHOLE), E_USAGE, "'two'");
    expect_there("real/one");
}

Test(own, files_in_the_place_of_a_directory_stay) {
    put("file");
    EXPECT_FAIL(own_remove("file", &WHOLE), E_USAGE, "file is not a directory");
    EXPECT_FAIL(own_take("file", &WHOLE), E_USAGE, "not a directory");
    EXPECT_FAIL(own_check("file", &SHARED), E_IO, "Not a directory");
    expect_there("file");
    ASSERT_OK(dir_make("d/.mark"));  // a directory is no mark
    put("d/one");
    EXPECT_FAIL(own_remove("d", &WHOLE), E_USAGE, "was not made");
}

Test(own, what_an_earlier_version_made_is_known) {
    ASSERT_OK(dir_make("d"));
    put("d/one");
    put("d/two");
    cr_expect(own_is("d", &KNOWN) && !own_is("d", &WHOLE));
    put("d/theirs");
    EXPECT_FAIL(own_remove("d", &KNOWN), E_USAGE, "theirs");
    cr_expect_not(path_exists("d/.mark"));  // refused before anything is touched
    cr_assert_eq(unlink("d/theirs"), 0);
    EXPECT_OK(own_remove("d", &KNOWN));
    cr_expect_not(path_exists("d"));
}

Test(own, trees_are_walked_by_their_paths) {
    ASSERT_OK(own_take("t", &NESTED));
    ASSERT_OK(dir_make("t/sub/dir"));
    ASSERT_OK(dir_make("t/sub/empty"));
    put("t/sub/dir/one");
    put("t/sub/one");
    EXPECT_FAIL(own_remove("t", &NESTED), E_USAGE, "'sub/one'");
    expect_there("t/sub/dir/one");
    cr_assert_eq(unlink("t/sub/one"), 0);
    EXPECT_OK(own_remove("t", &NESTED));
    cr_expect_not(path_exists("t"));
}

Test(own, shared_directories_keep_what_others_put_there) {
    ASSERT_OK(dir_make("s"));
    put("s/README");
    EXPECT_OK(own_check("s", &SHARED));
    EXPECT_OK(own_take("s", &SHARED));
    put("s/one");
    EXPECT_OK(own_take("s", &SHARED));
    ASSERT_OK(dir_make("u"));
    put("u/two");
    EXPECT_FAIL(own_take("u", &SHARED), E_USAGE, "u/two was not made by this program");
    cr_expect_not(path_exists("u/.mark"));
    cr_assert_eq(symlink("s", "link"), 0);
    EXPECT_OK(own_take("link", &SHARED));  // it may lie elsewhere
    expect_there("s/README");
}
