// Planning a run: every class of memory from the functions that lay it out. The largest of each
// class over the ranks counts, so that the sum may be a little more than any one rank's.
#include "train/plan.h"

#include <stdio.h>
#include <string.h>

#include "parallel/reduce.h"
#include "tensor/threads.h"

// ---- what a rank holds -------------------------------------------------------------------------

// Besides its arenas a process holds the program and its libraries, Open MPI's segments and our own
// tables: 29 to 32 MiB, measured as resident peak less arenas of a tiny model on 1, 2, 4 and 8
// ranks. To that come panels that OpenBLAS packs, 12 MiB a thread once products are large: 43 to 46
// MiB in all at 1 thread, from models of 40 to 400 M parameters (docs/results.md). Pages of the
// mapped corpus do not count: the kernel takes them back when memory is short.
static const int64_t REST_BASE = (int64_t)32 << 20, REST_THREAD = (int64_t)12 << 20;

static int64_t rest_bytes(const TrainConfig *t, const Mesh *mesh, int rows) {
    int tokens = (int)split_count((size_t)t->seq, mesh->sp, 0);
    return REST_BASE + REST_THREAD * threads_chosen() + (int64_t)batch_bytes(rows, tokens);
}

static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

// The tape of one rank.
static int64_t tape_plan(const Objective *o, Learner *learners, const TrainConfig *t, int rows) {
    Tape *tp = tape_new();
    run_measure_tape(tp, o, learners, t, rows);
    tape_dry(tp, true);  // notes the last run's needs
    int64_t bytes = (int64_t)tape_bytes(tp);
    tape_free(tp);
    return bytes;
}

// Classes that the layout of parameters decides. Rank 0 has the largest share of each.
static void plan_parameters(Plan *p, const Learner *l, const TrainConfig *t) {
    size_t window, owned;
    const Model *m = &l->model;
    int64_t weights = (int64_t)(m->params.total * sizeof(real));
    p->arenas.weights += weights;
    if (l->frozen) return;
    int replicas = p->mesh.dp * p->mesh.sp;
    reducer_plan(&m->params, replicas, (size_t)t->bucket_mb << 20, &window, &owned);
    if (!p->mesh.zero) owned = m->params.total;
    p->arenas.gradients += weights;
    p->arenas.optimizer += 2 * (int64_t)(owned * sizeof(real));
    p->arenas.exchange += (int64_t)window;
    p->parameters += (double)model_parameters(m);
    p->flops_per_token += model_flops_per_token(m);
}

// All ranks of the sp axis, whose chunks and halos differ, with one share of the parameters.
static Status plan_share(Plan *p, const RunConfig *cfg, int tp_rank) {
    const Objective *o = p->objective;
    Mesh each = p->mesh;
    Learner learners[LEARNERS_MOST] = {{.name = NULL}};
    each.tp_rank = tp_rank;
    Status st = OK;
    for (int i = 0; st == OK && i < o->learner_count; i++) {
        LearnerConfig of;
        o->learners[i].configure(&of, cfg);
        st = learner_layout(&learners[i], o->learners[i].name, o->learners[i].frozen, &of, &each);
        if (st == OK && tp_rank == 0) plan_parameters(p, &learners[i], &cfg->train);
    }
    for (each.sp_rank = 0; st == OK && each.sp_rank < each.sp; each.sp_rank++)
        p->arenas.activations =
            most(p->arenas.activations, tape_plan(o, learners, &cfg->train, p->micro_rows));
    for (int i = 0; i < o->learner_count; i++) learner_close(&learners[i]);
    return st;
}

Status plan_make(Plan *p, const Objective *o, const RunConfig *cfg, int ranks) {
    *p = (Plan){.objective = o};
    objective_check(o);
    TRY(mesh_plan(&p->mesh, &cfg->parallel, ranks, 0));
    p->micro_rows = run_micro_rows(&cfg->train, &p->mesh);
    // Shares of the vocabulary differ by one row, the first ones are larger: two kinds of ranks.
    TRY(plan_share(p, cfg, 0));
    if (p->mesh.tp > 1) TRY(plan_share(p, cfg, p->mesh.tp - 1));
    p->rest = rest_bytes(&cfg->train, &p->mesh, p->micro_rows);
    return OK;
}

