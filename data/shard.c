// The .tns shard: tokens of whole documents with their ends and ids, one checksum a section, read
// through a mapping.
//
// The layout, byte by byte: docs/formats.md 6. The header holds the sections' checksums and the
// footer the header's, so the footer stands for the whole file.
//
// Token width is 2 iff vocab <= 65536. A document is its tokens and one end-of-document token.
// Every byte is either checked by a hash or must be zero: no damage goes unseen.
#include "data/internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "shards are little-endian and are mapped as they are"
#endif

enum { VERSION = 1, HEADER_BYTES = 512, TABLE_AT = 80, ROW_BYTES = 32, ALIGN = 64 };
enum { SECTION_NONE, SECTION_TOKENS, SECTION_DOC_ENDS, SECTION_DOC_IDS, REQUIRED_SECTIONS = 3 };
enum { FLAG_BOUNDARIES = 2 };
enum { NARROW_VOCAB = 65536 };

// As PNG's: a high byte and both kinds of line end, so that a transfer in text mode is noticed.
static const char MAGIC[8] = {'\x89', 'T', 'N', 'S', '\r', '\n', '\x1a', '\n'};
static const char REBUILD[] =
    "the shard is damaged: remove the corpus directory and prepare it again";

static const char CHANGED[] =
    "find out what writes there, then give the same command again: the corpus is verified anew";

typedef struct TnsSection {
    uint32_t kind, codec;
    uint64_t offset, bytes, hash;
} TnsSection;
_Static_assert(sizeof(TnsSection) == ROW_BYTES, "section rows have no padding");

struct Shard {
    char path[PATH_BYTES];
    Mapping map;
    ShardInfo info;
    int width;
    uint64_t hash;  // of the header
    TnsSection section[REQUIRED_SECTIONS];
    const char *tokens;
    const uint64_t *doc_ends;
    struct stat file;  // when it was opened
};

