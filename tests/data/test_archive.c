// Packages: the three compressions of dpkg-deb, then everything an archive should not be.
#include "data/archive.h"
#include "data/decompress.h"
#include "data/text.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/file.h"
#include "tests/ref/tree.h"

static char dir[PATH_BYTES], out[PATH_BYTES], deb[PATH_BYTES];

static void dirs_open(void) {
    snprintf(dir, sizeof dir, "/tmp/sterna_archive_XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    path_join(out, dir, "out");
    path_join(deb, dir, "x.deb");
    cr_assert_eq(dir_make(out), OK);
}

static void dirs_close(void) {
    cr_assert_eq(tree_remove(dir), OK);
}

static bool out_has(const char *path) {
    char whole[PATH_BYTES];
    path_join(whole, out, path);
    return path_exists(whole);
}

// --- a writer of archives, good and bad ---

typedef struct Maker {
    char data[1 << 16];
    size_t bytes;
} Maker;

static void tar_sum(char *h) {
    unsigned sum = 0;
    memset(h + 148, ' ', 8);
    for (int i = 0; i < 512; i++) sum += (unsigned char)h[i];
    snprintf(h + 148, 8, "%06o", sum);
}

static void tar_add(Maker *m, const char *name, char type, const char *text,
                    unsigned long claimed) {
    char *h = m->data + m->bytes;
    memset(h, 0, 512);
    snprintf(h, 100, "%s", name);
    snprintf(h + 124, 12, "%011lo", claimed);
    h[156] = type;
    memcpy(h + 257, "ustar\00000", 8);
    tar_sum(h);
    m->bytes += 512;
    size_t n = strlen(text);
    memset(m->data + m->bytes, 0, (n + 511) / 512 * 512);
    memcpy(m->data + m->bytes, text, n);
    m->bytes += (n + 511) / 512 * 512;
}

static void tar_end(Maker *m) {
    memset(m->data + m->bytes, 0, 1024);
    m->bytes += 1024;
}

static void deb_write(const char *member, const char *data, size_t bytes) {
    FILE *f = fopen(deb, "wb");
    cr_assert_not_null(f);
    fprintf(f, "!<arch>\n%-16s%-12d%-6d%-6d%-8s%-10d`\n%s", "debian-binary", 0, 0, 0, "100644", 4,
            "2.0\n");
    fprintf(f, "%-16s%-12d%-6d%-6d%-8s%-10zu`\n", member, 0, 0, 0, "100644", bytes);
    cr_assert_eq(fwrite(data, 1, bytes, f), bytes);
    fclose(f);
}

static Status unpack(const char *wanted) {
    return deb_unpack(deb, out, wanted, &ARCHIVE_LIMITS, NULL);
}

static Status unpack_made(Maker *m) {
    deb_write("data.tar", m->data, m->bytes);
    return unpack("*");
}

// --- tests ---

static void check_golden(const char *kind) {
    char path[PATH_BYTES], *text;
    ArchiveCount count;
    snprintf(path, sizeof path, TEST_SOURCE_DIR "/golden/data/packages/small-%s.deb", kind);
    dirs_open();
    cr_assert_eq(deb_unpack(path, out, "*.txt *.pod !*/b.pod", &ARCHIVE_LIMITS, &count), OK,
                 "%s: %s", kind, err_message());
    cr_assert_eq(count.files, 3, "%s", kind);
    cr_assert(out_has("usr/share/doc/small/sub/c.txt"));
    cr_assert_not(out_has("usr/share/doc/small/b.pod"));
    cr_assert_not(out_has("usr/share/doc/small/link.txt"), "links are not followed nor made");
    path_join(path, out, "usr/share/doc/small/a.txt");
    cr_assert_eq(file_read(path, &text, NULL), OK);
    cr_assert_str_eq(text, "first\n");
    free(text);
    // A path beyond the 100 bytes of the old header, whichever way it was written.
    char deep[200] = "usr/share/doc/small/";
    memset(deep + 20, 'd', 90);
    deep[110] = '/';
    memset(deep + 111, 'e', 60);
    memcpy(deep + 171, ".txt", 5);
    cr_assert(out_has(deep));
    dirs_close();
}

Test(archive, unpacks_every_compression_of_dpkg_deb) {
    check_golden("xz");
    check_golden("zst");
    check_golden("gz");
    check_golden("plain");
}

Test(archive, every_truncation_is_a_format_error_and_never_a_crash) {
    static const char *const KINDS[] = {"xz", "zst", "gz"};
    dirs_open();
    for (int k = 0; k < 3; k++) {
        char path[PATH_BYTES], *data;
        size_t bytes;
        snprintf(path, sizeof path, TEST_SOURCE_DIR "/golden/data/packages/small-%s.deb", KINDS[k]);
        cr_assert_eq(file_read(path, &data, &bytes), OK);
        // The last bytes are padding of ar, or of the tar's end: from there on nothing is missing.
        for (size_t n = 0; n + 60 < bytes; n += 13) {
            FILE *f = fopen(deb, "wb");
            fwrite(data, 1, n, f);
            fclose(f);
            cr_assert_eq(unpack("*"), E_FORMAT, "%s cut to %zu of %zu", KINDS[k], n, bytes);
        }
        free(data);
    }
    dirs_close();
}

Test(archive, flipped_bytes_never_crash) {
    static const char *const KINDS[] = {"xz", "zst", "gz", "plain"};
    dirs_open();
    int failed = 0;
    for (int k = 0; k < 4; k++) {
        char path[PATH_BYTES], *data;
        size_t bytes;
        snprintf(path, sizeof path, TEST_SOURCE_DIR "/golden/data/packages/small-%s.deb", KINDS[k]);
        cr_assert_eq(file_read(path, &data, &bytes), OK);
        for (size_t i = 0; i < bytes; i += bytes / 60 + 1) {
            data[i] ^= 0x41;
            FILE *f = fopen(deb, "wb");
            fwrite(data, 1, bytes, f);
            fclose(f);
            failed += unpack("*") != OK;
            data[i] ^= 0x41;
        }
        free(data);
    }
    cr_assert_gt(failed, 60);
    dirs_close();
}

Test(archive, paths_that_leave_the_directory_are_refused) {
    static const char *const BAD[] = {
        "../up.txt", "a/../../up.txt", "/etc/sterna.txt", "a/..", "./../up.txt", "tab\tname", ".."};
    dirs_open();
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        Maker m = {.bytes = 0};
        tar_add(&m, BAD[i], '0', "evil", 4);
        tar_end(&m);
        cr_assert_eq(unpack_made(&m), E_FORMAT, "%s", BAD[i]);
        cr_assert_not_null(strstr(err_message(), "unsafe path"));
    }
    char above[PATH_BYTES];
    path_join(above, dir, "up.txt");
    cr_assert_not(path_exists(above));
    cr_assert(path_safe("a/b..c/...d"));
    dirs_close();
}