int64_t plan_resident(const Plan *p) {
    return memory_total(&p->arenas) + p->rest;
}

// ---- a mesh that fits --------------------------------------------------------------------------

enum { CHUNK_MIN = 64, RANKS_MOST = 1 << 12, TRIES = 64 };  // shorter chunks have nothing to share

// No more than this share of the memory may be left, or the change is not worth its ranks: gathered
// keys and values, for example, do not shrink with more chunks.
static const double LESS = 0.95;

// Another configuration becomes the current one if it can be and needs less.
static bool take(Search *s, const RunConfig *cfg, int ranks) {
    Plan plan;
    if (ranks > RANKS_MOST) return false;
    if (plan_make(&plan, s->plan.objective, cfg, ranks) != OK) {
        err_clear();
        return false;
    }
    if ((double)plan_resident(&plan) > LESS * (double)plan_resident(&s->plan)) return false;
    s->cfg = *cfg;
    s->ranks = ranks;
    s->plan = plan;
    return true;
}

// `axis` (of cfg) grows by `factor`: at the expense of dp where that divides, else by more ranks.
static bool take_axis(Search *s, RunConfig *cfg, int *axis, int factor) {
    int dp = s->plan.mesh.dp, ranks = s->ranks;
    *axis *= factor;
    if (dp % factor == 0) {
        dp /= factor;
    } else {
        if (ranks > RANKS_MOST / factor) return false;
        ranks *= factor;
    }
    if (cfg->parallel.dp != 0) cfg->parallel.dp = dp;
    cfg->train.micro_rows =
        s->plan.micro_rows;  // a chosen number would grow with the share of rows
    return take(s, cfg, ranks);
}

static bool shrink_activations(Search *s) {
    RunConfig cfg = s->cfg;
    if (s->plan.micro_rows > 1) {
        cfg.train.micro_rows = s->plan.micro_rows / 2;
        return take(s, &cfg, s->ranks);
    }
    if (cfg.train.seq / cfg.parallel.sp >= 2 * CHUNK_MIN && take_axis(s, &cfg, &cfg.parallel.sp, 2))
        return true;
    cfg = s->cfg;  // a ring holds the keys and values of a few chunks at a time
    snprintf(cfg.parallel.sp_softmax, sizeof cfg.parallel.sp_softmax, "ring");
    if (cfg.parallel.sp > 1 && take(s, &cfg, s->ranks)) return true;
    cfg = s->cfg;
    if (cfg.model.recompute) return false;
    cfg.model.recompute = true;
    return take(s, &cfg, s->ranks);
}

// The next tp that the model's sizes allow.
static bool shrink_parameters(Search *s) {
    int tp = s->cfg.parallel.tp, heads = s->cfg.model.heads;
    for (int factor = 2; tp * factor <= heads; factor++) {
        RunConfig cfg = s->cfg;
        if (heads % (tp * factor) == 0 && take_axis(s, &cfg, &cfg.parallel.tp, factor)) return true;
    }
    return false;
}

static bool shrink_moments(Search *s) {
    RunConfig cfg = s->cfg;
    const Mesh *mesh = &s->plan.mesh;
    if (!cfg.parallel.zero && mesh->dp * mesh->sp > 1) {
        cfg.parallel.zero = true;
        return take(s, &cfg, s->ranks);
    }
    int64_t rows = cfg.train.batch_tokens / cfg.train.seq;
    if (!cfg.parallel.zero || 2 * (int64_t)mesh->dp > rows) return false;
    if (cfg.parallel.dp != 0) cfg.parallel.dp = 2 * mesh->dp;
    cfg.train.micro_rows = s->plan.micro_rows;
    return s->ranks <= RANKS_MOST / 2 && take(s, &cfg, 2 * s->ranks);
}

