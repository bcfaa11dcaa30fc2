// Files: reading, atomic writing, directories, mappings, checksums; failures name the path and a
// way out.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <signal.h>
#include <unistd.h>

#include "base/file.h"
#include "temp.h"

static void expect_content(const char *path, const char *content) {
    char *text;
    size_t bytes;
    ASSERT_OK(file_read(path, &text, &bytes));
    cr_expect_eq(bytes, strlen(content));
    cr_expect_str_eq(text, content);
    free(text);
}

Test(file, paths_join_with_one_slash) {
    char p[PATH_BYTES];
    path_join(p, "a", "b");
    cr_expect_str_eq(p, "a/b");
    path_join(p, "a/", "b");
    cr_expect_str_eq(p, "a/b");
    path_join(p, "/", "b");
    cr_expect_str_eq(p, "/b");
    path_join(p, "", "b");
    cr_expect_str_eq(p, "b");
}

Test(file, what_is_written_is_read) {
    char dir[PATH_BYTES], path[PATH_BYTES], *text;
    size_t bytes;
    temp_open(dir);
    path_join(path, dir, "data");
    // Sizes around the buffers' edges, a NUL inside.
    static const size_t SIZES[] = {0, 1, 3, 7, 4095, 4096, 4097, 100001};
    for (size_t i = 0; i < sizeof SIZES / sizeof SIZES[0]; i++) {
        char *data = malloc(SIZES[i] + 1);
        for (size_t k = 0; k < SIZES[i]; k++) data[k] = (char)(k * 7);
        ASSERT_OK(file_write(path, data, SIZES[i]));
        ASSERT_OK(file_read(path, &text, &bytes));
        cr_assert_eq(bytes, SIZES[i]);
        cr_expect_eq(memcmp(text, data, bytes), 0);
        cr_expect_eq(text[bytes], '\0');
        uint64_t size;
        EXPECT_OK(file_size(path, &size));
        cr_expect_eq(size, SIZES[i]);
        free(text);
        free(data);
    }
    ASSERT_OK(file_read(path, &text, NULL));  // the length is optional
    free(text);
    temp_close(dir);
}

Test(file, look_tells_what_is_not_there_from_what_cannot_be_seen) {
    char dir[PATH_BYTES], path[PATH_BYTES], link[PATH_BYTES];
    temp_open(dir);
    path_join(path, dir, "file");
    ASSERT_OK(file_write(path, "x", 1));
    EXPECT_OK(path_look(path));
    EXPECT_OK(path_look(dir));
    path_join(path, dir, "none");
    EXPECT_FAIL(path_look(path), E_MISSING, "none: No such file");
    path_join(path, dir, "no/ne/at/all");
    EXPECT_FAIL(path_look(path), E_MISSING, "all: No such file");
    path_join(path, dir, "file/below");
    EXPECT_FAIL(path_look(path), E_IO, "Not a directory");

    // A link to a disk that is not mounted, as the name itself and on the way.
    path_join(link, dir, "link");
    cr_assert_eq(symlink("/nonexistent/disk", link), 0);
    EXPECT_FAIL(path_look(link), E_IO, "link is a link to a place that is not there");
    path_join(path, link, "run/ckpt");
    EXPECT_FAIL(path_look(path), E_IO, "link is a link to a place that is not there");
    EXPECT_FAIL(dir_make(link), E_IO, "is a link");
    EXPECT_FAIL(dir_make(path), E_IO, "is a link");
    EXPECT_FAIL(path_look("/nonexistent/disk/x"), E_MISSING, "No such file");
    cr_assert_eq(unlink(link), 0);
    cr_assert_eq(symlink("link", link), 0);
    EXPECT_FAIL(path_look(link), E_IO, "symbolic links");
    temp_close(dir);
}

static Status count_entries(const char *name, void *user) {
    (void)name;
    ++*(int *)user;
    return OK;
}