static size_t align_up(size_t n) {
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

static void put(char *at, const void *value, size_t bytes) {
    memcpy(at, value, bytes);
}

static uint32_t get_u32(const char *at) {
    uint32_t v;
    memcpy(&v, at, sizeof v);
    return v;
}

static uint64_t get_u64(const char *at) {
    uint64_t v;
    memcpy(&v, at, sizeof v);
    return v;
}

// --- writing ---

// Zero bytes are already there: the file's buffer is calloc'ed.
static void header_write(char *file, const ShardInfo *info, uint8_t width) {
    uint32_t version = VERSION, header = HEADER_BYTES;
    uint8_t flags = FLAG_BOUNDARIES;
    put(file, MAGIC, sizeof MAGIC);
    put(file + 8, &version, 4);
    put(file + 12, &header, 4);
    put(file + 16, &width, 1);
    put(file + 17, &flags, 1);
    put(file + 24, &info->tokens, 8);
    put(file + 32, &info->docs, 8);
    put(file + 40, &info->vocab, 4);
    put(file + 44, &info->eod, 4);
    put(file + 48, &info->tokenizer.low, 8);
    put(file + 56, &info->tokenizer.high, 8);
    put(file + 64, &info->source, 4);
    put(file + 68, &info->number, 4);
}

static void tokens_write(char *dst, const int32_t *tokens, const ShardInfo *info, size_t width) {
    for (uint64_t i = 0; i < info->tokens; i++) {
        uint32_t id = (uint32_t)tokens[i];
        ASSERT(id < info->vocab);
        put(dst + i * width, &id, width);  // little-endian: the low bytes come first
    }
}

Status shard_write(const char *path, const ShardInfo *info, const int32_t *tokens,
                   const uint64_t *doc_ends, const uint64_t *doc_ids) {
    ASSERT(info->docs == 0 ? info->tokens == 0 : doc_ends[info->docs - 1] == info->tokens);
    size_t width = info->vocab <= NARROW_VOCAB ? 2 : 4;

    // Lay the sections out one after the other, then the footer.
    TnsSection section[REQUIRED_SECTIONS] = {
        {.kind = SECTION_TOKENS, .bytes = info->tokens * width},
        {.kind = SECTION_DOC_ENDS, .bytes = info->docs * 8},
        {.kind = SECTION_DOC_IDS, .bytes = info->docs * 8}};
    size_t total = HEADER_BYTES;
    for (int i = 0; i < REQUIRED_SECTIONS; i++) {
        section[i].offset = total;
        total = align_up(total + section[i].bytes);
    }
    char *file = calloc(total + 8, 1);
    if (file == NULL) FAIL(E_NOMEM, "use more ranks or less text", "%s: %zu bytes", path, total);

    header_write(file, info, (uint8_t)width);
    tokens_write(file + section[0].offset, tokens, info, width);
    if (info->docs > 0) {
        put(file + section[1].offset, doc_ends, section[1].bytes);
        put(file + section[2].offset, doc_ids, section[2].bytes);
    }
    for (int i = 0; i < REQUIRED_SECTIONS; i++) {
        section[i].hash = hash64(file + section[i].offset, section[i].bytes);
        put(file + TABLE_AT + i * ROW_BYTES, &section[i], ROW_BYTES);
    }
    uint64_t footer = hash64(file, HEADER_BYTES);
    put(file + total, &footer, 8);

    Status st = file_write(path, file, total + 8);
    free(file);
    return st;
}

// --- reading ---

// The fields that say how to read the rest. Their values are believed only within the file's size.
static Status header_check(Shard *s) {
    const char *h = s->map.data;
    if (s->map.bytes < HEADER_BYTES + 8)
        FAIL(E_FORMAT, REBUILD, "%s: truncated: %zu bytes are less than a header", s->path,
             s->map.bytes);
    if (memcmp(h, MAGIC, sizeof MAGIC) != 0)
        FAIL(E_FORMAT, "is this a token shard?", "%s: wrong magic bytes", s->path);
    s->hash = hash64(h, HEADER_BYTES);
    if (get_u64(h + s->map.bytes - 8) != s->hash)
        FAIL(E_FORMAT, REBUILD, "%s: truncated, or header checksum wrong", s->path);
    uint32_t version = get_u32(h + 8);
    if (version != VERSION)
        FAIL(version > VERSION ? E_NEWER : E_FORMAT,
             "use the version of sterna that wrote it, or another data.cache",
             "%s: shard version %u, this program reads %d", s->path, version, VERSION);
    s->info = (ShardInfo){.tokens = get_u64(h + 24),
                          .docs = get_u64(h + 32),
                          .vocab = get_u32(h + 40),
                          .eod = get_u32(h + 44),
                          .tokenizer = {get_u64(h + 48), get_u64(h + 56)},
                          .source = get_u32(h + 64),
                          .number = get_u32(h + 68)};
    s->width = (unsigned char)h[16];
    if (get_u32(h + 12) != HEADER_BYTES || s->width != (s->info.vocab <= NARROW_VOCAB ? 2 : 4) ||
        s->info.eod >= s->info.vocab || s->info.vocab > INT32_MAX || s->info.docs > s->info.tokens)
        FAIL(E_FORMAT, REBUILD, "%s: header fields contradict one another", s->path);
    return OK;
}

// The three sections must lie where shard_write puts them and fill the file exactly.
static Status table_check(Shard *s) {
    if (s->info.tokens > s->map.bytes)  // also keeps the products below from overflowing
        FAIL(E_FORMAT, REBUILD, "%s: %llu tokens in %zu bytes", s->path,
             (unsigned long long)s->info.tokens, s->map.bytes);
    const uint64_t bytes[REQUIRED_SECTIONS] = {s->info.tokens * (uint64_t)s->width,
                                               s->info.docs * 8, s->info.docs * 8};
    size_t at = HEADER_BYTES;
    for (int i = 0; i < REQUIRED_SECTIONS; i++) {
        TnsSection *row = &s->section[i];
        memcpy(row, s->map.data + TABLE_AT + i * ROW_BYTES, ROW_BYTES);
        if (row->kind != (uint32_t)(SECTION_TOKENS + i) || row->codec != 0 || row->offset != at ||
            row->bytes != bytes[i])
            FAIL(E_FORMAT, REBUILD, "%s: section %d is not where it should be", s->path, i);
        at = align_up(at + row->bytes);
    }
    if (at + 8 != s->map.bytes)
        FAIL(E_FORMAT, REBUILD, "%s: %zu bytes, the header says %zu", s->path, s->map.bytes,
             at + 8);
    s->tokens = s->map.data + s->section[0].offset;
    s->doc_ends = (const uint64_t *)(s->map.data + s->section[1].offset);
    return OK;
}

// Sections against their checksums, and zeros everywhere between them.
static Status sections_verify(const Shard *s) {
    static const char *const names[] = {"tokens", "document ends", "document ids"};
    size_t at = HEADER_BYTES;
    for (int i = 0; i < REQUIRED_SECTIONS; i++) {
        const TnsSection *row = &s->section[i];
        for (; at < row->offset; at++)
            if (s->map.data[at] != 0)
                FAIL(E_FORMAT, REBUILD, "%s: padding at byte %zu is not zero", s->path, at);
        if (hash64(s->map.data + row->offset, row->bytes) != row->hash)
            FAIL(E_FORMAT, REBUILD, "%s: checksum of the %s is wrong", s->path, names[i]);
        at = row->offset + row->bytes;
    }
    for (; at < s->map.bytes - 8; at++)
        if (s->map.data[at] != 0)
            FAIL(E_FORMAT, REBUILD, "%s: padding at byte %zu is not zero", s->path, at);
    return OK;
}

// One token, for the few that are looked at singly.
static int32_t token_at(const Shard *s, uint64_t i) {
    uint32_t id = 0;
    memcpy(&id, s->tokens + i * (uint64_t)s->width, (size_t)s->width);
    return (int32_t)id;
}

// One loop a width: verifying a corpus should cost what reading it costs.
static uint32_t largest_token(const Shard *s) {
    uint32_t largest = 0;
    if (s->width == 2) {
        const uint16_t *tokens = (const uint16_t *)s->tokens;
        for (uint64_t i = 0; i < s->info.tokens; i++)
            if (tokens[i] > largest) largest = tokens[i];
    } else {
        const uint32_t *tokens = (const uint32_t *)s->tokens;
        for (uint64_t i = 0; i < s->info.tokens; i++)
            if (tokens[i] > largest) largest = tokens[i];
    }
    return largest;
}

// A writer with a bug, or malice, can give wrong contents right checksums.
static Status contents_verify(const Shard *s) {
    uint64_t begin = 0;
    for (uint64_t d = 0; d < s->info.docs; d++) {
        uint64_t end = s->doc_ends[d];
        if (end <= begin || end > s->info.tokens)
            FAIL(E_FORMAT, REBUILD, "%s: document %llu ends at token %llu, after %llu of %llu",
                 s->path, (unsigned long long)d, (unsigned long long)end, (unsigned long long)begin,
                 (unsigned long long)s->info.tokens);
        if ((uint32_t)token_at(s, end - 1) != s->info.eod)
            FAIL(E_FORMAT, REBUILD, "%s: document %llu does not end with token %u", s->path,
                 (unsigned long long)d, s->info.eod);
        begin = end;
    }
    if (begin != s->info.tokens)
        FAIL(E_FORMAT, REBUILD, "%s: documents end at token %llu of %llu", s->path,
             (unsigned long long)begin, (unsigned long long)s->info.tokens);
    if (s->info.tokens > 0 && largest_token(s) >= s->info.vocab)
        FAIL(E_FORMAT, REBUILD, "%s: token %u is outside the vocabulary of %u", s->path,
             largest_token(s), s->info.vocab);
    return OK;
}

Status shard_open(Shard **out, const char *path, bool verify) {
    *out = NULL;
    Shard *s = calloc(1, sizeof *s);
    if (s == NULL) FAIL(E_NOMEM, NULL, "%s: no memory for the shard", path);
    Status st = OK;
    snprintf(s->path, sizeof s->path, "%s", path);
    uint64_t bytes;
    TRY_GOTO(file_size(path, &bytes));
    if (bytes == 0) {  // cannot be mapped
        st = err_set(E_FORMAT, REBUILD, "%s: truncated: the file is empty", path);
        goto done;
    }
    TRY_GOTO(file_map(path, &s->map));
    if (stat(path, &s->file) != 0 || (size_t)s->file.st_size != s->map.bytes) {
        st = err_set(E_IO, CHANGED, "%s: changes while it is opened", path);
        goto done;
    }
    TRY_GOTO(header_check(s));
    TRY_GOTO(table_check(s));
    if (verify) {
        TRY_GOTO(sections_verify(s));
        TRY_GOTO(contents_verify(s));
    }
    *out = s;
    return OK;
done:
    shard_close(s);
    return st;
}

void shard_close(Shard *s) {
    if (s == NULL) return;
    file_unmap(&s->map);
    free(s);
}

// A name that leads nowhere or elsewhere now is no change: the mapping keeps the file. One that
// only bears another time, as `touch` leaves it, must be what it was.
Status shard__unchanged(Shard *s) {
    struct stat now;
    if (stat(s->path, &now) != 0) return OK;
    const struct stat *then = &s->file;
    if (now.st_dev != then->st_dev || now.st_ino != then->st_ino) return OK;
    bool same_size = now.st_size == then->st_size;
    if (same_size && now.st_mtim.tv_sec == then->st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == then->st_mtim.tv_nsec)
        return OK;
    if (!same_size || hash64(s->map.data, HEADER_BYTES) != s->hash || sections_verify(s) != OK)
        FAIL(E_IO, CHANGED,
             "%s: was changed while it was in use: %lld bytes, %zu when it was verified", s->path,
             (long long)now.st_size, s->map.bytes);
    s->file = now;
    return OK;
}

const ShardInfo *shard_info(const Shard *s) {
    return &s->info;
}
const uint64_t *shard_doc_ends(const Shard *s) {
    return s->doc_ends;
}
uint64_t shard__hash(const Shard *s) {
    return s->hash;
}

void shard_tokens(const Shard *s, int32_t *out, uint64_t begin, uint64_t count) {
    ASSERT(begin <= s->info.tokens && count <= s->info.tokens - begin);
    if (s->width == 2) {
        const uint16_t *from = (const uint16_t *)s->tokens + begin;
        for (uint64_t i = 0; i < count; i++) out[i] = from[i];
    } else {
        memcpy(out, (const int32_t *)s->tokens + begin, count * sizeof *out);
    }
}
