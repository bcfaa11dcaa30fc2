// The table of parameters and its flat storage.
#include "tensor/params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"

enum { ROW_ALIGN = 16 };  // elements: every row starts on a 64-byte line in f32
static const double LRPE_BASE = 10000.0;

int params_add(ParamSet *ps, const char *name, int ndim, const int *dim, InitRule init,
               double std) {
    if (ps->count == ps->capacity) {
        ps->capacity = ps->capacity == 0 ? 64 : 2 * ps->capacity;
        ps->rows = realloc(ps->rows, (size_t)ps->capacity * sizeof *ps->rows);
        ASSERT(ps->rows != NULL);
    }
    ASSERT(ndim >= 1 && ndim <= PARAM_DIMS && strlen(name) < PARAM_NAME_BYTES);
    Param *p = &ps->rows[ps->count];
    *p = (Param){.ndim = ndim,
                 .count = 1,
                 .offset = ps->total,
                 .init = init,
                 .init_std = std,
                 .zero_row = -1,
                 .decay = ndim == 2,
                 .tp_axis = -1};
    memcpy(p->name, name, strlen(name) + 1);
    for (int i = 0; i < ndim; i++) {
        p->dim[i] = dim[i];
        p->count *= (size_t)dim[i];
    }
    ps->total += (p->count + ROW_ALIGN - 1) / ROW_ALIGN * ROW_ALIGN;
    return ps->count++;
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
static void fill_lrpe(Param *p) {
    for (size_t c = 0; c < p->count; c++) {
        p->data[c] = (real)pow(LRPE_BASE, -2.0 * (double)c / (double)p->count);
    }
}

// A number depends on its place alone, so pieces may be filled by any thread.
static void fill_normal(Param *p, uint64_t seed, uint64_t stream) {
    enum { PIECE = 1 << 16 };
#pragma omp parallel for schedule(static)
    for (size_t at = 0; at < p->count; at += PIECE) {
        size_t n = p->count - at < PIECE ? p->count - at : PIECE;
        rng_fill_normal(p->data + at, n, at, p->init_std, seed, stream);
    }
}

static void param_init(Param *p, uint64_t seed, int row) {
    switch (p->init) {
    case INIT_NORMAL:
        fill_normal(p, seed, STREAM_INIT + (uint64_t)row);
        break;
    case INIT_ONE:
        for (size_t i = 0; i < p->count; i++) p->data[i] = 1;
        break;
    case INIT_LRPE:
        fill_lrpe(p);
        break;
    }
    if (p->zero_row >= 0) {
        ASSERT(p->zero_row < p->dim[0]);
        size_t width = p->count / (size_t)p->dim[0];
        memset(p->data + (size_t)p->zero_row * width, 0, width * sizeof(real));
    }
}

void params_init(ParamSet *ps, uint64_t seed) {
    for (int i = 0; i < ps->count; i++) param_init(&ps->rows[i], seed, i);
}

void params_zero_grad(ParamSet *ps) {
    memset(ps->grad, 0, ps->total * sizeof(real));
}

size_t params_elements(const ParamSet *ps) {
    size_t sum = 0;
    for (int i = 0; i < ps->count; i++) sum += ps->rows[i].count;
    return sum;
}

uint64_t params_hash(const ParamSet *ps) {
    return hash64(ps->data, ps->total * sizeof(real));
}

void params_free(ParamSet *ps) {
    arena_close(&ps->arena);
    free(ps->rows);
    *ps = (ParamSet){0};
}