Test(file, probe_leaves_nothing) {
    char dir[PATH_BYTES], path[PATH_BYTES];
    int entries = 0;
    temp_open(dir);
    EXPECT_OK(dir_probe(dir));
    EXPECT_OK(dir_each(dir, count_entries, &entries));
    cr_expect_eq(entries, 0);
    path_join(path, dir, "none");
    EXPECT_FAIL(dir_probe(path), E_IO, "No such file");
    EXPECT_FAIL(dir_probe("/proc/self"), E_IO, "/proc/self");
    temp_close(dir);
}

Test(file, append_adds_whole_lines_to_the_end) {
    char dir[PATH_BYTES], path[PATH_BYTES];
    temp_open(dir);
    path_join(path, dir, "log");
    EXPECT_OK(file_append_lines(path, "one\n", 4));
    EXPECT_OK(file_append_lines(path, "", 0));
    EXPECT_OK(file_append_lines(path, "two\n", 4));
    expect_content(path, "one\ntwo\n");
    ASSERT_OK(file_write(path, "one\ntor", 7));
    EXPECT_OK(file_append_lines(path, "two\n", 4));
    expect_content(path, "one\ntor\ntwo\n");
    temp_close(dir);
}

Test(file, failures_name_path_reason_and_remedy) {
    char dir[PATH_BYTES], path[PATH_BYTES], *text;
    Mapping m;
    uint64_t size;
    temp_open(dir);
    path_join(path, dir, "missing/file");
    EXPECT_FAIL(file_read(path, &text, NULL), E_IO, "missing/file: No such file");
    cr_expect_null(text);
    EXPECT_FAIL(file_write(path, "x", 1), E_IO, "missing/file.sterna-tmp: No such file");
    EXPECT_FAIL(file_append_lines(path, "x", 1), E_IO, path);
    EXPECT_FAIL(file_map(path, &m), E_IO, path);
    EXPECT_FAIL(file_size(path, &size), E_IO, path);
    EXPECT_FAIL(dir_sync(path), E_IO, path);
    EXPECT_FAIL(file_read(dir, &text, NULL), E_IO, "Is a directory");
    EXPECT_FAIL(file_map(dir, &m), E_IO, "Is a directory");
    EXPECT_FAIL(file_size(dir, &size), E_IO, "Is a directory");
    temp_close(dir);
}

