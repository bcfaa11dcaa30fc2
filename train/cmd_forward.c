// sterna forward: a window for comparison with other implementations. Token ids in, logits, loss
// and gradients out.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "checkpoints/checkpoint.h"
#include "parallel/agree.h"
#include "parallel/mesh.h"
#include "parallel/world.h"
#include "train/modeldir.h"

static const char *ids_path, *out_path, *grads_flag;
static const Option OPTIONS[] = {
    {"ids", "FILE", "safetensors with `input_ids`, I64 of shape (B, T), and perhaps `document`",
     &ids_path},
    {"out", "FILE", "safetensors written: `logits` (B, T, V), `loss` (1)", &out_path},
    {"grads", NULL, "also the gradient of the loss for every parameter, under its name",
     &grads_flag},
};
enum { OPTION_COUNT = sizeof OPTIONS / sizeof OPTIONS[0] };

void help_forward(void) {
    puts("usage: [mpirun -n RANKS] sterna forward MODEL_DIR --ids IN --out OUT [--grads] "
         "[model.key=value ...] [parallel.key=value ...]\n\n"
         "Runs the model on token ids. loss is the mean cross-entropy of the next token over all "
         "rows.\n"
         "A tensor `document`, I64 of the same shape, says where documents change within rows: "
         "where its value does.\n"
         "Rows are dealt to ranks; logits do not depend on how many there are, sums but for "
         "rounding.\n"
         "With parallel.sp and parallel.tp ranks share each row and the model.\n");
    options_print(OPTIONS, OPTION_COUNT);
}

