// sterna forward: a window for comparison with other implementations. Token ids in, logits, loss
// and gradients out.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "checkpoints/checkpoint.h"
#include "parallel/parallel.h"
#include "train/modeldir.h"

static const char *ids_path, *out_path, *grads_flag;
static const Option OPTIONS[] = {
    {"ids", "FILE", "safetensors with `input_ids`, I64 of shape (B, T)", &ids_path},
    {"out", "FILE", "safetensors written: `logits` (B, T, V), `loss` (1)", &out_path},
    {"grads", NULL, "also the gradient of the loss for every parameter, under its name",
     &grads_flag},
};
enum { OPTION_COUNT = sizeof OPTIONS / sizeof OPTIONS[0] };

void help_forward(void) {
    puts("usage: [mpirun -n RANKS] sterna forward MODEL_DIR --ids IN --out OUT [--grads] "
         "[model.key=value ...]\n\n"
         "Runs the model on token ids. loss is the mean cross-entropy of the next token over all "
         "rows.\n"
         "Rows are dealt to ranks; logits do not depend on how many there are, sums but for "
         "rounding.\n");
    options_print(OPTIONS, OPTION_COUNT);
}

// One row of ids as a batch: a document of its own.
typedef struct Row {
    int T;
    int32_t *tokens, *targets;
    int64_t *pos;
    int *first;
    uint8_t *start;
} Row;

typedef struct Forward {
    ModelDir dir;
    Mesh mesh;
    StFile *in;
    Tape *tape;
    int B, T;
    Row row;
    real *logits;     // of this rank's rows
    double loss_sum;  // over all ranks, after forward_rows
} Forward;

static Status open_ids(Forward *f) {
    TRY(st_open(&f->in, ids_path));
    const StTensor *t = st_find(f->in, "input_ids");
    if (t == NULL || t->dtype != DTYPE_I64 || t->ndim != 2 || t->dim[0] < 1 || t->dim[1] < 2 ||
        t->dim[0] > INT32_MAX || t->dim[1] > INT32_MAX) {
        FAIL(E_FORMAT, "I64 of shape (B, T), B >= 1, T >= 2", "%s: no usable tensor `input_ids`",
             ids_path);
    }
    f->B = (int)t->dim[0];
    f->T = (int)t->dim[1];
    return OK;
}

static Status row_open(Row *r, int T) {
    size_t n = (size_t)T;
    *r = (Row){T,
               calloc(n, sizeof(int32_t)),
               calloc(n, sizeof(int32_t)),
               calloc(n, sizeof(int64_t)),
               calloc(n, sizeof(int)),
               calloc(n, 1)};
    if (!r->tokens || !r->targets || !r->pos || !r->first || !r->start)
        FAIL(E_NOMEM, "", "out of memory");
    for (int t = 0; t < T; t++) r->pos[t] = t;
    r->start[0] = 1;
    return OK;
}

static Status row_fill(Forward *f, int b) {
    const char *ids = st_data(f->in, st_find(f->in, "input_ids"));
    for (int t = 0; t < f->T; t++) {
        int64_t id;
        memcpy(&id, ids + ((size_t)b * (size_t)f->T + (size_t)t) * sizeof id, sizeof id);
        if (id < 0 || id >= f->dir.model.cfg.vocab) {
            FAIL(E_FORMAT, "ids must be in 0..V-1", "%s: input_ids[%d][%d] = %lld, but V = %d",
                 ids_path, b, t, (long long)id, f->dir.model.cfg.vocab);
        }
        f->row.tokens[t] = (int32_t)id;
        if (t > 0) f->row.targets[t - 1] = (int32_t)id;
    }
    f->row.targets[f->T - 1] = IGNORE_TARGET;
    return OK;
}

static Batch row_batch(const Row *r) {
    return (Batch){.seq = {.B = 1, .T = r->T, .pos = r->pos, .first = r->first, .start = r->start},
                   .tokens = r->tokens,
                   .targets = r->targets,
                   .valid = r->T - 1};
}

static Status forward_reserve(Forward *f) {
    Batch b = row_batch(&f->row);
    f->tape = tape_new();
    tape_dry(f->tape, false);
    model_logits(f->tape, &f->dir.model, &b, NULL);
    tape_dry(f->tape, grads_flag != NULL);
    Tensor *loss = model_loss(f->tape, &f->dir.model, &b, NULL);
    if (grads_flag != NULL) tape_backward(f->tape, loss);
    TRY(tape_reserve(f->tape));
    size_t rows = split_count((size_t)f->B, f->mesh.size, f->mesh.rank);
    size_t count = rows * (size_t)f->T * (size_t)f->dir.model.cfg.vocab;
    f->logits = malloc(count * sizeof(real) + 1);
    if (f->logits == NULL) FAIL(E_NOMEM, "use fewer rows", "out of memory for %zu logits", count);
    return OK;
}

static Status forward_row(Forward *f, int b, size_t local) {
    TRY(row_fill(f, b));
    Batch batch = row_batch(&f->row);
    Model *m = &f->dir.model;
    size_t count = (size_t)f->T * (size_t)m->cfg.vocab;
    tape_begin(f->tape, false);
    memcpy(f->logits + local * count, model_logits(f->tape, m, &batch, NULL)->data,
           count * sizeof(real));
    tape_begin(f->tape, grads_flag != NULL);
    Tensor *loss = model_loss(f->tape, m, &batch, NULL);
    if (grads_flag != NULL) tape_backward(f->tape, loss);
    f->loss_sum += tensor_item(loss);
    return OK;
}

