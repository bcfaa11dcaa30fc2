// Reader of safetensors: u64 length, JSON header {name: {dtype, shape, data_offsets}}, data.
//
// Files come from anywhere, so nothing in a header is believed. After st_open every tensor is known
// to lie inside the mapping, its bytes are exactly shape * dtype, and the tensors cover the data
// section without overlap or hole, which the format demands
// (https://github.com/huggingface/safetensors, "Format"). A file that another process cuts short
// while we hold it mapped still ends the program (SIGBUS), like any mapping.
#include "checkpoints/internal.h"

#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

enum { LENGTH_BYTES = 8, HEADER_MAX = 100000000, MAX_DIMS = 8 };  // the reference library's limit
static const char HINT[] = "the file is damaged or is not safetensors: fetch or export it again";

struct StFile {
    Mapping map;
    size_t data_begin, data_bytes;
    StTensor *tensors;         // as they lie in the data section
    const StTensor **by_name;  // sorted
    int count;
    char path[PATH_BYTES];
};

// Every refusal of this file: E_FORMAT with path, tensor (NULL: none in particular) and cause.
// Names come from the file and are cut, so that a message stays a line.
__attribute__((format(printf, 3, 4))) static Status bad(const StFile *f, const char *tensor,
                                                        const char *fmt, ...) {
    char cause[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cause, sizeof cause, fmt, ap);
    va_end(ap);
    if (tensor == NULL) FAIL(E_FORMAT, HINT, "%s: %s", f->path, cause);
    FAIL(E_FORMAT, HINT, "%s: tensor '%.*s': %s", f->path, 200, tensor, cause);
}

void shape__text(char *out, size_t capacity, const int64_t *dim, int ndim) {
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; i < ndim && used < capacity; i++) {
        used += (size_t)snprintf(out + used, capacity - used, "%s%lld", i == 0 ? "[" : ", ",
                                 (long long)dim[i]);
    }
    if (used < capacity) snprintf(out + used, capacity - used, ndim == 0 ? "[]" : "]");
}

// No slash, no leading dot, nothing that would break a line of a message.
bool file__is_plain(const char *name) {
    size_t n = strlen(name);
    if (n == 0 || n >= FILE_NAME_BYTES || name[0] == '.') return false;
    for (size_t i = 0; i < n; i++) {
        if (name[i] == '/' || (unsigned char)name[i] < ' ' || name[i] == 0x7f) return false;
    }
    return true;
}

uint64_t st__elements(const StTensor *t) {
    uint64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= (uint64_t)t->dim[i];
    return n;
}

// One line in a message, one entry of our table.
static Status parse_name(const StFile *f, StTensor *t, const char *name) {
    size_t n = strlen(name);
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)name[i] < ' ' || name[i] == 0x7f) {
            return bad(f, NULL, "a tensor's name holds control characters");
        }
    }
    if (n >= sizeof t->name) {
        return bad(f, name, "the name has %zu bytes, at most %zu are supported", n,
                   sizeof t->name - 1);
    }
    memcpy(t->name, name, n + 1);
    return OK;
}

// Fills dims and the bytes they need. No product is formed before it is known to fit.
static Status parse_shape(const StFile *f, StTensor *t, const JsonAt *entry) {
    JsonAt shape, dim;
    TRY(json_need_list(&shape, entry, "shape"));
    if (json_count(&shape) > MAX_DIMS) {
        return bad(f, t->name, "%zu dimensions, at most %d are supported", json_count(&shape),
                   MAX_DIMS);
    }
    t->ndim = (int)json_count(&shape);
    for (int i = 0; i < t->ndim; i++) {
        TRY(json_item(&dim, &shape, (size_t)i));
        TRY(json_int(&t->dim[i], &dim));
        if (t->dim[i] < 0) return json_refuse(&dim, "a count");
    }

    // A zero anywhere makes the product zero, but the others must not overflow before it is met.
    uint64_t bytes = dtype_bytes(t->dtype);
    for (int i = 0; i < t->ndim; i++) {
        uint64_t d = (uint64_t)t->dim[i];
        if (d != 0 && bytes > UINT64_MAX / d) return bad(f, t->name, "the shape overflows 64 bits");
        bytes *= d;
    }
    t->bytes = bytes;
    return OK;
}