typedef struct Forward {
    ModelDir dir;
    Mesh mesh;
    StFile *in;
    int64_t *document;  // (B,T), NULL: a row is one
    Tape *tape;
    int B, T;
    int64_t targets;
    BatchRoom room;   // of one row, a document
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

// Tokens that go on with the document of the one before have a target before them.
static bool goes_on(const Forward *f, int b, int t) {
    if (t == 0 || f->document == NULL) return t > 0;
    const int64_t *row = f->document + (size_t)b * (size_t)f->T;
    return row[t] == row[t - 1];
}

static Status open_documents(Forward *f) {
    const StTensor *t = st_find(f->in, "document");
    size_t count = (size_t)f->B * (size_t)f->T;
    if (t != NULL &&
        (t->dtype != DTYPE_I64 || t->ndim != 2 || t->dim[0] != f->B || t->dim[1] != f->T))
        FAIL(E_FORMAT, "a number for each token, which changes where a document starts",
             "%s: `document` is not I64 of the shape of `input_ids`", ids_path);
    if (t != NULL) {
        f->document = malloc(count * sizeof *f->document);
        if (f->document == NULL) FAIL(E_NOMEM, "", "out of memory for %zu documents", count);
        memcpy(f->document, st_data(f->in, t), count * sizeof *f->document);
    }
    for (int b = 0; b < f->B; b++)
        for (int i = 1; i < f->T; i++) f->targets += goes_on(f, b, i);
    if (f->targets > 0) return OK;
    FAIL(E_FORMAT, "a document of one token has no target", "%s: no token has a target", ids_path);
}

static Status check_id(const Forward *f, int64_t id, int b, int t) {
    int V = f->dir.model.cfg.vocab;
    if (id >= 0 && id < V) return OK;
    FAIL(E_FORMAT, "ids must be in 0..V-1", "%s: input_ids[%d][%d] = %lld, but V = %d", ids_path, b,
         t, (long long)id, V);
}

// Row b as a batch: this rank's chunk of it. All ranks look at the whole row, so that all fail or
// none does.
static Status row_fill(Forward *f, int b, Batch *out) {
    BatchRoom *room = &f->room;
    const char *ids = st_data(f->in, st_find(f->in, "input_ids"));
    TRY(batch_begin(room, 1, f->T));
    for (int t = 0; t < f->T; t++) {
        int64_t id;
        if (!goes_on(f, b, t)) TRY(batch_add_document(room, t));
        memcpy(&id, ids + ((size_t)b * (size_t)f->T + (size_t)t) * sizeof id, sizeof id);
        TRY(check_id(f, id, b, t));
        int here = t - room->begin;
        if (here >= 0 && here <= room->count) batch_next_tokens(room)[here] = (int32_t)id;
    }
    batch_add_row(room, f->T - 1);
    *out = batch_view(room);
    return OK;
}

// Rows are dealt to the dp axis.
static size_t first_row(const Forward *f, int dp_rank) {
    return split_begin((size_t)f->B, f->mesh.dp, dp_rank);
}

// Logits of one row on a rank.
static size_t row_logits(const Forward *f, int sp_rank) {
    return split_count((size_t)f->T, f->mesh.sp, sp_rank) * (size_t)f->dir.model.cfg.vocab;
}

static size_t local_rows(const Forward *f) {
    return first_row(f, f->mesh.dp_rank + 1) - first_row(f, f->mesh.dp_rank);
}

static Status forward_reserve(Forward *f) {
    Batch b;
    TRY(batch_shape(&f->room, 1, f->T, &b));
    f->tape = tape_new();
    tape_dry(f->tape, false);
    model_logits(f->tape, &f->dir.model, &b, NULL);
    tape_dry(f->tape, grads_flag != NULL);
    Tensor *loss = model_loss(f->tape, &f->dir.model, &b, NULL);
    if (grads_flag != NULL) tape_backward(f->tape, loss);
    TRY(tape_reserve(f->tape));
    size_t count = local_rows(f) * row_logits(f, f->mesh.sp_rank);
    f->logits = malloc(count * sizeof(real) + 1);
    if (f->logits == NULL) FAIL(E_NOMEM, "use fewer rows", "out of memory for %zu logits", count);
    return OK;
}

static Status forward_row(Forward *f, int b, size_t local) {
    Batch batch;
    TRY(row_fill(f, b, &batch));
    Model *m = &f->dir.model;
    size_t count = row_logits(f, f->mesh.sp_rank);
    tape_begin(f->tape, false);
    memcpy(f->logits + local * count, model_logits(f->tape, m, &batch, NULL)->data,
           count * sizeof(real));
    tape_begin(f->tape, grads_flag != NULL);
    Tensor *loss = model_loss(f->tape, m, &batch, NULL);
    if (grads_flag != NULL) tape_backward(f->tape, loss);
    if (f->mesh.tp_rank == 0) f->loss_sum += tensor_item(loss);  // tp ranks hold the same
    return OK;
}

static Status forward_open(Forward *f, const char *dir, const Arguments *a) {
    TRY(modeldir_open(&f->dir, dir, a, &f->mesh, grads_flag != NULL));
    TRY(open_ids(f));
    TRY(open_documents(f));
    TRY(batch_open(&f->room, f->T, f->mesh.sp, f->mesh.sp_rank));
    return forward_reserve(f);
}

static Status forward_rows(Forward *f) {
    size_t begin = first_row(f, f->mesh.dp_rank), rows = local_rows(f);
    for (size_t b = 0; b < rows; b++) TRY(forward_row(f, (int)(begin + b), b));
    return OK;
}

// Adds this rank's share of a row to the whole, from element `at` of the whole on.
static void add_share(double *whole, size_t at, size_t n, const Param *p) {
    const ParamRuns *s = &p->share;
    for (size_t r = 0; r < s->runs; r++) {
        size_t begin = s->begin + r * s->stride, end = begin + s->run;
        size_t from = begin > at ? begin : at, to = end < at + n ? end : at + n;
        for (size_t g = from; g < to; g++) whole[g - at] += (double)p->grad[r * s->run + g - begin];
    }
}

// The gradient of the mean for one whole parameter: summed over ranks in double, divided by the
// number of targets, on rank 0. Rows that the tp axis replicates count on its rank 0.
static void fold_gradient(const Forward *f, const Param *p, double targets, real *out) {
    enum { PIECE = 1 << 20 };
    double *sum = malloc(PIECE * sizeof *sum);
    ASSERT(sum != NULL);
    for (size_t at = 0; at < p->whole; at += PIECE) {
        size_t n = p->whole - at < PIECE ? p->whole - at : PIECE;
        memset(sum, 0, n * sizeof *sum);
        if (p->tp_axis >= 0 || f->mesh.tp_rank == 0) add_share(sum, at, n, p);
        comm_sum_doubles(f->mesh.world, sum, (int)n);
        for (size_t i = 0; i < n && f->mesh.rank == 0; i++) out[at + i] = (real)(sum[i] / targets);
    }
    free(sum);
}

// (B,T,V) on rank 0 from the rows and chunks of the first rank of each tp axis.
static void collect_logits(const Forward *f, real *out) {
    enum { TAG_LOGITS = 1 };
    size_t V = (size_t)f->dir.model.cfg.vocab;
    for (int r = 0; r < f->mesh.size; r += f->mesh.tp) {
        int dp = r / (f->mesh.sp * f->mesh.tp), sp = r / f->mesh.tp % f->mesh.sp;
        size_t n = row_logits(f, sp), from = split_begin((size_t)f->T, f->mesh.sp, sp);
        const real *mine = f->logits;
        for (size_t b = first_row(f, dp); b < first_row(f, dp + 1); b++, mine += n) {
            real *to = f->mesh.rank == 0 ? out + (b * (size_t)f->T + from) * V : NULL;
            if (r == 0 && to != NULL) memcpy(to, mine, n * sizeof *to);
            if (r > 0 && to != NULL) comm_recv(f->mesh.world, to, n * sizeof *to, r, TAG_LOGITS);
            if (r > 0 && r == f->mesh.rank)
                comm_send(f->mesh.world, mine, n * sizeof *mine, 0, TAG_LOGITS);
        }
    }
}

static StSource tensor_source(const char *name, int ndim, const int64_t *dim, const real *data) {
    StSource s = {.t = {.dtype = sizeof(real) == 8 ? DTYPE_F64 : DTYPE_F32, .ndim = ndim},
                  .data = data};
    snprintf(s.t.name, sizeof s.t.name, "%s", name);
    memcpy(s.t.dim, dim, (size_t)ndim * sizeof *dim);
    return s;
}

// gradients: whole parameters, one after the other.
static Status write_result(const Forward *f, const real *logits, real loss, const real *grad) {
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
        src[i + 2] = tensor_source(p->name, p->ndim, dim, grad);
        grad += p->whole;
    }
    Status st = st_write(out_path, src, gradients + 2);
    free(src);
    return st;
}

