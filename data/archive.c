// ar (the traditional "!<arch>" format of deb(5)) around tar (POSIX.1 ustar with GNU long names and
// pax paths).
#include "data/archive.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/decompress.h"

enum { AR_HEADER = 60, TAR_BLOCK = 512, TAR_NAME = 100, TAR_PREFIX_AT = 345, TAR_PREFIX = 155 };
enum { LONG_NAME_LIMIT = 4096, MAX_MEMBERS = 16 };

const ArchiveLimits ARCHIVE_LIMITS = {
    .total_bytes = (uint64_t)2 << 30, .file_bytes = (uint64_t)256 << 20, .files = 100000};

static const char DAMAGED[] =
    "replace it with a whole copy; a download below data.cache: delete it, it is fetched again";

// --- names ---

bool path_safe(const char *path) {
    if (path[0] == '\0' || path[0] == '/' || strlen(path) >= PATH_BYTES / 2) return false;
    for (const char *p = path; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f || *p == '\\') return false;
    }
    // Every part between slashes: ".." anywhere could climb out.
    for (const char *part = path;;) {
        size_t n = strcspn(part, "/");
        if (n == 2 && part[0] == '.' && part[1] == '.') return false;
        if (part[n] == '\0') return true;
        part += n + 1;
    }
}

bool path_wanted(const char *path, const char *wanted) {
    bool yes = false;
    while (*wanted != '\0') {
        size_t n = strcspn(wanted, " ");
        char pattern[256];
        bool exclude = wanted[0] == '!';
        snprintf(pattern, sizeof pattern, "%.*s", (int)(n - exclude), wanted + exclude);
        // No FNM_PATHNAME: '*' crosses directories, so that a pattern need not know a version's
        // directory.
        if (n > 0 && fnmatch(pattern, path, 0) == 0) yes = !exclude;
        wanted += n;
        while (*wanted == ' ') wanted++;
    }
    return yes;
}

// --- ar ---

// Decimal number in a blank-padded field; UINT64_MAX when it is none.
static uint64_t ar_number(const char *field, size_t width) {
    // Digits, then nothing but blanks.
    uint64_t v = 0;
    size_t i = 0;
    for (; i < width && field[i] >= '0' && field[i] <= '9'; i++)
        v = v * 10 + (uint64_t)(field[i] - '0');
    bool digits = i > 0;
    for (; i < width; i++) digits = digits && field[i] == ' ';
    return digits ? v : UINT64_MAX;
}

// Leaves `f` at the data of member data.tar*, whose size is *bytes.
static Status ar_find_data(FILE *f, uint64_t *bytes, const char *name) {
    char magic[8];
    if (fread(magic, 1, sizeof magic, f) != sizeof magic || memcmp(magic, "!<arch>\n", 8) != 0) {
        FAIL(E_FORMAT, DAMAGED, "%s: not a Debian package", name);
    }
    for (int member = 0; member < MAX_MEMBERS; member++) {
        char h[AR_HEADER];
        if (fread(h, 1, sizeof h, f) != sizeof h) break;
        *bytes = ar_number(h + 48, 10);
        if (h[58] != '`' || h[59] != '\n' || *bytes == UINT64_MAX) break;
        if (memcmp(h, "data.tar", 8) == 0) return OK;
        // Members start at even offsets.
        if (fseeko(f, (off_t)(*bytes + (*bytes & 1)), SEEK_CUR) != 0) break;
    }
    FAIL(E_FORMAT, DAMAGED, "%s: has no data.tar member", name);
}

// --- tar ---

typedef struct Tar {
    Decompressor *in;
    const char *name, *dir, *wanted;
    const ArchiveLimits *limits;
    uint64_t files, bytes;                // kept so far
    char long_name[LONG_NAME_LIMIT + 1];  // for the next entry; "" = none
} Tar;

typedef struct TarEntry {
    char path[LONG_NAME_LIMIT + 1];
    uint64_t bytes;
    char type;
} TarEntry;

// Exactly `bytes`, or the archive is damaged.
static Status tar_read(Tar *t, void *out, size_t bytes) {
    size_t got;
    TRY(decompressor_read(t->in, out, bytes, &got));
    if (got < bytes) FAIL(E_FORMAT, DAMAGED, "%s: archive ends early", t->name);
    return OK;
}