// The pair must lie in the data section and span exactly what shape and dtype need.
static Status parse_offsets(const StFile *f, StTensor *t, const JsonAt *entry) {
    JsonAt offsets, v;
    int64_t begin, end;
    TRY(json_need_list(&offsets, entry, "data_offsets"));
    if (json_count(&offsets) != 2) return json_refuse(&offsets, "a pair of whole numbers");
    TRY(json_item(&v, &offsets, 0));
    TRY(json_int(&begin, &v));
    TRY(json_item(&v, &offsets, 1));
    TRY(json_int(&end, &v));
    if (begin < 0 || end < begin || (uint64_t)end > f->data_bytes) {
        return bad(f, t->name, "offsets [%lld, %lld] do not lie in the %zu bytes of data",
                   (long long)begin, (long long)end, f->data_bytes);
    }
    if ((uint64_t)(end - begin) != t->bytes) {
        char shape[200];
        shape__text(shape, sizeof shape, t->dim, t->ndim);
        return bad(f, t->name, "%s %s needs %llu bytes, the offsets span %lld",
                   dtype_name(t->dtype), shape, (unsigned long long)t->bytes,
                   (long long)(end - begin));
    }
    t->begin = (uint64_t)begin;
    return OK;
}

static Status metadata_check(const JsonAt *member, void *user) {
    (void)user;
    return json_kind(member) == J_TEXT ? OK : json_refuse(member, "a text");
}

// One member of the header. f->count grows only when the entry is whole.
static Status parse_entry(const JsonAt *entry, void *user) {
    StFile *f = user;
    if (strcmp(entry->key, "__metadata__") == 0) return json_each(entry, metadata_check, NULL);
    StTensor *t = &f->tensors[f->count];
    const char *dtype;
    TRY(parse_name(f, t, entry->key));
    TRY(json_need_text(&dtype, entry, "dtype"));
    if (!dtype__parse(&t->dtype, dtype)) {
        return bad(f, t->name, "dtype '%.40s' is not supported (F32, F64, BF16, F16, I64, I32 are)",
                   dtype);
    }
    TRY(parse_shape(f, t, entry));
    TRY(parse_offsets(f, t, entry));
    f->count++;
    return OK;
}

// Order in the data section; the name makes it total, so that equal files give equal tables.
static int compare_places(const void *a, const void *b) {
    const StTensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;  // empty tensors first
    return strcmp(x->name, y->name);
}