// What rank 0 writes; the others' parts are of no use to them.
typedef struct Collected {
    real *logits, *grad;
} Collected;

static Status collected_open(Collected *c, const Forward *f) {
    bool writes = f->mesh.rank == 0;
    size_t grads = grads_flag != NULL && writes ? params_elements(&f->dir.model.params) : 0;
    size_t logits = writes ? (size_t)f->B * (size_t)f->T * (size_t)f->dir.model.cfg.vocab : 0;
    c->grad = malloc((grads + 1) * sizeof *c->grad);
    c->logits = malloc((logits + 1) * sizeof *c->logits);
    if (c->grad != NULL && c->logits != NULL) return OK;
    FAIL(E_NOMEM, "use fewer rows", "out of memory for %zu logits and %zu gradients", logits,
         grads);
}

// Collective(world).
static void collect(Forward *f, Collected *c, double targets) {
    ParamSet *ps = &f->dir.model.params;
    real *grad = c->grad;
    comm_sum_doubles(f->mesh.world, &f->loss_sum, 1);
    for (int i = 0; grads_flag != NULL && i < ps->count; i++) {
        fold_gradient(f, &ps->rows[i], targets, grad);
        if (f->mesh.rank == 0) grad += ps->rows[i].whole;
    }
    collect_logits(f, c->logits);
}

// Collective(world).
static Status forward_collect(Forward *f) {
    Collected c = {0};
    double targets = (double)f->targets;
    Status st = agree(collected_open(&c, f), f->mesh.world);
    if (st == OK) collect(f, &c, targets);
    double loss = f->loss_sum / targets;
    if (st == OK && f->mesh.rank == 0) st = write_result(f, c.logits, (real)loss, c.grad);
    st = agree(st, f->mesh.world);
    if (st == OK) log_info("loss %.6f over %.0f targets: %s", loss, targets, out_path);
    free(c.logits);
    free(c.grad);
    return st;
}

static void forward_close(Forward *f) {
    batch_close(&f->room);
    free(f->document);
    free(f->logits);
    tape_free(f->tape);
    st_close(f->in);
    modeldir_close(&f->dir);
    mesh_close(&f->mesh);
}

static uint64_t ids_hash(const Forward *f) {
    const StTensor *t = st_find(f->in, "input_ids");
    return hash64(st_data(f->in, t), (size_t)t->bytes);
}

static Status check_words(const Arguments *a) {
    if (a->word_count != 1 || ids_path == NULL || out_path == NULL)
        FAIL(E_USAGE, "sterna forward MODEL_DIR --ids IN --out OUT [--grads]",
             "needs a model directory, --ids and --out");
    if (hf_dir_holds(a->words[0], out_path))
        FAIL(E_USAGE, "what is read must not be replaced: choose another name",
             "--out %s is a file of the model %s", out_path, a->words[0]);
    return output_check("out", out_path, false, &ids_path, 1);
}

Status cmd_forward(int argc, char **argv) {
    TRY(parallel_begin(&argc, &argv));
    Arguments a;
    Status st = arguments_parse(&a, argc, argv, OPTIONS, OPTION_COUNT);
    if (st == OK) st = check_words(&a);
    TRY(arguments_agree(st, &a, OPTIONS, OPTION_COUNT));
    Forward f = {.B = 0};
    TRY(modeldir_mesh(&f.mesh, &a));
    st = agree(forward_open(&f, a.words[0], &a), f.mesh.world);
    if (st == OK) st = modeldir_agree(&f.dir, ids_hash(&f), &f.mesh);
    if (st == OK && grads_flag != NULL) params_zero_grad(&f.dir.model.params);
    if (st == OK) st = agree(forward_rows(&f), f.mesh.world);
    if (st == OK) st = forward_collect(&f);
    forward_close(&f);
    return st;
}