// One change: for the largest class, or, when that cannot shrink, for another one. Moments that
// every rank keeps are as large as weights and gradients and cost nothing to divide: they come
// first among equals.
static bool shrink(Search *s) {
    const struct {
        int64_t bytes;
        bool (*shrink)(Search *s);
    } classes[] = {
        {s->plan.arenas.optimizer, shrink_moments},
        {s->plan.arenas.weights + s->plan.arenas.gradients, shrink_parameters},
        {s->plan.arenas.activations, shrink_activations},
    };
    bool tried[3] = {false};
    for (int round = 0; round < 3; round++) {
        int largest = -1;
        for (int i = 0; i < 3; i++)
            if (!tried[i] && (largest < 0 || classes[i].bytes > classes[largest].bytes))
                largest = i;
        if (classes[largest].shrink(s)) return true;
        tried[largest] = true;
    }
    return false;
}

// A later change may have made half of the added chunks enough.
static void trim(Search *s, int64_t bytes, const Search *first) {
    while (s->cfg.parallel.sp >= 2 * first->cfg.parallel.sp && s->ranks >= 2 * first->ranks) {
        RunConfig cfg = s->cfg;
        Plan plan;
        cfg.parallel.sp /= 2;
        if (s->ranks % 2 != 0 || plan_make(&plan, s->plan.objective, &cfg, s->ranks / 2) != OK)
            break;
        if (plan_resident(&plan) > bytes) return;
        *s = (Search){cfg, s->ranks / 2, plan};
    }
    err_clear();
}

bool search_fit(Search *s, int64_t bytes) {
    Search first = *s;
    for (int i = 0; i < TRIES && plan_resident(&s->plan) > bytes; i++) {
        if (!shrink(s)) break;
    }
    if (plan_resident(&s->plan) > bytes) return false;
    trim(s, bytes, &first);
    return true;
}

// " key=value" where it is not what it was; value 1 of a flag is "true".
static void word_add(char *dst, size_t capacity, const char *key, const int now_before[2]) {
    size_t n = strlen(dst);
    bool flag = strcmp(key, "parallel.zero") == 0 || strcmp(key, "model.recompute") == 0;
    char number[16];
    if (now_before[0] == now_before[1]) return;
    snprintf(number, sizeof number, "%d", now_before[0]);
    snprintf(dst + n, capacity - n, "%s%s=%s", n > 0 ? " " : "", key, flag ? "true" : number);
}

void search_words(char *dst, size_t capacity, const Search *s, const Search *from) {
    const RunConfig *a = &s->cfg, *b = &from->cfg;
    // Rows are named where the other words alone would have others.
    int rows = run_micro_rows(&b->train, &s->plan.mesh);
    dst[0] = '\0';
    word_add(dst, capacity, "parallel.dp", (int[]){a->parallel.dp, b->parallel.dp});
    word_add(dst, capacity, "parallel.sp", (int[]){a->parallel.sp, b->parallel.sp});
    if (strcmp(a->parallel.sp_softmax, b->parallel.sp_softmax) != 0)
        snprintf(dst + strlen(dst), capacity - strlen(dst), "%sparallel.sp_softmax=%s",
                 dst[0] != '\0' ? " " : "", a->parallel.sp_softmax);
    word_add(dst, capacity, "parallel.tp", (int[]){a->parallel.tp, b->parallel.tp});
    word_add(dst, capacity, "parallel.zero", (int[]){a->parallel.zero, b->parallel.zero});
    word_add(dst, capacity, "train.micro_rows", (int[]){s->plan.micro_rows, rows});
    word_add(dst, capacity, "model.recompute", (int[]){a->model.recompute, b->model.recompute});
    if (dst[0] == '\0') snprintf(dst, capacity, "--ranks %d", s->ranks);
}