static bool is_full_device(const char *path) {
    int fd = open(path, O_WRONLY);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

Test(file, a_full_disk_is_told_as_such) {
    if (!is_full_device("/dev/full")) cr_skip("no /dev/full here");
    EXPECT_FAIL(file_append_lines("/dev/full", "x", 1), E_IO, "/dev/full: No space left");
    cr_expect(strstr(err_hint(), "free space") != NULL);
}

static void limit_file_size(rlim_t bytes) {
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
}

Test(file, a_failed_append_takes_back_its_part) {
    char dir[PATH_BYTES], path[PATH_BYTES];
    temp_open(dir);
    path_join(path, dir, "log");
    ASSERT_OK(file_append_lines(path, "one\n", 4));
    limit_file_size(6);
    EXPECT_FAIL(file_append_lines(path, "two\n", 4), E_IO, "log: File too large");
    limit_file_size(RLIM_INFINITY);
    expect_content(path, "one\n");
    EXPECT_OK(file_append_lines(path, "two\n", 4));
    expect_content(path, "one\ntwo\n");
    temp_close(dir);
}

// A limit on file sizes stands in for the full disk: the write fails in the middle.
Test(file, a_failed_write_leaves_the_old_file_and_no_rest) {
    char dir[PATH_BYTES], path[PATH_BYTES], temporary[PATH_BYTES];
    temp_open(dir);
    path_join(path, dir, "keep");
    path_join(temporary, dir, "keep" DRAFT_SUFFIX);
    ASSERT_OK(file_write(path, "old", 3));
    char *data = calloc(1, 1 << 20);
    cr_assert_not_null(data);
    struct rlimit before, small;
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 1 << 16;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    Status st = file_write(path, data, 1 << 20);
    setrlimit(RLIMIT_FSIZE, &before);
    cr_expect_eq(st, E_IO);
    cr_expect(strstr(err_message(), "keep.sterna-tmp: File too large") != NULL, "%s",
              err_message());
    cr_expect_not(path_exists(temporary));
    expect_content(path, "old");
    free(data);
    temp_close(dir);
}

Test(file, replacing_a_directory_fails_and_leaves_no_rest) {
    char dir[PATH_BYTES], sub[PATH_BYTES], temporary[PATH_BYTES];
    temp_open(dir);
    path_join(sub, dir, "sub");
    path_join(temporary, dir, "sub" DRAFT_SUFFIX);
    ASSERT_OK(dir_make(sub));
    EXPECT_FAIL(file_write(sub, "x", 1), E_IO, "cannot replace");
    cr_expect_not(path_exists(temporary));
    temp_close(dir);
}

Test(file, overlong_paths_are_refused) {
    char path[3000];
    memset(path, 'p', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    EXPECT_FAIL(file_write(path, "x", 1), E_IO, "File name too long");
    EXPECT_FAIL(dir_make(path), E_IO, "File name too long");
}

Test(file, directories_are_made_with_their_parents) {
    char dir[PATH_BYTES], deep[PATH_BYTES], file[PATH_BYTES], below[PATH_BYTES];
    temp_open(dir);
    path_join(deep, dir, "a//b/c/");
    EXPECT_OK(dir_make(deep));
    cr_expect(path_is_dir(deep));
    EXPECT_OK(dir_make(deep));  // again is fine
    EXPECT_OK(dir_sync(deep));
    path_join(file, dir, "plain");
    ASSERT_OK(file_write(file, "x", 1));
    cr_expect(path_exists(file));
    cr_expect_not(path_is_dir(file));
    path_join(below, file, "x");
    EXPECT_FAIL(dir_make(below), E_IO, "plain");
    EXPECT_FAIL(dir_make(file), E_IO, "Not a directory");
    EXPECT_FAIL(dir_make(""), E_IO, "No such file");
    temp_close(dir);
    cr_expect_not(path_exists(dir));
}

static void *make_deep(void *path) {
    return dir_make(path) == OK ? path : NULL;
}

Test(file, several_may_make_the_same_directory_at_once) {
    char dir[PATH_BYTES], deep[PATH_BYTES];
    temp_open(dir);
    path_join(deep, dir, "1/2/3/4/5/6/7");
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) cr_assert_eq(pthread_create(&threads[i], NULL, make_deep, deep), 0);
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(threads[i], &result);
        cr_expect_not_null(result);
    }
    temp_close(dir);
}

Test(file, a_single_file_is_removed_and_no_directory) {
    char dir[PATH_BYTES], path[PATH_BYTES];
    temp_open(dir);
    path_join(path, dir, "file");
    ASSERT_OK(file_write(path, "x", 1));
    EXPECT_OK(file_remove(path));
    cr_expect_not(path_exists(path));
    EXPECT_OK(file_remove(path));  // missing is fine
    ASSERT_OK(dir_make(path));
    EXPECT_FAIL(file_remove(path), E_IO, "cannot remove");
    cr_expect(path_is_dir(path));
    temp_close(dir);
}

// Neighbours that somebody else named are nobody's business but theirs.
Test(file, neighbours_of_a_written_file_stay) {
    static const char *const NAMES[] = {"a.tmp", "a.new", ".a", "a~", "a.sterna-tmp.txt"};
    char dir[PATH_BYTES], path[PATH_BYTES], other[PATH_BYTES];
    temp_open(dir);
    path_join(path, dir, "a");
    for (int i = 0; i < 5; i++) {
        path_join(other, dir, NAMES[i]);
        ASSERT_OK(file_append_lines(other, NAMES[i], strlen(NAMES[i])));
    }
    EXPECT_OK(file_write(path, "new", 3));
    for (int i = 0; i < 5; i++) {
        path_join(other, dir, NAMES[i]);
        expect_content(other, NAMES[i]);
    }
    temp_close(dir);
}

