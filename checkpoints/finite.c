// Numbers that are not finite neither come from a file nor go into one unnoticed: each reader and
// writer of this folder ends in value__refuse, which names tensor, element and value.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/finite.h"
#include "checkpoints/internal.h"

static const char DIVERGED[] = "these are the numbers of a run that diverged: take an older "
                               "checkpoint, or train with a lower schedule.lr";

// "[1, 0, 3]"
static void element_text(char *out, size_t capacity, const StTensor *t, uint64_t element) {
    int64_t place[sizeof t->dim / sizeof t->dim[0]];
    for (int d = t->ndim - 1; d >= 0; d--) {
        place[d] = (int64_t)(element % (uint64_t)t->dim[d]);
        element /= (uint64_t)t->dim[d];
    }
    shape__text(out, capacity, place, t->ndim);
}

Status value__refuse(const char *what, const StTensor *t, uint64_t element, double value, Dtype d) {
    char place[200];
    element_text(place, sizeof place, t, element);
    if (isfinite(value)) {
        FAIL(E_DIVERGED,
             "F16 reaches to 65504, BF16 and F32 to 3.4e38; a build with real = double reads F64",
             "%s: tensor '%s', element %s: %.9g is out of the range of %s", what, t->name, place,
             value, dtype_name(d));
    }
    const char *kind = isnan(value) ? "nan" : "inf";
    const char *sign = isinf(value) && value < 0 ? "-" : "";  // that of a NaN says nothing
    FAIL(E_DIVERGED, DIVERGED, "%s: tensor '%s', element %s is not finite (%s%s)", what, t->name,
         place, sign, kind);
}

// Through a small aligned buffer: the file may begin anywhere. The type on disk decides, also where
// it is wider than ours.
Status tensor__check(const StFile *f, const StTensor *t) {
    enum { PIECE = 4096 };
    if (!dtype__is_float(t->dtype)) return OK;
    real piece[PIECE];
    size_t width = dtype_bytes(t->dtype);
    const char *data = st_data(f, t);
    uint64_t total = t->bytes / width;
    for (uint64_t at = 0; at < total; at += PIECE) {
        size_t n = total - at < PIECE ? (size_t)(total - at) : PIECE;
        reals__decode(piece, data + at * width, t->dtype, n);
        for (size_t i = 0; (i += reals_outside(piece + i, n - i, INFINITY)) < n; i++) {
            double value = dtype__value(data + (at + i) * width, t->dtype);
            if (!isfinite(value)) return value__refuse(st__path(f), t, at + i, value, t->dtype);
        }
    }
    return OK;
}

StTensor slice__tensor(const Slice *s) {
    StTensor t = {.dtype = DTYPE_REAL, .ndim = s->ndim};
    ASSERT(strlen(s->tensor) < sizeof t.name);
    snprintf(t.name, sizeof t.name, "%s", s->tensor);
    for (int i = 0; i < s->ndim; i++) t.dim[i] = s->dim[i];
    return t;
}

Status slice__check(const char *what, const Slice *s) {
    size_t count = (size_t)slice_elements(s), i = reals__outside(s->data, DTYPE_REAL, count);
    if (i == count) return OK;
    StTensor t = slice__tensor(s);
    return value__refuse(what, &t, s->begin + i / s->run * s->stride + i % s->run,
                         (double)s->data[i], DTYPE_REAL);
}