static Status forward_open(Forward *f, const char *dir, const Arguments *a) {
    TRY(modeldir_open(&f->dir, dir, a, grads_flag != NULL));
    TRY(open_ids(f));
    TRY(row_open(&f->row, f->T));
    return forward_reserve(f);
}

static Status forward_rows(Forward *f) {
    size_t begin = split_begin((size_t)f->B, f->mesh.size, f->mesh.rank);
    size_t end = split_begin((size_t)f->B, f->mesh.size, f->mesh.rank + 1);
    for (size_t b = begin; b < end; b++) TRY(forward_row(f, (int)b, b - begin));
    return OK;
}

// Gradients of the mean: summed over ranks in double, divided by the number of targets.
static void fold_gradients(Forward *f, double targets) {
    ParamSet *ps = &f->dir.model.params;
    enum { PIECE = 1 << 16 };
    double *sum = malloc(PIECE * sizeof *sum);
    ASSERT(sum != NULL);
    for (size_t at = 0; at < ps->total; at += PIECE) {
        int n = (int)(ps->total - at < PIECE ? ps->total - at : PIECE);
        for (int i = 0; i < n; i++) sum[i] = (double)ps->grad[at + (size_t)i];
        comm_sum_doubles(f->mesh.world, sum, n);
        for (int i = 0; i < n; i++) ps->grad[at + (size_t)i] = (real)(sum[i] / targets);
    }
    free(sum);
}

static StSource tensor_source(const char *name, int ndim, const int64_t *dim, const real *data) {
    StSource s = {.t = {.dtype = sizeof(real) == 8 ? DTYPE_F64 : DTYPE_F32, .ndim = ndim},
                  .data = data};
    snprintf(s.t.name, sizeof s.t.name, "%s", name);
    memcpy(s.t.dim, dim, (size_t)ndim * sizeof *dim);
    return s;
}

static Status write_result(const Forward *f, const real *logits, real loss) {
    const ParamSet *ps = &f->dir.model.params;
    int gradients = grads_flag != NULL ? ps->count : 0;
    StSource *src = calloc((size_t)gradients + 2, sizeof *src);
    if (src == NULL) FAIL(E_NOMEM, "", "out of memory");
    src[0] = tensor_source("logits", 3, (int64_t[]){f->B, f->T, f->dir.model.cfg.vocab}, logits);
    src[1] = tensor_source("loss", 1, (int64_t[]){1}, &loss);
    for (int i = 0; i < gradients; i++) {
        const Param *p = &ps->rows[i];
        int64_t dim[PARAM_DIMS];
        for (int d = 0; d < p->ndim; d++) dim[d] = p->dim[d];
        src[i + 2] = tensor_source(p->name, p->ndim, dim, p->grad);
    }
    Status st = st_write(out_path, src, gradients + 2);
    free(src);
    return st;
}

// Collective(world).
static Status forward_collect(Forward *f) {
    double targets = (double)f->B * (f->T - 1);
    size_t rows = split_count((size_t)f->B, f->mesh.size, f->mesh.rank);
    size_t bytes = rows * (size_t)f->T * (size_t)f->dir.model.cfg.vocab * sizeof(real);
    size_t *offsets = calloc((size_t)f->mesh.size + 1, sizeof *offsets);
    ASSERT(offsets != NULL);
    char *all = NULL;
    comm_sum_doubles(f->mesh.world, &f->loss_sum, 1);
    if (grads_flag != NULL) fold_gradients(f, targets);
    Status st = comm_allgather_bytes(f->mesh.world, f->logits, bytes, &all, offsets);
    double loss = f->loss_sum / targets;
    if (st == OK && f->mesh.rank == 0) st = write_result(f, (const real *)(void *)all, (real)loss);
    st = agree(st, f->mesh.world);
    if (st == OK) log_info("loss %.6f over %.0f targets: %s", loss, targets, out_path);
    free(all);
    free(offsets);
    return st;
}

static void forward_close(Forward *f) {
    free(f->row.tokens);
    free(f->row.targets);
    free(f->row.pos);
    free(f->row.first);
    free(f->row.start);
    free(f->logits);
    tape_free(f->tape);
    st_close(f->in);
    modeldir_close(&f->dir);
    mesh_close(&f->mesh);
}

static Status check_words(const Arguments *a) {
    if (a->word_count == 1 && ids_path != NULL && out_path != NULL) return OK;
    FAIL(E_USAGE, "sterna forward MODEL_DIR --ids IN --out OUT [--grads]",
         "needs a model directory, --ids and --out");
}

Status cmd_forward(int argc, char **argv) {
    TRY(parallel_begin(&argc, &argv));
    Arguments a;
    Status st = arguments_parse(&a, argc, argv, OPTIONS, OPTION_COUNT);
    if (st == OK) st = check_words(&a);
    TRY(parallel_agree(st));
    Forward f = {.B = 0};
    TRY(mesh_open(&f.mesh, &(ParallelConfig){.dp = 0, .sp = 1, .tp = 1}));
    st = agree(forward_open(&f, a.words[0], &a), f.mesh.world);
    if (st == OK && grads_flag != NULL) params_zero_grad(&f.dir.model.params);
    if (st == OK) st = agree(forward_rows(&f), f.mesh.world);
    if (st == OK) st = forward_collect(&f);
    forward_close(&f);
    return st;
}