Test(file, what_a_killed_writer_left_is_written_anew) {
    char dir[PATH_BYTES], path[PATH_BYTES], rest[PATH_BYTES];
    temp_open(dir);
    path_join(path, dir, "a");
    path_join(rest, dir, "a" DRAFT_SUFFIX);
    ASSERT_OK(file_append_lines(rest, "a longer rest", 13));
    EXPECT_OK(file_write(path, "new", 3));
    expect_content(path, "new");
    cr_expect_not(path_exists(rest));
    temp_close(dir);
}

// The first writer's name was taken for a rest by the second: it must not rename the second's half.
Test(file, of_two_writers_at_once_one_is_told) {
    char dir[PATH_BYTES], path[PATH_BYTES];
    Draft first, second;
    temp_open(dir);
    path_join(path, dir, "a");
    ASSERT_OK(draft_open(&first, path));
    ASSERT_OK(write_all(first.fd, "first", 5, first.path));
    ASSERT_OK(draft_open(&second, path));
    EXPECT_FAIL(draft_commit(&first), E_IO, "another process");
    draft_drop(&first);
    cr_expect_not(path_exists(path));
    ASSERT_OK(write_all(second.fd, "second", 6, second.path));
    EXPECT_OK(draft_commit(&second));
    draft_drop(&second);
    expect_content(path, "second");
    temp_close(dir);
}

Test(file, links_stay_and_what_they_point_to_is_replaced) {
    char dir[PATH_BYTES], path[PATH_BYTES], link[PATH_BYTES];
    struct stat s;
    temp_open(dir);
    path_join(path, dir, "file");
    path_join(link, dir, "link");
    ASSERT_OK(file_write(path, "old", 3));
    cr_assert_eq(symlink("file", link), 0);
    EXPECT_OK(file_write(link, "new", 3));
    cr_expect(lstat(link, &s) == 0 && S_ISLNK(s.st_mode));
    expect_content(path, "new");
    cr_assert_eq(unlink(path), 0);
    EXPECT_FAIL(file_write(link, "new", 3), E_IO, "cannot replace");  // to a disk that is not there
    temp_close(dir);
}

Test(file, devices_are_written_and_not_replaced) {
    char dir[PATH_BYTES], fifo[PATH_BYTES], got[4] = "";
    struct stat s;
    temp_open(dir);
    path_join(fifo, dir, "fifo");
    cr_assert_eq(mkfifo(fifo, 0600), 0);
    int reader = open(fifo, O_RDONLY | O_NONBLOCK);
    EXPECT_OK(file_write(fifo, "abc", 3));
    cr_expect_eq(read(reader, got, 3), 3);
    cr_expect_str_eq(got, "abc");
    cr_expect(stat(fifo, &s) == 0 && S_ISFIFO(s.st_mode));
    close(reader);
    temp_close(dir);
}

// Names seen, joined; "stop" fails.
static Status collect(const char *name, void *user) {
    if (strcmp(name, "stop") == 0) FAIL(E_FORMAT, "hint", "stopped");
    strcat(user, name);
    strcat(user, " ");
    return OK;
}

Test(file, entries_come_sorted_until_a_failure) {
    char dir[PATH_BYTES], path[PATH_BYTES], seen[100] = "";
    temp_open(dir);
    EXPECT_OK(dir_each(dir, collect, seen));
    cr_expect_str_eq(seen, "");
    static const char *const NAMES[] = {"b", "a", "Z", ".hidden", "a1"};
    for (int i = 0; i < 5; i++) {
        path_join(path, dir, NAMES[i]);
        ASSERT_OK(file_write(path, "", 0));
    }
    EXPECT_OK(dir_each(dir, collect, seen));
    cr_expect_str_eq(seen, ".hidden Z a a1 b ");
    path_join(path, dir, "stop");
    ASSERT_OK(file_write(path, "", 0));
    path_join(path, dir, "z");
    ASSERT_OK(file_write(path, "", 0));
    seen[0] = '\0';
    EXPECT_FAIL(dir_each(dir, collect, seen), E_FORMAT, "stopped");
    cr_expect_str_eq(seen, ".hidden Z a a1 b ");
    EXPECT_FAIL(dir_each("/no/such/dir", collect, seen), E_IO, "/no/such/dir");
    temp_close(dir);
}

