// Three libraries behind one pulled stream. Each codec is one function that turns some input into
// some output and says whether it has ended; reading, limits and errors are written once.
#include "data/decompress.h"

#include <errno.h>
#include <limits.h>
#include <lzma.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum { IN_BYTES = 64 * 1024, XZ_MEMORY = 256 << 20 };

typedef enum { STEP_MORE, STEP_END, STEP_CORRUPT } Step;

struct Decompressor {
    FILE *file;
    const char *name;
    uint64_t in_left, out_left;  // bytes of the file not yet read; bytes that may still come out
    unsigned char in[IN_BYTES];
    size_t in_at, in_have;
    Step (*step)(Decompressor *d, unsigned char *out, size_t bytes, size_t *made);
    bool ended;
    z_stream z;
    lzma_stream xz;
    ZSTD_DStream *zst;
};

// Nothing left, neither in the buffer nor in the file.
static bool input_done(const Decompressor *d) {
    return d->in_at == d->in_have && d->in_left == 0;
}

// No compression at all: dpkg-deb can do that too.
static Step step_plain(Decompressor *d, unsigned char *out, size_t bytes, size_t *made) {
    size_t have = d->in_have - d->in_at;
    *made = have < bytes ? have : bytes;
    memcpy(out, d->in + d->in_at, *made);
    d->in_at += *made;
    return input_done(d) ? STEP_END : STEP_MORE;
}

static Step step_gzip(Decompressor *d, unsigned char *out, size_t bytes, size_t *made) {
    d->z.next_in = d->in + d->in_at;
    d->z.avail_in = (uInt)(d->in_have - d->in_at);
    d->z.next_out = out;
    d->z.avail_out = (uInt)(bytes > INT_MAX ? INT_MAX : bytes);
    uInt room = d->z.avail_out;
    int rc = inflate(&d->z, Z_NO_FLUSH);
    d->in_at = d->in_have - d->z.avail_in;
    *made = room - d->z.avail_out;
    if (rc == Z_STREAM_END) {
        // Another member may follow (gzip files can be joined); zero padding after the last is
        // common.
        if (input_done(d) || (d->in_at < d->in_have && d->in[d->in_at] != 0x1f)) return STEP_END;
        return inflateReset(&d->z) == Z_OK ? STEP_MORE : STEP_CORRUPT;
    }
    return rc == Z_OK || rc == Z_BUF_ERROR ? STEP_MORE : STEP_CORRUPT;
}

// The decoder checks the integrity fields and, told so by LZMA_FINISH, that nothing is missing.
static Step step_xz(Decompressor *d, unsigned char *out, size_t bytes, size_t *made) {
    d->xz.next_in = d->in + d->in_at;
    d->xz.avail_in = d->in_have - d->in_at;
    d->xz.next_out = out;
    d->xz.avail_out = bytes;
    lzma_ret rc = lzma_code(&d->xz, d->in_left == 0 ? LZMA_FINISH : LZMA_RUN);
    d->in_at = d->in_have - d->xz.avail_in;
    *made = bytes - d->xz.avail_out;
    if (rc == LZMA_STREAM_END) return STEP_END;
    return rc == LZMA_OK || rc == LZMA_BUF_ERROR ? STEP_MORE : STEP_CORRUPT;
}

static Step step_zstd(Decompressor *d, unsigned char *out, size_t bytes, size_t *made) {
    ZSTD_inBuffer in = {d->in + d->in_at, d->in_have - d->in_at, 0};
    ZSTD_outBuffer result = {out, bytes, 0};
    size_t rc = ZSTD_decompressStream(d->zst, &result, &in);
    d->in_at += in.pos;
    *made = result.pos;
    if (ZSTD_isError(rc)) return STEP_CORRUPT;
    return rc == 0 && input_done(d) ? STEP_END
                                    : STEP_MORE;  // rc 0: a frame ended, others may follow
}

// Reads on when the buffer is used up.
static Status refill(Decompressor *d) {
    if (d->in_at < d->in_have || d->in_left == 0) return OK;
    size_t want = d->in_left < IN_BYTES ? (size_t)d->in_left : IN_BYTES;
    d->in_have = fread(d->in, 1, want, d->file);
    d->in_at = 0;
    if (d->in_have < want && ferror(d->file)) {
        FAIL(E_IO, "check the disk", "%s: %s", d->name, strerror(errno));
    }
    // A file shorter than its header said: the codec notices that its stream is not complete.
    d->in_left = d->in_have < want ? 0 : d->in_left - d->in_have;
    return OK;
}

typedef Step StepFn(Decompressor *d, unsigned char *out, size_t bytes, size_t *made);