Test(archive, a_link_cannot_redirect_a_later_file) {
    dirs_open();
    Maker m = {.bytes = 0};
    tar_add(&m, "sub", '2', "", 0);  // a symbolic link to the directory above
    memcpy(m.data + 157, "..", 2);
    tar_sum(m.data);
    tar_add(&m, "sub/x.txt", '0', "text", 4);
    tar_end(&m);
    cr_assert_eq(unpack_made(&m), OK, "%s", err_message());
    char above[PATH_BYTES];
    path_join(above, dir, "x.txt");
    cr_assert_not(path_exists(above));
    cr_assert(out_has("sub/x.txt"));
    dirs_close();
}

Test(archive, pax_and_gnu_long_names_are_understood) {
    dirs_open();
    char name[300], record[400];
    memset(name, 'n', 250);
    memcpy(name + 120, "/", 1);
    snprintf(name + 250, 8, ".txt");
    Maker m = {.bytes = 0};
    snprintf(record, sizeof record, "264 path=%s\n", name);
    cr_assert_eq(strlen(record), 264);
    tar_add(&m, "pax", 'x', record, strlen(record));
    tar_add(&m, "short", '0', "1", 1);
    name[0] = 'g';
    tar_add(&m, "././@LongLink", 'L', name, strlen(name) + 1);
    tar_add(&m, "short", '0', "2", 1);
    tar_add(&m, "plain.txt", '0', "3", 1);
    tar_end(&m);
    cr_assert_eq(unpack_made(&m), OK, "%s", err_message());
    cr_assert(out_has(name));
    name[0] = 'n';
    cr_assert(out_has(name));
    cr_assert(out_has("plain.txt"));
    cr_assert_not(out_has("short"));
    dirs_close();
}