// Streams cannot seek: what is not wanted is decompressed and dropped.
static Status tar_skip(Tar *t, uint64_t bytes) {
    char waste[8192];
    while (bytes > 0) {
        size_t n = bytes < sizeof waste ? (size_t)bytes : sizeof waste;
        TRY(tar_read(t, waste, n));
        bytes -= n;
    }
    return OK;
}

// Entries fill whole blocks.
static uint64_t padding(uint64_t bytes) {
    return (TAR_BLOCK - bytes % TAR_BLOCK) % TAR_BLOCK;
}

// Octal, or base 256 when the top bit of the first byte is set (GNU). UINT64_MAX: not a number.
static uint64_t tar_number(const unsigned char *field, size_t width) {
    uint64_t v = 0;
    if (field[0] & 0x80) {
        for (size_t i = 1; i < width; i++) {
            if (v >> 55 != 0) return UINT64_MAX;
            v = v << 8 | field[i];
        }
        return v;
    }
    size_t i = 0;
    while (i < width && field[i] == ' ') i++;
    for (; i < width && field[i] >= '0' && field[i] <= '7'; i++)
        v = v << 3 | (uint64_t)(field[i] - '0');
    return i < width && field[i] != ' ' && field[i] != '\0' ? UINT64_MAX : v;
}

// The sum of all bytes of the header, its own field counted as blanks.
static bool checksum_right(const unsigned char *block) {
    uint64_t sum = 0;
    for (int i = 0; i < TAR_BLOCK; i++) sum += i >= 148 && i < 156 ? ' ' : block[i];
    return sum == tar_number(block + 148, 8);
}

// One header; entry->type '\n' marks the end of the archive.
static Status tar_header(Tar *t, TarEntry *entry) {
    unsigned char block[TAR_BLOCK];
    static const unsigned char ZERO[TAR_BLOCK];
    size_t got;
    TRY(decompressor_read(t->in, block, sizeof block, &got));
    if (got == 0 || (got == TAR_BLOCK && memcmp(block, ZERO, TAR_BLOCK) == 0)) {
        entry->type = '\n';
        return OK;
    }
    entry->bytes = got < TAR_BLOCK ? UINT64_MAX : tar_number(block + 124, 12);
    if (got < TAR_BLOCK || entry->bytes == UINT64_MAX || !checksum_right(block)) {
        FAIL(E_FORMAT, DAMAGED, "%s: corrupt tar header", t->name);
    }
    const char *name = (const char *)block, *prefix = name + TAR_PREFIX_AT;
    entry->type = (char)block[156];
    bool posix = memcmp(block + 257, "ustar\0", 6) == 0 && prefix[0] != '\0';
    // The name: given in full by an entry before, or prefix and name of ustar, or the name alone.
    if (t->long_name[0] != '\0') {
        memcpy(entry->path, t->long_name, sizeof entry->path);
    } else {
        snprintf(entry->path, sizeof entry->path, "%.*s%s%.*s", posix ? TAR_PREFIX : 0, prefix,
                 posix ? "/" : "", TAR_NAME, name);
    }
    return OK;
}

// A pax header is a list of records "LENGTH key=value\n"; only the path matters here.
static void pax_path(Tar *t, const char *records, size_t bytes) {
    for (size_t at = 0; at < bytes;) {
        size_t n = 0, i = at;
        for (; i < bytes && records[i] >= '0' && records[i] <= '9' && n < bytes; i++) {
            n = n * 10 + (size_t)(records[i] - '0');
        }
        if (n == 0 || n > bytes - at || i >= at + n || records[i] != ' ') return;
        const char *key = records + i + 1;
        size_t left = at + n - (i + 1);
        if (left > 6 && memcmp(key, "path=", 5) == 0) {
            snprintf(t->long_name, sizeof t->long_name, "%.*s", (int)(left - 6), key + 5);
        }
        at += n;
    }
}

