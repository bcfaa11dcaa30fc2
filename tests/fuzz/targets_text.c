// Text of users and packages on its way to documents: compression, archives, the user's files,
// normalisation.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/archive.h"
#include "data/decompress.h"
#include "data/sources/formats.h"
#include "data/sources/sources.h"
#include "data/text.h"
#include "fuzz.h"
#include "tokenizer/internal.h"

// --- normalisation ---

// Valid UTF-8 comes out, and the same again.
static void run_normalise(const uint8_t *data, size_t bytes) {
    size_t once_bytes, twice_bytes;
    NormaliseCounts counts = {0};
    char *once = normalise_text((const char *)data, bytes, &once_bytes, NULL);
    char *twice = normalise_text(once, once_bytes, &twice_bytes, &counts);
    ASSERT(once[once_bytes] == '\0' && utf8__valid_prefix(once, once_bytes) == once_bytes);
    ASSERT(memchr(once, '\0', once_bytes) == NULL && memchr(once, '\r', once_bytes) == NULL);
    ASSERT(twice_bytes == once_bytes && memcmp(once, twice, once_bytes) == 0);
    ASSERT(counts.invalid_bytes == 0 && counts.removed_chars == 0 && counts.blank_lines == 0);
    // A beginning of it, up to a whole character, stays as it is.
    size_t cut = once_bytes / 2, kept;
    while (cut > 0 && ((unsigned char)once[cut] & 0xC0) == 0x80) cut--;
    char *beginning = normalise_beginning(once, cut, &kept);
    ASSERT(kept == cut && memcmp(beginning, once, cut) == 0);
    free(beginning);
    free(once);
    free(twice);
}

static void seed_normalise(void) {
    fuzz_seed_texts(
        (const char *const[]){"\xEF\xBB\xBF"
                              "a\r\nb\r\rc \t\n\n\n\n\nd\xC2\xA0\xC2\xAD"
                              "e\xE2\x80\xA8",
                              "e\xCC\x81\xCC\xA7 \xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8 \xE2\x84\xAB",
                              "\xE0\xBD\xB1\xE0\xBD\xB2\xE0\xBD\xB4 "
                              "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7 x\xE2\x80\x8Dy",
                              "\xFF\xFE"
                              "a\0b\xED\xA0\x80",
                              NULL});
}

// --- the user's own files: the first part is the name ---

static void check_docs(DocList *docs) {
    for (size_t i = 0; i < docs->count; i++) {
        const Doc *d = &docs->docs[i];
        ASSERT(d->bytes > 0 && d->text[d->bytes] == '\0' &&
               memchr(d->title, '\0', sizeof d->title) != NULL);
    }
    ASSERT(docs_normalise(docs, 0.01, NULL) == OK);
    doclist_free(docs);
}

static void run_local(const uint8_t *data, size_t bytes) {
    static const char *const NAMES[] = {"a.txt",      "a.jsonl", "b.md",     "a.txt.gz",
                                        "a.JSONL.gz", "a.json",  "a.ndjson", "a.txt.zst"};
    if (bytes == 0) return;
    const char *name = NAMES[data[0] % (sizeof NAMES / sizeof NAMES[0])];
    const char *path = fuzz_file(name, data + 1, bytes - 1);
    const TextLimits limits = {0.01, 0.5};
    DocList docs = {0};
    Cleaning cleaned = {0};
    (void)!local_read(&docs, path, 1, 0, &limits, &cleaned);
    check_docs(&docs);
    (void)!local_read(&docs, fuzz_dir(), 1, 1 << 12, &TEXT_LIMITS, &cleaned);
    check_docs(&docs);
}

static void seed_local(void) {
    fuzz_seed_texts((const char *const[]){
        "\1{\"text\":\"Ein "
        "Text\",\"title\":\"T\"}\n\n{\"text\":\"zwei\\u0000\\ud83d\\ude00\",\"n\":[1]}\n",
        "\5Ein Text\r\n", "\1{\"text\":1}\n{\"title\":\"x\"}\n", NULL});
}

// --- encodings ---

// Text of UTF-16 and UTF-32 comes out as UTF-8, other text as it was.
static void run_encoding(const uint8_t *data, size_t bytes) {
    size_t n = bytes;
    char *text = fuzz_text((FuzzPart){(const char *)data, bytes});
    TextLook look = {NULL, NULL};
    if (text_decode(&text, &n, &look, 0.01, "input") == OK) {
        ASSERT(text[n] == '\0' && look.refused == NULL);
        if (look.from == NULL) ASSERT(n == bytes && (n == 0 || memcmp(text, data, n) == 0));
        TextSpan rest = text_skip_mark((TextSpan){text, n});
        ASSERT(rest.bytes <= n && (rest.at == NULL || rest.at + rest.bytes == text + n));
    } else {
        ASSERT(look.refused != NULL);
    }
    free(text);
}

static void seed_encoding(void) {
    fuzz_seed("\xFF\xFE"
              "a\0\xE4\0\x3D\xD8\x00\xDE",
              10);
    fuzz_seed("\xFE\xFF\0a\0\xE4", 6);
    fuzz_seed("\xFF\xFE\0\0a\0\0\0", 8);
    fuzz_seed("\0\0\xFE\xFF\0\0\0a", 8);
    fuzz_seed("\xEF\xBB\xBFUTF-8 \xC3\xA9", 11);
    fuzz_seed("Latin \xE4 1", 9);
}

// --- compression ---

