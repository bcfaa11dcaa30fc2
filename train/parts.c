// What of a run's learners lies in a checkpoint: weights and moments as slices of global tensors.
#include "train/parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/agree.h"
#include "parallel/reduce.h"

static Slice whole_slice(const Param *p, const char *name) {
    Slice s = {.tensor = name, .ndim = p->ndim};
    memcpy(s.dim, p->dim, sizeof s.dim);
    return slice_range(&s, 0, p->whole, NULL);
}

// This rank's share of a tensor.
static Slice share_slice(const Param *p, const Slice *layout, real *data) {
    Slice s = *layout;
    s.begin = p->share.begin;
    s.run = p->share.run;
    s.stride = p->share.stride;
    s.runs = p->share.runs;
    s.data = data;
    return s;
}

// Pieces of row p inside one updated range; `packed` is where the range begins in the optimiser's
// arrays.
static void add_owned(LearnerParts *t, const Learner *l, int row, Range range, size_t packed) {
    const Param *p = &l->model.params.rows[row];
    size_t end = range.begin + range.count, row_end = p->offset + p->count;
    size_t from = p->offset > range.begin ? p->offset : range.begin;
    size_t to = row_end < end ? row_end : end;
    if (from >= to) return;
    real *const moments[2] = {l->optim.m, l->optim.v};
    for (int k = 0; k < 2; k++) {
        Slice share = share_slice(p, &t->moments[2 * row + k], NULL);
        real *data = moments[k] + packed + (from - range.begin);
        Slice *parts = &t->owned[t->owned_count];
        int count = slice_cut(parts, &share, from - p->offset, to - from);
        for (int i = 0; i < count; i++) {
            parts[i].data = data;
            data += slice_elements(&parts[i]);
        }
        t->owned_count += count;
    }
}

static Status reserve(LearnerParts *t, size_t rows, size_t ranges) {
    t->rows = (int)rows;
    t->names = calloc(rows, sizeof *t->names);
    t->weights = calloc(rows, sizeof(Slice));
    t->shares = calloc(rows, sizeof(Slice));
    t->moments = calloc(2 * rows, sizeof(Slice));
    t->owned = calloc(2 * CUT_SLICES * (rows + ranges), sizeof(Slice));
    if (!t->names || !t->weights || !t->shares || !t->moments || !t->owned)
        FAIL(E_NOMEM, "", "out of memory");
    return OK;
}

// Several ranks hold the same numbers; of those, one writes. All read.
static bool writes_row(const Mesh *m, const Param *p, bool moments) {
    bool first = m->dp_rank == 0 && m->sp_rank == 0;
    if (p->tp_axis < 0 && m->tp_rank > 0) return false;
    return first || (moments && m->zero);
}

static void add_row(LearnerParts *t, const Param *p, int row, bool mine) {
    t->weights[row] = whole_slice(p, p->name);
    if (mine) t->shares[t->share_count++] = share_slice(p, &t->weights[row], p->data);
    for (int k = 0; k < 2; k++) {
        snprintf(t->names[row][k], sizeof t->names[row][k], "%c.%s", "mv"[k], p -> name);
        t->moments[2 * row + k] = whole_slice(p, t->names[row][k]);
    }
}

static Status learner_parts(LearnerParts *t, const Learner *l, bool saving) {
    const ParamSet *ps = &l->model.params;
    const Mesh *mesh = l->model.mesh;
    const char *dot = l->name[0] != '\0' ? "." : "";
    int ranges;
    const Range *owned = reducer_ranges(l->reducer, &ranges);
    snprintf(t->files[0], sizeof t->files[0], "%s%smodel.safetensors", l->name, dot);
    snprintf(t->files[1], sizeof t->files[1], "%s%soptimizer.safetensors", l->name, dot);
    TRY(reserve(t, (size_t)ps->count, (size_t)ranges));
    for (int i = 0; i < ps->count; i++)
        add_row(t, &ps->rows[i], i, !saving || writes_row(mesh, &ps->rows[i], false));
    size_t packed = 0;
    for (int r = 0; r < ranges; r++) {
        for (int i = 0; i < ps->count; i++) {
            if (!saving || writes_row(mesh, &ps->rows[i], true))
                add_owned(t, l, i, owned[r], packed);
        }
        packed += owned[r].count;
    }
    return OK;
}

static void add_files(Parts *p, const LearnerParts *t) {
    p->part[p->count++] = (CkptPart){.file = t->files[0],
                                     .mine = {t->shares, t->share_count},
                                     .layout = t->weights,
                                     .layout_count = t->rows};
    p->part[p->count++] = (CkptPart){.file = t->files[1],
                                     .mine = {t->owned, t->owned_count},
                                     .layout = t->moments,
                                     .layout_count = 2 * t->rows};
}

static Status open_all(Parts *p, const Run *run, bool saving) {
    for (int i = 0; i < run->learner_count; i++) {
        if (run->learner[i].frozen) continue;
        TRY(learner_parts(&p->learner[i], &run->learner[i], saving));
        add_files(p, &p->learner[i]);
    }
    return OK;
}

Status parts_open(Parts *p, const Run *run, bool saving) {
    *p = (Parts){.count = 0};
    return agree(open_all(p, run, saving), run->mesh.world);
}

void parts_close(Parts *p) {
    for (int i = 0; i < LEARNERS_MOST; i++) {
        LearnerParts *t = &p->learner[i];
        free(t->names);
        free(t->weights);
        free(t->shares);
        free(t->moments);
        free(t->owned);
    }
    *p = (Parts){.count = 0};
}