// Entry types that describe the next entry: GNU 'L' holds its name, pax 'x' holds records.
static Status tar_long_name(Tar *t, const TarEntry *entry) {
    if (entry->bytes > LONG_NAME_LIMIT) {
        FAIL(E_FORMAT, DAMAGED, "%s: a path of %llu bytes", t->name,
             (unsigned long long)entry->bytes);
    }
    char text[LONG_NAME_LIMIT + 1];
    TRY(tar_read(t, text, (size_t)entry->bytes));
    text[entry->bytes] = '\0';
    if (entry->type == 'L') {
        memcpy(t->long_name, text, (size_t)entry->bytes + 1);
    } else {
        pax_path(t, text, (size_t)entry->bytes);
    }
    return tar_skip(t, padding(entry->bytes));
}

// Plain, not synced: hundreds of small files, which the caller counts again before it trusts them.
static Status file_put(const char *path, const char *data, size_t bytes) {
    FILE *f = fopen(path, "wb");
    bool whole = f != NULL && fwrite(data, 1, bytes, f) == bytes;
    if (f != NULL && fclose(f) != 0) whole = false;
    if (!whole) FAIL(E_IO, "check permissions and free space", "%s: %s", path, strerror(errno));
    return OK;
}

// Writes one wanted file; everything about it is checked before a byte is read.
static Status tar_keep(Tar *t, const char *path, uint64_t bytes) {
    if (!path_safe(path)) {
        FAIL(E_FORMAT, "do not use this file", "%s: unsafe path '%.200s'", t->name, path);
    }
    if (bytes > t->limits->file_bytes || ++t->files > t->limits->files) {
        FAIL(E_FORMAT, "do not use this file: it unpacks to an unreasonable size",
             "%s: '%.200s' is beyond the limits", t->name, path);
    }
    char target[PATH_BYTES], parent[PATH_BYTES];
    int n = snprintf(target, sizeof target, "%s/%s", t->dir, path);
    if (n >= (int)sizeof target - 8) {
        FAIL(E_IO, "use a cache directory with a shorter name", "%s: path is too long", target);
    }
    memcpy(parent, target, sizeof parent);
    *strrchr(parent, '/') = '\0';

    char *data = malloc((size_t)bytes + 1);
    if (data == NULL) FAIL(E_NOMEM, "free some memory", "%s: no memory to unpack it", t->name);
    Status st = tar_read(t, data, (size_t)bytes);
    if (st == OK) st = dir_make(parent);
    if (st == OK) st = file_put(target, data, (size_t)bytes);
    free(data);
    t->bytes += bytes;
    return st;
}

// The loop over entries. Links, devices and directories are skipped like unwanted files: nothing
// but regular files is ever made, so no link of the archive can redirect a later one.
static Status tar_unpack(Tar *t) {
    for (;;) {
        TarEntry entry;
        TRY(tar_header(t, &entry));
        if (entry.type == '\n') return OK;
        if (entry.type == 'L' || entry.type == 'x') {
            TRY(tar_long_name(t, &entry));
            continue;
        }
        // It held for this entry only.
        t->long_name[0] = '\0';
        const char *path = entry.path;
        while (path[0] == '.' && path[1] == '/') path += 2;
        bool regular = entry.type == '0' || entry.type == '\0';
        if (regular && path_wanted(path, t->wanted)) {
            TRY(tar_keep(t, path, entry.bytes));
        } else {
            TRY(tar_skip(t, entry.bytes));
        }
        TRY(tar_skip(t, padding(entry.bytes)));
    }
}

// --- public ---

Status deb_unpack(const char *deb, const char *dir, const char *wanted, const ArchiveLimits *limits,
                  ArchiveCount *count) {
    Status st = OK;
    uint64_t bytes = 0;
    Tar *t = calloc(1, sizeof *t);
    if (t == NULL) FAIL(E_NOMEM, "free some memory", "%s: no memory to unpack it", deb);
    FILE *f = fopen(deb, "rb");
    if (f == NULL) {
        st = err_set(E_IO, "check the path and its permissions", "%s: %s", deb, strerror(errno));
        goto done;
    }
    TRY_GOTO(ar_find_data(f, &bytes, deb));
    *t = (Tar){.name = deb, .dir = dir, .wanted = wanted, .limits = limits};
    TRY_GOTO(decompressor_open(&t->in, f, bytes, limits->total_bytes, deb));
    TRY_GOTO(tar_unpack(t));
    if (count != NULL) *count = (ArchiveCount){t->files, t->bytes};
done:
    decompressor_close(t->in);
    if (f != NULL) fclose(f);
    free(t);
    return st;
}