static void run_compressed(const uint8_t *data, size_t bytes) {
    enum { LIMIT = 1 << 20 };
    FILE *f = fopen(fuzz_file("a.gz", data, bytes), "rb");
    Decompressor *d = NULL;
    char out[1 << 14];
    size_t total = 0, got = sizeof out;
    ASSERT(f != NULL);
    Status st = decompressor_open(&d, f, bytes, LIMIT, "a.gz");
    while (st == OK && got == sizeof out) {
        st = decompressor_read(d, out, sizeof out, &got);
        if (st == OK) total += got;
    }
    ASSERT(total <= LIMIT);
    decompressor_close(d);
    fclose(f);
}

// The member data.tar* of the golden packages is a stream of each kind.
static void seed_compressed(void) {
    static const char *const KINDS[] = {"gz", "xz", "zst"};
    for (int i = 0; i < 3; i++) {
        char path[PATH_BYTES], *deb;
        size_t bytes;
        snprintf(path, sizeof path, "%s/tests/golden/data/packages/small-%s.deb", FUZZ_SOURCE_DIR,
                 KINDS[i]);
        ASSERT(file_read(path, &deb, &bytes) == OK);
        char *at = deb;
        while (memcmp(at, "data.tar", 8) != 0) at++;
        fuzz_seed(at + 60, (size_t)(deb + bytes - (at + 60)));
        free(deb);
    }
}

// --- packages ---

static Status only_known(const char *name, void *user) {
    (void)user;
    ASSERT(strcmp(name, "in.deb") == 0 || strcmp(name, "out") == 0);
    return OK;
}

// Whatever the package says, it is unpacked below its directory.
static void unpack(const void *deb, size_t bytes) {
    static const ArchiveLimits LIMITS = {
        .total_bytes = 1 << 20, .file_bytes = 1 << 16, .files = 20};
    const char *path = fuzz_file("box/in.deb", deb, bytes), *out = fuzz_path("box/out/there/x");
    char dir[PATH_BYTES], box[PATH_BYTES];
    ArchiveCount count;
    snprintf(dir, sizeof dir, "%.*s", (int)(strlen(out) - 2), out);
    path_join(box, fuzz_dir(), "box");
    if (deb_unpack(path, dir, "* !*.html", &LIMITS, &count) == OK)
        ASSERT(count.files <= LIMITS.files && count.bytes <= LIMITS.total_bytes);
    ASSERT(dir_each(box, only_known, NULL) == OK);
    path_join(dir, box, "out");
    FileList files = {0};
    ASSERT(filelist_read(&files, dir, NULL) == OK);
    for (size_t i = 0; i < files.count; i++) ASSERT(strncmp(files.paths[i], "there/", 6) == 0);
    filelist_free(&files);
}

static void run_deb(const uint8_t *data, size_t bytes) {
    unpack(data, bytes);
}

// A plain tar inside, with the right sum in every header that the sizes lead to.
static void run_tar(const uint8_t *data, size_t bytes) {
    enum { AR = 8 + 60, BLOCK = 512 };
    char *deb = malloc(AR + bytes + 1);
    ASSERT(deb != NULL);
    snprintf(deb, AR + 1, "!<arch>\n%-16s%-12s%-6s%-6s%-8s%-10zu`\n", "data.tar", "0", "0", "0",
             "100644", bytes);
    if (bytes > 0) memcpy(deb + AR, data, bytes);
    for (size_t at = 0; at + BLOCK <= bytes;) {
        char *block = deb + AR + at, size[13] = "";
        unsigned sum = 8 * ' ';
        for (int i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? 0 : (unsigned char)block[i];
        snprintf(block + 148, 8, "%06o", sum);
        block[155] = ' ';
        memcpy(size, block + 124, 12);
        at += BLOCK + (strtoul(size, NULL, 8) + BLOCK - 1) / BLOCK * BLOCK;
    }
    unpack(deb, AR + bytes);
    free(deb);
}

// One entry: name, type and contents.
static size_t tar_entry(char *to, const char *name, char type, const char *text) {
    memset(to, 0, 1024);
    snprintf(to, 100, "%s", name);
    snprintf(to + 124, 12, "%011o", (unsigned)strlen(text));
    to[156] = type;
    memcpy(to + 257, "ustar\00000", 8);
    memcpy(to + 512, text, strlen(text));
    return strlen(text) == 0 ? 512 : 1024;
}

static void seed_tar(void) {
    static const struct {
        const char *name, *text;
        char type;
    } ENTRIES[] = {{"./usr/share/a.txt", "eins", '0'},
                   {"x", "a/very/long/name", 'L'},
                   {"short", "zwei", '0'},
                   {"x", "27 path=pax/name/of/it.txt\n", 'x'},
                   {"short", "drei", '0'},
                   {"link", "", '2'},
                   {"dir/", "", '5'},
                   {"../../escape", "vier", '0'},
                   {"/abs", "5", '0'}};
    char tar[16 * 1024];
    size_t used = 0;
    for (size_t i = 0; i < sizeof ENTRIES / sizeof ENTRIES[0]; i++) {
        used += tar_entry(tar + used, ENTRIES[i].name, ENTRIES[i].type, ENTRIES[i].text);
        fuzz_seed(tar, used);
    }
}

const FuzzTarget TEXT_TARGETS[] = {
    {"normalise", run_normalise, seed_normalise, NULL},
    {"local", run_local, seed_local, NULL},
    {"encoding", run_encoding, seed_encoding, NULL},
    {"compressed", run_compressed, seed_compressed,
     "tests/golden/data/history/usr/share/doc/debian-history/docs/*.gz"},
    {"deb", run_deb, NULL, "tests/golden/data/packages/*.deb"},
    {"tar", run_tar, seed_tar, NULL},
    {NULL, NULL, NULL, NULL},
};
