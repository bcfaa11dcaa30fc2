// The table of parameters and its flat storage.
#include "tensor/params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/finite.h"
#include "base/rng.h"
#include "base/split.h"

enum { ROW_ALIGN = 16 };  // elements: every row starts on a 64-byte line in f32
static const double LRPE_BASE = 10000.0;

// The share of a row split along `axis`: in each section, and for every index of the axes before
// it, one run.
static void param_split(Param *p, int axis, int sections, int tp, int tp_rank) {
    size_t inner = 1, outer = 1;  // elements below one index of the axis; indices above it
    for (int i = axis + 1; i < p->ndim; i++) inner *= (size_t)p->dim[i];
    for (int i = 0; i < axis; i++) outer *= (size_t)p->dim[i];
    ASSERT(p->dim[axis] % sections == 0);
    size_t section = (size_t)(p->dim[axis] / sections);
    size_t begin = split_begin(section, tp, tp_rank), n = split_count(section, tp, tp_rank);
    p->tp_axis = axis;
    p->tp_sections = sections;
    p->tp_begin = (int)begin;
    p->local[axis] = (int)n * sections;
    p->share = (ParamRuns){.begin = begin * inner,
                           .run = n * inner,
                           .stride = section * inner,
                           .runs = outer * (size_t)sections};
    p->count = p->share.run * p->share.runs;
}

static Param *row_new(ParamSet *ps, const char *name, int ndim, const int *dim) {
    if (ps->count == ps->capacity) {
        ps->capacity = ps->capacity == 0 ? 64 : 2 * ps->capacity;
        ps->rows = realloc(ps->rows, (size_t)ps->capacity * sizeof *ps->rows);
        ASSERT(ps->rows != NULL);
    }
    ASSERT(ndim >= 1 && ndim <= PARAM_DIMS && strlen(name) < PARAM_NAME_BYTES);
    Param *p = &ps->rows[ps->count++];
    *p = (Param){.ndim = ndim, .whole = 1, .offset = ps->total, .zero_row = -1, .tp_axis = -1};
    memcpy(p->name, name, strlen(name) + 1);
    for (int i = 0; i < ndim; i++) {
        p->dim[i] = p->local[i] = dim[i];
        p->whole *= (size_t)dim[i];
    }
    p->count = p->whole;
    p->share = (ParamRuns){.run = p->whole, .stride = p->whole, .runs = 1};
    return p;
}

int params_add_split(ParamSet *ps, const char *name, int ndim, const int *dim, InitRule init,
                     double std, int axis, int sections) {
    Param *p = row_new(ps, name, ndim, dim);
    p->init = init;
    p->init_std = std;
    p->decay = ndim == 2;
    if (axis >= 0 && ps->tp > 1) param_split(p, axis, sections, ps->tp, ps->tp_rank);
    p->tp_axis = axis;
    p->tp_sections = sections;
    ps->total += (p->count + ROW_ALIGN - 1) / ROW_ALIGN * ROW_ALIGN;
    return ps->count - 1;
}

int params_add(ParamSet *ps, const char *name, int ndim, const int *dim, InitRule init,
               double std) {
    return params_add_split(ps, name, ndim, dim, init, std, -1, 1);
}

Param *params_find(const ParamSet *ps, const char *name) {
    for (int i = 0; i < ps->count; i++) {
        if (strcmp(ps->rows[i].name, name) == 0) return &ps->rows[i];
    }
    return NULL;
}

static void flat_layout(ParamSet *ps, Arena *a, bool with_grad) {
    ps->data = arena_reals(a, ps->total);
    ps->grad = with_grad ? arena_reals(a, ps->total) : NULL;
}

Status params_reserve(ParamSet *ps, bool with_grad) {
    Arena plan = {0};
    flat_layout(ps, &plan, with_grad);
    TRY(arena_open(&ps->arena, plan.used));
    flat_layout(ps, &ps->arena, with_grad);
    for (int i = 0; i < ps->count; i++) {
        Param *p = &ps->rows[i];
        p->data = ps->data + p->offset;
        p->grad = with_grad ? ps->grad + p->offset : NULL;
    }
    return OK;
}

// theta_c = 10000^(-2c/C) over the flat, head-major channel index c (docs/maths.md, LRPE).
static void fill_lrpe(real *out, size_t n, size_t at, size_t whole) {
    for (size_t c = 0; c < n; c++)
        out[c] = (real)pow(LRPE_BASE, -2.0 * (double)(at + c) / (double)whole);
}

// A number depends on its place alone, so pieces may be filled by any thread.
static void fill_normal(real *out, size_t n, size_t at, double std, uint64_t seed,
                        uint64_t stream) {
    enum { PIECE = 1 << 16 };
#pragma omp parallel for schedule(static) if (n > PIECE)
    for (size_t i = 0; i < n; i += PIECE) {
        size_t m = n - i < PIECE ? n - i : PIECE;
        rng_fill_normal(out + i, m, at + i, std, seed, stream);
    }
}

// One run of the share; `at` is where it begins in the global tensor.
static void run_init(const Param *p, real *out, size_t n, size_t at, uint64_t seed, int row) {
    switch (p->init) {
    case INIT_NORMAL:
        fill_normal(out, n, at, p->init_std, seed, STREAM_INIT + (uint64_t)row);
        break;
    case INIT_ONE:
        for (size_t i = 0; i < n; i++) out[i] = 1;
        break;
    case INIT_LRPE:
        fill_lrpe(out, n, at, p->whole);
        break;
    case INIT_GATES:
        for (size_t i = 0; i < n; i++) out[i] = at + i < p->whole / 3 ? -5 : 0;
        break;
    }
}

static void param_init(Param *p, uint64_t seed, int row) {
    const ParamRuns *s = &p->share;
    for (size_t i = 0; i < s->runs; i++)
        run_init(p, p->data + i * s->run, s->run, s->begin + i * s->stride, seed, row);
    int zero = p->zero_row - p->tp_begin;  // rows are split in one section, or not at all
    if (p->zero_row < 0 || zero < 0 || zero >= p->local[0]) return;
    ASSERT(p->tp_axis <= 0 && (p->tp_axis < 0 || p->tp_sections == 1));
    size_t width = p->count / (size_t)p->local[0];
    memset(p->data + (size_t)zero * width, 0, width * sizeof(real));
}

void params_init(ParamSet *ps, uint64_t seed) {
    for (int i = 0; i < ps->count; i++) param_init(&ps->rows[i], seed, i);
    params_changed(ps);
}

void params_changed(ParamSet *ps) {
    for (int i = 0; i < ps->count; i++) ps->rows[i].version++;
}

void params_zero_grad(ParamSet *ps) {
    memset(ps->grad, 0, ps->total * sizeof(real));
}

size_t params_elements(const ParamSet *ps) {
    size_t sum = 0;
    for (int i = 0; i < ps->count; i++) sum += ps->rows[i].whole;
    return sum;
}

const Param *params_find_bad(const ParamSet *ps) {
    for (int i = 0; i < ps->count; i++) {
        const Param *p = &ps->rows[i];
        if (reals_outside(p->data, p->count, (real)INFINITY) < p->count) return p;
    }
    return NULL;
}

uint64_t params_hash(const ParamSet *ps) {
    return hash64(ps->data, ps->total * sizeof(real));
}

void params_free(ParamSet *ps) {
    arena_close(&ps->arena);
    free(ps->rows);
    *ps = (ParamSet){0};
}