// Magic numbers decide, not names: a renamed package works, a lying name does not matter.
static StepFn *codec_of(const void *data, size_t bytes) {
    static const struct {
        const char *magic;
        size_t bytes;
        StepFn *step;
    } CODECS[] = {{"\x1f\x8b", 2, step_gzip},
                  {"\xfd\x37zXZ\0", 6, step_xz},
                  {"\x28\xb5\x2f\xfd", 4, step_zstd}};
    for (size_t i = 0; i < sizeof CODECS / sizeof *CODECS; i++) {
        if (bytes >= CODECS[i].bytes && memcmp(data, CODECS[i].magic, CODECS[i].bytes) == 0)
            return CODECS[i].step;
    }
    return step_plain;
}

bool is_packed(const void *data, size_t bytes) {
    return codec_of(data, bytes) != step_plain;
}

static Status choose_codec(Decompressor *d) {
    bool ready = true;
    d->step = codec_of(d->in, d->in_have);
    if (d->step == step_gzip) {
        ready = inflateInit2(&d->z, 16 + MAX_WBITS) == Z_OK;  // 16: gzip header and checksum
    } else if (d->step == step_xz) {
        ready = lzma_stream_decoder(&d->xz, XZ_MEMORY, LZMA_CONCATENATED) == LZMA_OK;
    } else if (d->step == step_zstd) {
        d->zst = ZSTD_createDStream();
        ready = d->zst != NULL;
    }
    if (!ready) FAIL(E_NOMEM, "free some memory", "%s: no memory to decompress it", d->name);
    return OK;
}

Status decompressor_open(Decompressor **out, FILE *file, uint64_t in_bytes, uint64_t limit_bytes,
                         const char *name) {
    *out = NULL;
    Decompressor *d = calloc(1, sizeof *d);
    if (d == NULL) FAIL(E_NOMEM, "free some memory", "%s: no memory to decompress it", name);
    d->file = file;
    d->name = name;
    d->in_left = in_bytes;
    d->out_left = limit_bytes;
    d->xz = (lzma_stream)LZMA_STREAM_INIT;
    Status st = refill(d);
    if (st == OK) st = choose_codec(d);
    if (st != OK) {
        decompressor_close(d);
        return st;
    }
    *out = d;
    return OK;
}

Status decompressor_read(Decompressor *d, void *out, size_t bytes, size_t *got) {
    static const char DAMAGED[] =
        "replace it with a whole copy; a download below data.cache: delete it, it is fetched again";
    *got = 0;
    while (*got < bytes && !d->ended) {
        TRY(refill(d));
        // A step that had no input and made nothing can never end: the data are cut off.
        size_t made = 0;
        bool starved = input_done(d);
        Step step = d->step(d, (unsigned char *)out + *got, bytes - *got, &made);
        if (step == STEP_CORRUPT) {
            FAIL(E_FORMAT, DAMAGED, "%s: compressed data are corrupt", d->name);
        }
        d->ended = step == STEP_END;
        if (starved && made == 0 && !d->ended) {
            FAIL(E_FORMAT, DAMAGED, "%s: compressed data end early", d->name);
        }
        // The limit is on what comes out, whatever was promised.
        if (made > d->out_left) {
            FAIL(E_FORMAT, "do not use this file: it unpacks to an unreasonable size",
                 "%s: unpacks to more than the limit", d->name);
        }
        d->out_left -= made;
        *got += made;
    }
    return OK;
}

// The size in a trailer cannot be trusted, and covers one member only: grow as it comes.
static Status read_whole(char **text, size_t *bytes, Decompressor *d) {
    size_t capacity = 1 << 16, got;
    for (;; capacity *= 2) {
        char *grown = realloc(*text, capacity + 1);
        if (grown == NULL) FAIL(E_NOMEM, "free some memory", "%s: no memory to read it", d->name);
        *text = grown;
        TRY(decompressor_read(d, *text + *bytes, capacity - *bytes, &got));
        *bytes += got;
        if (*bytes < capacity) break;
    }
    (*text)[*bytes] = '\0';
    return OK;
}

Status decompress_all(char **text, size_t *bytes, const void *packed, size_t packed_bytes,
                      uint64_t limit_bytes, const char *name) {
    *text = NULL;
    *bytes = 0;
    Decompressor *d = NULL;
    FILE *f =
        fmemopen((void *)(uintptr_t)packed, packed_bytes, "rb");  // read only: nothing is written
    if (f == NULL) FAIL(E_NOMEM, "free some memory", "%s: no memory to unpack it", name);
    Status st = decompressor_open(&d, f, packed_bytes, limit_bytes, name);
    if (st == OK) st = read_whole(text, bytes, d);
    if (st != OK) {
        free(*text);
        *text = NULL;
    }
    decompressor_close(d);
    fclose(f);
    return st;
}

void decompressor_close(Decompressor *d) {
    if (d == NULL) return;
    if (d->step == step_gzip) inflateEnd(&d->z);
    lzma_end(&d->xz);
    ZSTD_freeDStream(d->zst);
    free(d);
}
