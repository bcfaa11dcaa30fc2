// Writer of safetensors. The bytes are a function of names, shapes, dtypes and data alone:
// `__metadata__` first, then the tensors in the given order, the header padded with spaces to a
// multiple of 8 as the reference library does.
#include "checkpoints/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"

enum { HEADER_ALIGN = 8, CONVERT_COUNT = 1 << 16 };  // elements converted at a time

// For the system calls made here; errno is that of the call that failed.
static Status write_failed(const StWriter *w, const char *doing) {
    const char *hint = errno == ENOSPC || errno == EDQUOT
                           ? "free disk space, or write to another disk"
                           : "check that the directory exists and is writable";
    FAIL(E_IO, hint, "%s: cannot %s: %s", w->path, doing, strerror(errno));
}

// Joining must not overflow later, where a long path would be a bug and not the user's mistake. Two
// names fit behind the directory: that of a step and that of a file.
Status path__check(const char *dir) {
    size_t n = strlen(dir);
    if (n == 0 || n + 2 * FILE_NAME_BYTES > PATH_BYTES) {
        FAIL(E_USAGE, "give a shorter directory",
             "the path of a directory has %zu bytes: '%.60s...'", n, dir);
    }
    return OK;
}

// Data in the order of the header, without a gap.
static void layout_tensors(StTensor *tensors, int count) {
    uint64_t at = 0;
    for (int i = 0; i < count; i++) {
        tensors[i].begin = at;
        tensors[i].bytes = st__elements(&tensors[i]) * dtype_bytes(tensors[i].dtype);
        at += tensors[i].bytes;
    }
}

static void header_entry(JsonOut *out, const StTensor *t) {
    jsonout_open_object(out, t->name);
    jsonout_text(out, "dtype", dtype_name(t->dtype));
    jsonout_open_array(out, "shape");
    for (int d = 0; d < t->ndim; d++) jsonout_int(out, NULL, t->dim[d]);
    jsonout_close_array(out);
    jsonout_open_array(out, "data_offsets");
    jsonout_int(out, NULL, (int64_t)t->begin);
    jsonout_int(out, NULL, (int64_t)(t->begin + t->bytes));
    jsonout_close_array(out);
    jsonout_close_object(out);
}

// Length field and padded text, malloc'ed.
static char *header_text(const StTensor *tensors, int count, size_t *bytes) {
    JsonOut out = {0};
    jsonout_open_object(&out, NULL);
    jsonout_open_object(&out, "__metadata__");
    jsonout_text(&out, "format", "pt");
    jsonout_close_object(&out);
    for (int i = 0; i < count; i++) header_entry(&out, &tensors[i]);
    jsonout_close_object(&out);

    uint64_t length = (out.bytes + HEADER_ALIGN - 1) / HEADER_ALIGN * HEADER_ALIGN;
    *bytes = sizeof length + (size_t)length;
    char *text = malloc(*bytes);
    ASSERT(text != NULL);
    memcpy(text, &length, sizeof length);
    memcpy(text + sizeof length, out.text, out.bytes);
    memset(text + sizeof length + out.bytes, ' ', (size_t)length - out.bytes);
    jsonout_free(&out);
    return text;
}

Status stwriter__open(StWriter *w, const char *path, StTensor *tensors, int count) {
    *w = (StWriter){.fd = -1};
    snprintf(w->path, sizeof w->path, "%s", path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return write_failed(w, "create it");
    return stwriter__begin(w, fd, path, tensors, count);
}

Status stwriter__begin(StWriter *w, int fd, const char *path, StTensor *tensors, int count) {
    *w = (StWriter){.fd = fd};
    snprintf(w->path, sizeof w->path, "%s", path);
    layout_tensors(tensors, count);
    for (int i = 0; i < count; i++) w->left += tensors[i].bytes;
    size_t bytes;
    char *header = header_text(tensors, count, &bytes);
    w->header_hash = hash64(header, bytes);
    w->file_bytes = bytes + w->left;
    Status st = write_all(w->fd, header, bytes, path);
    free(header);
    return st;
}

// Pieces may be of any size; their sum is fixed by the header.
Status stwriter__data(StWriter *w, const void *data, size_t bytes) {
    ASSERT(bytes <= w->left);
    w->left -= bytes;
    if (bytes == 0) return OK;
    return write_all(w->fd, data, bytes, w->path);
}

// Also the last chance of a network file system to report a full disk.
Status stwriter__sync(StWriter *w) {
    ASSERT(w->left == 0);
    if (fsync(w->fd) != 0) return write_failed(w, "bring it to the disk");
    int fd = w->fd;
    w->fd = -1;
    if (close(fd) != 0) return write_failed(w, "close it");
    return OK;
}

void stwriter__close(StWriter *w) {
    if (w->fd >= 0) close(w->fd);
    w->fd = -1;
}

Status source__check(const char *what, const StSource *src) {
    Dtype d = src->t.dtype;
    if (!dtype__is_float(d)) return OK;
    size_t count = (size_t)st__elements(&src->t);
    const real *x = src->data;
    size_t i = reals__outside(x, d, count);
    return i == count ? OK : value__refuse(what, &src->t, i, (double)x[i], d);
}

// Straight from memory where disk and memory agree, else through a small buffer.
static Status write_converted(StWriter *w, const StSource *src) {
    Dtype d = src->t.dtype;
    uint64_t count = st__elements(&src->t);
    if (!dtype__is_float(d) || d == DTYPE_REAL) {
        return stwriter__data(w, src->data, (size_t)src->t.bytes);
    }
    const real *in = src->data;
    char *buffer = malloc(CONVERT_COUNT * dtype_bytes(d));
    if (buffer == NULL)
        FAIL(E_NOMEM, "free memory on this machine", "%s: no memory to convert", w->path);
    Status st = OK;
    for (uint64_t at = 0; at < count && st == OK; at += CONVERT_COUNT) {
        size_t n = count - at < CONVERT_COUNT ? (size_t)(count - at) : CONVERT_COUNT;
        reals__encode(buffer, in + at, d, n);
        st = stwriter__data(w, buffer, n * dtype_bytes(d));
    }
    free(buffer);
    return st;
}

static Status write_tensors(const Draft *d, const StSource *src, int count) {
    StWriter w;  // borrows the draft's descriptor
    StTensor *tensors = calloc((size_t)count + 1, sizeof *tensors);
    if (tensors == NULL)
        FAIL(E_NOMEM, "free memory on this machine", "%s: no memory for its header", d->path);
    for (int i = 0; i < count; i++) tensors[i] = src[i].t;
    Status st = stwriter__begin(&w, d->fd, d->path, tensors, count);
    for (int i = 0; i < count && st == OK; i++) {
        StSource one = {tensors[i], src[i].data};
        st = write_converted(&w, &one);
    }
    free(tensors);
    return st;
}

Status st__draft(Draft *d, const char *path, const StSource *src, int count) {
    for (int i = 0; i < count; i++) TRY(source__check(path, &src[i]));
    TRY(draft_open(d, path));
    TRY(write_tensors(d, src, count));
    return draft_sync(d);
}

// The old file stays whole until the new one is.
Status st_write(const char *path, const StSource *src, int count) {
    Draft d = {.fd = -1};
    Status st = st__draft(&d, path, src, count);
    if (st == OK) st = draft_commit(&d);
    draft_drop(&d);
    return st;
}