static int compare_names(const void *a, const void *b) {
    const StTensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

// Sorted by place, each tensor must begin where the last one ended, and the last must end with the
// file.
static Status check_coverage(StFile *f) {
    if (f->count > 0) qsort(f->tensors, (size_t)f->count, sizeof *f->tensors, compare_places);
    uint64_t end = 0;
    for (int i = 0; i < f->count; i++) {
        const StTensor *t = &f->tensors[i];
        if (t->begin < end) return bad(f, t->name, "overlaps tensor '%s'", f->tensors[i - 1].name);
        if (t->begin > end) {
            return bad(f, t->name, "a hole of %llu bytes lies before it",
                       (unsigned long long)(t->begin - end));
        }
        end += t->bytes;
    }
    if (end != f->data_bytes) {
        return bad(f, NULL, "%llu bytes after the last tensor",
                   (unsigned long long)(f->data_bytes - end));
    }
    return OK;
}

// Both tables are sized by the number of members, which the length of the text bounds.
static Status parse_header(StFile *f, const Json *root) {
    JsonAt top = json_top(root, f->path, HINT);
    size_t entries = json_count(&top);
    if (entries > INT_MAX) return bad(f, NULL, "%zu tensors", entries);
    f->tensors = calloc(entries + 1, sizeof *f->tensors);
    f->by_name = calloc(entries + 1, sizeof *f->by_name);
    if (f->tensors == NULL || f->by_name == NULL) {
        FAIL(E_NOMEM, "free memory on this machine", "%s: no memory for a table of %zu tensors",
             f->path, entries);
    }
    TRY(json_each(&top, parse_entry, f));
    TRY(check_coverage(f));
    for (int i = 0; i < f->count; i++) f->by_name[i] = &f->tensors[i];
    if (f->count > 0) qsort(f->by_name, (size_t)f->count, sizeof(f->by_name[0]), compare_names);
    return OK;
}

// Only the length field is read before it is checked against the size of the file.
static Status read_header(StFile *f) {
    if (f->map.bytes < LENGTH_BYTES) return bad(f, NULL, "only %zu bytes long", f->map.bytes);
    uint64_t length;
    memcpy(&length, f->map.data, sizeof length);
    if (length > HEADER_MAX || length > f->map.bytes - LENGTH_BYTES) {
        return bad(f, NULL, "a header of %llu bytes in a file of %zu", (unsigned long long)length,
                   f->map.bytes);
    }
    const char *text = f->map.data + LENGTH_BYTES;
    if (length == 0 || text[0] != '{') return bad(f, NULL, "the header does not start with '{'");
    f->data_begin = LENGTH_BYTES + (size_t)length;
    f->data_bytes = f->map.bytes - f->data_begin;

    Json *root = NULL;
    TRY(json_open(&root, text, (size_t)length, f->path));
    Status st = parse_header(f, root);
    json_close(root);
    return st;
}

Status st_open(StFile **out, const char *path) {
    *out = NULL;
    StFile *f = calloc(1, sizeof *f);
    if (f == NULL) FAIL(E_NOMEM, "free memory on this machine", "%s: no memory to open it", path);
    snprintf(f->path, sizeof f->path, "%s", path);
    Status st = file_map(path, &f->map);
    if (st == OK) st = read_header(f);
    if (st != OK) {
        st_close(f);
        return st;
    }
    *out = f;
    return OK;
}

void st_close(StFile *f) {
    if (f == NULL) return;
    file_unmap(&f->map);
    free(f->tensors);
    free(f->by_name);
    free(f);
}

int st_count(const StFile *f) {
    return f->count;
}

const StTensor *st_tensor(const StFile *f, int i) {
    ASSERT(i >= 0 && i < f->count);
    return &f->tensors[i];
}

// Binary search: imports look up every tensor of files with thousands.
const StTensor *st_find(const StFile *f, const char *name) {
    size_t low = 0, high = (size_t)f->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(f->by_name[middle]->name, name);
        if (order == 0) return f->by_name[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const void *st_data(const StFile *f, const StTensor *t) {
    return f->map.data + f->data_begin + t->begin;
}

const char *st__path(const StFile *f) {
    return f->path;
}

const void *st__header(const StFile *f, size_t *bytes) {
    *bytes = f->data_begin;
    return f->map.data;
}

// What is asked of each tensor once, however many runs are read.
static Status check_float(const StFile *f, const StTensor *t) {
    if (dtype__is_float(t->dtype)) return OK;
    FAIL(E_FORMAT, "weights must be F32, F64, BF16 or F16", "%s: tensor '%s' holds integers (%s)",
         f->path, t->name, dtype_name(t->dtype));
}

// The bytes of element `at` of a tensor of floats.
static const char *element_at(const StFile *f, const StTensor *t, uint64_t at) {
    return (const char *)st_data(f, t) + at * dtype_bytes(t->dtype);
}

Status st_peek_reals(const StFile *f, const StTensor *t, real *out, uint64_t begin,
                     uint64_t count) {
    TRY(check_float(f, t));
    uint64_t elements = t->bytes / dtype_bytes(t->dtype);
    ASSERT(begin <= elements && count <= elements - begin);
    reals__decode(out, element_at(f, t, begin), t->dtype, (size_t)count);
    return OK;
}

Status st_read_reals(const StFile *f, const StTensor *t, real *out, uint64_t begin,
                     uint64_t count) {
    TRY(st_peek_reals(f, t, out, begin, count));
    uint64_t i = reals__outside(out, DTYPE_REAL, (size_t)count);
    if (i == count) return OK;
    double stored = dtype__value(element_at(f, t, begin + i), t->dtype);
    return value__refuse(f->path, t, begin + i, stored, DTYPE_REAL);
}

Status st__read_runs(const StFile *f, const StTensor *t, const Slice *s) {
    TRY(check_float(f, t));
    if (s->runs == 0 || s->run == 0) return OK;
    uint64_t elements = t->bytes / dtype_bytes(t->dtype);
    ASSERT(s->run <= elements && s->begin <= elements - s->run);
    uint64_t room = elements - s->run - s->begin;  // for the begin of the last run
    ASSERT(s->runs == 1 || s->stride <= room / (s->runs - 1));
    for (uint64_t i = 0; i < s->runs; i++)
        TRY(st_read_reals(f, t, s->data + i * s->run, s->begin + i * s->stride, s->run));
    return OK;
}
