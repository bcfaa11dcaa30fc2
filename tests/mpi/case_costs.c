// What each method costs: calls and bytes of every exchange of a step, by the formulas of
// docs/parallelism.md, on every grid, for every rank.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "parallel/reduce.h"
#include "tests/mpi/grid_run.h"

// Sizes as grid_run.c sets them.
enum { C = 96, H = 12, D = 8, WINDOW = 70, HIDDEN = 10, CONV = 4, L_CONV = 3 };

typedef struct Costs {
    double calls[COMM_USE_COUNT], reals[COMM_USE_COUNT];  // sent to others
    double doubles;                                       // of the loss
} Costs;

// One micro-batch of b rows on one rank.
typedef struct Pass {
    const Mesh *m;
    const ModelConfig *model;
    const int *bound;
    int b, chunk, heads, forwards;  // heads of the share; forwards: 2 when backward runs them again
    Costs *costs;
} Pass;

static void add(const Pass *p, CommUse use, double calls, double reals) {
    p->costs->calls[use] += calls;
    p->costs->reals[use] += reals;
}

static int chunk_of(const Pass *p, int rank) {
    return p->bound[rank + 1] - p->bound[rank];
}

// ---- linear layers -----------------------------------------------------------------------------

static int rounds(int size) {
    int n = 0;
    while (1 << n < size) n++;
    return n;
}

// place: distance from where the fold begins.
static void state_costs(const Pass *p, CommUse use, int place, double state) {
    int S = p->m->sp;
    if (p->m->sp_linear == SP_LASP2) add(p, use, 1, (S - 1) * state);
    if (p->m->sp_linear == SP_LASP)
        add(p, use, (place > 0) + (place < S - 1), place < S - 1 ? state : 0);
    if (p->m->sp_linear != SP_LASP2_SCAN) return;
    for (int d = 1; d < S; d *= 2) add(p, use, 0, place + d < S ? state : 0);
    add(p, use, rounds(S), 0);
}

// ---- states that are handed on -----------------------------------------------------------------

// Records of `size` reals each, from the rank before and to the one after.
static void chain_costs(const Pass *p, CommUse use, int place, double records, double size) {
    int after = place < p->m->sp - 1;
    add(p, use, records * ((place > 0) + after), after ? records * size : 0);
}

static void memory_costs(const Pass *p, CommUse use, int place) {
    double weights = 2.0 * D * HIDDEN, record = p->heads * (3 * weights + 2);
    double tails = 3.0 * p->heads * D * (CONV - 1);
    chain_costs(p, use, place, p->b, record);
    chain_costs(p, use, place, 1, p->b * tails);
}

// ---- softmax layers ----------------------------------------------------------------------------

// Rows of rank `owner` in the halo of rank `p`.
static int halo(const Pass *p, int owner, int of) {
    int low =
        p->bound[of] - WINDOW + 1 > p->bound[owner] ? p->bound[of] - WINDOW + 1 : p->bound[owner];
    int high = p->bound[owner + 1] < p->bound[of] ? p->bound[owner + 1] : p->bound[of];
    return owner < of && low < high ? high - low : 0;
}

static void window_costs(const Pass *p, double width) {
    double out = 0, back = 0;
    for (int r = 0; r < p->m->sp; r++) {
        out += p->b * halo(p, p->m->sp_rank, r) * width;
        back += p->b * halo(p, r, p->m->sp_rank) * width;
    }
    add(p, COMM_KV, p->forwards, p->forwards * out);
    add(p, COMM_KV_AGAIN, 1, out);
    add(p, COMM_DKV, 1, back);
}

static void softmax_costs(const Pass *p, double width) {
    int S = p->m->sp, r = p->m->sp_rank;
    double mine = p->b * p->chunk * width, all = p->b * (double)T * width, passed = 0;
    double out = p->b * p->chunk * width / 2 * (S - 1) / S, back = (all - mine) / 2 / S;
    for (int h = 0; h + 1 < S; h++) passed += p->b * chunk_of(p, ((r - h) % S + S) % S) * width;
    switch (p->m->sp_softmax) {
    case SP_LASP2H:
        add(p, COMM_KV, p->forwards, p->forwards * (S - 1) * mine);
        add(p, COMM_KV_AGAIN, 1, (S - 1) * mine);
        add(p, COMM_DKV, 1, all - mine);
        break;
    case SP_RING:
        add(p, COMM_KV, p->forwards * (S - 1), p->forwards * passed);
        add(p, COMM_KV_AGAIN, S - 1, passed);
        add(p, COMM_DKV, S, all);
        break;
    case SP_ULYSSES:  // q, k, v are as wide as half a row [k | v] each
        add(p, COMM_KV, p->forwards * 4, p->forwards * (3 * out + back));
        add(p, COMM_DKV, 4, out + 3 * back);
        break;
    }
}

// ---- tensor parallelism ------------------------------------------------------------------------

// A sum of n reals: pieces to their owners, the own piece to all.
static void sum_costs(const Pass *p, CommUse use, size_t n) {
    double own = (double)split_count(n, p->m->tp, p->m->tp_rank);
    if (n > 0) add(p, use, 1, (double)n - own + own * (p->m->tp - 1));
}

static void tensor_costs(const Pass *p) {
    size_t n = (size_t)p->b * (size_t)p->chunk;
    if (p->m->tp == 1 || n == 0) return;
    for (int l = 0; l < p->model->layers; l++) {  // L layers carry the norm's column
        sum_costs(p, COMM_TP, n * (C + (p->model->layer[l] == 'L' ? 1 : 0)));
        sum_costs(p, COMM_DTP, n * C);
        sum_costs(p, COMM_TP, n * C);  // the channel mixer
        sum_costs(p, COMM_DTP, n * C);
    }
    sum_costs(p, COMM_TP, n * C);   // embedding
    sum_costs(p, COMM_DTP, n * C);  // head
    add(p, COMM_LOSS, 1, 0);
    p->costs->doubles += 2.0 * (double)n * (p->m->tp - 1);
}