Test(archive, impossible_sizes_are_refused) {
    dirs_open();
    Maker m = {.bytes = 0};
    tar_add(&m, "huge.txt", '0', "x", 07777777777ul);  // 1 GiB claimed
    tar_end(&m);
    cr_assert_eq(unpack_made(&m), E_FORMAT);

    m.bytes = 0;
    tar_add(&m, "x.txt", '0', "x", 4000);  // more than there is
    cr_assert_eq(unpack_made(&m), E_FORMAT);

    m.bytes = 0;
    tar_add(&m, "x", 'L', "x", 100000);
    cr_assert_eq(unpack_made(&m), E_FORMAT);

    m.bytes = 0;
    tar_add(&m, "x.txt", '0', "x", 1);
    memset(m.data + 124, 0xFF, 12);  // base 256, beyond 64 bits
    tar_sum(m.data);
    cr_assert_eq(unpack_made(&m), E_FORMAT);
    dirs_close();
}

Test(archive, limits_hold_against_a_bomb) {
    dirs_open();
    // 64 MiB of zeros as one file: 64 KiB compressed.
    enum { BOMB = 64 << 20 };
    Maker m = {.bytes = 0};
    tar_add(&m, "bomb.txt", '0', "", BOMB);
    uLong most = compressBound(BOMB + 4096);
    char *packed = malloc(most), *zeros = calloc(1, 1 << 20);
    z_stream z = {.next_out = (Bytef *)packed, .avail_out = (uInt)most};
    cr_assert_eq(deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 9, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)m.data;
    z.avail_in = 512;
    deflate(&z, Z_NO_FLUSH);
    for (int i = 0; i < 64; i++) {
        z.next_in = (Bytef *)zeros;
        z.avail_in = 1 << 20;
        deflate(&z, i == 63 ? Z_FINISH : Z_NO_FLUSH);
    }
    deb_write("data.tar.gz", packed, z.total_out);
    cr_assert_lt(z.total_out, 100000);
    deflateEnd(&z);

    ArchiveLimits small = {.total_bytes = 32 << 20, .file_bytes = 128 << 20, .files = 10};
    cr_assert_eq(deb_unpack(deb, out, "*", &small, NULL), E_FORMAT);
    cr_assert_not_null(strstr(err_message(), "limit"));
    small = (ArchiveLimits){.total_bytes = 128 << 20, .file_bytes = 1 << 20, .files = 10};
    cr_assert_eq(deb_unpack(deb, out, "*", &small, NULL), E_FORMAT);
    cr_assert_eq(deb_unpack(deb, out, "nothing", &small, NULL), OK, "unwanted: only skipped");
    free(packed);
    free(zeros);
    dirs_close();
}

Test(archive, a_gzip_file_of_several_members_is_one_text) {
    dirs_open();
    char path[PATH_BYTES], *text;
    size_t bytes;
    path_join(path, dir, "x.gz");
    for (int i = 0; i < 3; i++) {
        gzFile g = gzopen(path, i == 0 ? "wb" : "ab");
        gzprintf(g, "part %d\n", i);
        gzclose(g);
    }
    cr_assert_eq(text_read(path, &text, &bytes), OK, "%s", err_message());
    cr_assert_str_eq(text, "part 0\npart 1\npart 2\n");
    cr_assert_eq(bytes, 21);
    free(text);
    char *packed;
    cr_assert_eq(file_read(path, &packed, &bytes), OK);
    cr_assert(is_packed(packed, bytes));
    cr_assert_eq(decompress_all(&text, &bytes, packed, bytes, 20, "x.gz"), E_FORMAT);
    cr_assert_null(text);
    free(packed);
    cr_assert_eq(file_write(path, "", 0), OK);
    cr_assert_eq(text_read(path, &text, &bytes), OK);
    cr_assert_eq(bytes, 0);
    free(text);
    cr_assert_eq(text_read("/nowhere/x.gz", &text, &bytes), E_IO);
    dirs_close();
}

Test(archive, wanted_patterns_include_exclude_and_cross_directories) {
    cr_assert(path_wanted("usr/share/a/b.pod", "*.pod"));
    cr_assert_not(path_wanted("usr/share/a/b.pod", "*.txt"));
    cr_assert_not(path_wanted("usr/share/a/b.pod", "*.pod !*/b.pod"));
    cr_assert(path_wanted("usr/share/a/b.pod", "!*/b.pod *.pod"), "the last that matches decides");
    cr_assert_not(path_wanted("a", ""));
}