Test(file, mappings_show_the_file) {
    char dir[PATH_BYTES], path[PATH_BYTES];
    Mapping m;
    temp_open(dir);
    path_join(path, dir, "map");
    ASSERT_OK(file_write(path, "abc", 3));
    ASSERT_OK(file_map(path, &m));
    cr_expect_eq(m.bytes, 3);
    cr_expect_eq(memcmp(m.data, "abc", 3), 0);
    file_unmap(&m);
    cr_expect_null(m.data);
    file_unmap(&m);
    ASSERT_OK(file_write(path, "", 0));
    ASSERT_OK(file_map(path, &m));
    cr_expect_eq(m.bytes, 0);
    cr_expect_not_null(m.data);
    file_unmap(&m);
    temp_close(dir);
}

// Beyond the new end there are no pages: a look there is SIGBUS.
Test(file, a_mapped_file_that_is_cut_short_ends_the_program_with_74, .exit_code = 74) {
    char dir[PATH_BYTES], path[PATH_BYTES];
    static char data[1 << 16];
    Mapping other, m;
    temp_open(dir);
    path_join(path, dir, "other");
    ASSERT_OK(file_write(path, data, 10));
    ASSERT_OK(file_map(path, &other));
    file_unmap(&other);  // its place in the list is taken again
    path_join(path, dir, "cut");
    ASSERT_OK(file_write(path, data, sizeof data));
    ASSERT_OK(file_map(path, &m));
    cr_assert_eq(truncate(path, 100), 0);
    temp_close(dir);
    volatile char gone = m.data[sizeof data - 1];
    cr_assert_fail("read %d", gone);
}

Test(file, another_bus_error_keeps_its_meaning, .signal = SIGBUS) {
    char dir[PATH_BYTES], path[PATH_BYTES];
    Mapping m;
    temp_open(dir);
    path_join(path, dir, "whole");
    ASSERT_OK(file_write(path, "abc", 3));
    ASSERT_OK(file_map(path, &m));
    temp_close(dir);
    raise(SIGBUS);
    exit(3);
}

Test(file, pipes_are_read_to_their_end) {
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    char data[10000], path[64], *text;
    size_t bytes;
    memset(data, 'p', sizeof data);
    ASSERT_OK(write_all(ends[1], data, sizeof data, "pipe"));
    close(ends[1]);
    snprintf(path, sizeof path, "/dev/fd/%d", ends[0]);
    ASSERT_OK(file_read(path, &text, &bytes));
    cr_expect_eq(bytes, sizeof data);
    cr_expect_eq(memcmp(text, data, sizeof data), 0);
    free(text);
    close(ends[0]);
}

Test(file, a_closed_descriptor_is_an_error) {
    EXPECT_FAIL(write_all(-1, "x", 1, "nowhere"), E_IO, "nowhere");
    EXPECT_OK(write_all(-1, "", 0, "nowhere"));  // nothing to write, nothing to fail
}

// Values of the reference implementation (xxhsum -H3 and -H2) for no input.
Test(file, checksums_are_xxh3) {
    char hex[33];
    cr_expect_eq(hash64("", 0), 0x2d06800538d394c2u);
    hash128_hex(hex, hash128("", 0));
    cr_expect_str_eq(hex, "99aa06d3014798d86001c324468d497f");
    cr_expect_neq(hash64("a", 1), hash64("b", 1));
    Hash128 a = hash128("a", 1), b = hash128("b", 1);
    cr_expect(a.low != b.low && a.high != b.high);
}