// A row of the table of mixers has its formula here, too.
static void layer_costs(const Pass *p, int l) {
    int place = p->m->sp_rank, last = p->m->sp - 1;
    double state = (double)p->b * p->heads * D * D * (p->model->layer_lrpe[l] ? 2 : 1);  // A x E
    switch (p->model->layer[l]) {
    case 'L':
        state_costs(p, COMM_STATE, place, state);
        state_costs(p, COMM_DSTATE, last - place, state);
        chain_costs(p, COMM_STATE, place, 1, p->b * 3.0 * p->heads * D * (L_CONV - 1));
        chain_costs(p, COMM_DSTATE, last - place, 1, p->b * 3.0 * p->heads * D * (L_CONV - 1));
        break;
    case 'N':
        softmax_costs(p, 2.0 * p->heads * D);
        break;
    case 'G':
        window_costs(p, 2.0 * p->heads * D);
        memory_costs(p, COMM_STATE, place);
        memory_costs(p, COMM_DSTATE, last - place);
        break;
    case 'M':
        memory_costs(p, COMM_STATE, place);
        memory_costs(p, COMM_DSTATE, last - place);
        break;
    case 'W':
        window_costs(p, 2.0 * p->heads * D);
        break;
    default:
        case_fail(__FILE__, __LINE__, "a mixer without a formula of its exchanges");
    }
}

static void pass_costs(const Pass *p) {
    tensor_costs(p);
    for (int l = 0; l < p->model->layers && p->m->sp > 1; l++) layer_costs(p, l);
}

static Costs step_costs(const Run *run, const Rows *rows, bool recompute) {
    Costs costs = {{0}, {0}, 0};
    const Mesh *m = &run->mesh;
    int left = (int)split_count(ROWS, m->dp, m->dp_rank);
    for (; left > 0; left -= MICRO_ROWS) {
        int b = left < MICRO_ROWS ? left : MICRO_ROWS;
        Pass p = {m,         &run->learner[0].model.cfg, rows->bound, b, 0,
                  H / m->tp, recompute ? 2 : 1,          &costs};
        p.chunk = chunk_of(&p, m->sp_rank);
        pass_costs(&p);
    }
    int replicas = m->dp * m->sp, count;
    double own = 0;
    const Range *shard = reducer_shard(run->learner[0].reducer, &count);
    for (int i = 0; i < count; i++) own += (double)shard[i].count;
    double others = (double)run->learner[0].model.params.total - own;
    costs.reals[COMM_GRADIENTS] = others + (m->zero ? 0 : own * (replicas - 1));
    costs.reals[COMM_WEIGHTS] = m->zero ? own * (replicas - 1) : 0;
    return costs;
}

static void check_use(const Mesh *m, CommUse use, const CommStat *before, double calls,
                      double bytes) {
    CommStat now = comm_stat(use);
    if (now.bytes - before->bytes == bytes &&
        (calls < 0 || (double)(now.calls - before->calls) == calls))
        return;
    char text[512];
    snprintf(text, sizeof text,
             "dp %d sp %d tp %d rank %d, linear %d softmax %d: %s: %lld calls, %.0f bytes, want "
             "%.0f calls, %.0f bytes",
             m->dp, m->sp, m->tp, m->rank, (int)m->sp_linear, (int)m->sp_softmax,
             comm_use_text(use), (long long)(now.calls - before->calls), now.bytes - before->bytes,
             calls, bytes);
    case_fail(__FILE__, __LINE__, text);
}

static void check_costs(const Mesh *mesh, const Setup *s) {
    Rows *rows = calloc(1, sizeof *rows);
    Run *run = calloc(1, sizeof *run);
    CommStat before[COMM_USE_COUNT];
    StepResult r;
    run_on(run, rows, mesh, s);
    for (int u = 0; u < COMM_USE_COUNT; u++) before[u] = comm_stat((CommUse)u);
    CHECK(train_step(run, &r) == OK);
    Costs costs = step_costs(run, rows, s->recompute);
    for (int u = COMM_GRADIENTS; u < COMM_USE_COUNT; u++) {
        bool buckets = u == COMM_GRADIENTS || u == COMM_WEIGHTS;  // as many calls as buckets
        double bytes = costs.reals[u] * sizeof(real) + (u == COMM_LOSS ? 8 * costs.doubles : 0);
        check_use(mesh, (CommUse)u, &before[u], buckets ? -1 : costs.calls[u], bytes);
    }
    run_end(run);
    free(run);
    free(rows);
}

static void check_all_costs(Mesh *grid, void *user) {
    (void)user;
    for (int method = 0; method < 3; method++) {
        grid->sp_linear = (SpLinear)method;
        grid->sp_softmax = (SpSoftmax)method;
        if (method == 2 && H / grid->tp % grid->sp != 0) grid->sp_softmax = SP_LASP2H;
        grid->zero = method != 1;
        for (int k = 0; k < 4; k++) {
            Setup s = {.uneven = k / 2 == 1, .recompute = k % 2 == 1};
            if (grid->sp > 1 || k < 2) check_costs(grid, &s);
        }
    }
}

static void exchanges_cost_what_is_written(const Mesh *mesh) {
    each_grid(mesh, check_all_costs, NULL);
}

const MpiCase CASES_COSTS[] = {{"exchanges_cost_what_is_written", exchanges_cost_what_is_written},
                               {NULL, NULL}};
