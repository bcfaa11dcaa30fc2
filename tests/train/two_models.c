// `sterna train` with another objective: two models that are trained and a frozen third one, two
// losses and an entropy in one weighted sum on one tape, and a weight that depends on what a
// counter says. tests/cli/two_models.sh compares its gradients with tests/oracle/two_models.py and
// resumes it.
//
//   two_models CONFIG.yaml [key=value ...]        trains
//   two_models plan RANKS CONFIG.yaml [key=value ...]   prints the bytes of each class of memory
//
// TWO_MODELS_ROWS=FILE: what the batches of a run on one rank hold, a line a token: row, position,
// token, target. TWO_MODELS_REFERENCE=N: another reference.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "parallel/agree.h"
#include "parallel/world.h"
#include "tensor/start.h"
#include "tensor/threads.h"
#include "train/commands.h"
#include "train/plan.h"
#include "train/run.h"

enum { LOSS, TOKENS, GAP, ENTROPY, SLOTS };  // sums over valid targets: nats, 1, gap^2, nats
enum { GAPS, STEPS, COUNTERS };              // sum of mean gaps, number of steps
static const double GAP_WEIGHT = 0.3, ENTROPY_WEIGHT = -0.02, TEMPERATURE = 1.3;

// ---- models ------------------------------------------------------------------------------------

// Smaller than the first: three layers of other kinds.
static void second_configure(LearnerConfig *out, const RunConfig *cfg) {
    objective_configure(out, cfg);
    ModelConfig *m = &out->model;
    m->layers = 3;
    m->ffn = m->ffn / 2;
    memcpy(m->layer, "WLN", 3);
    memset(m->layer_lrpe, 0, sizeof m->layer_lrpe);
    out->schedule.lr *= 0.5;
}

static Status second_weights(Learner *l, const RunConfig *cfg) {
    params_init(&l->model.params, (uint64_t)cfg->train.seed + 1);
    return OK;
}

// The second as it began.
static Status reference_weights(Learner *l, const RunConfig *cfg) {
    const char *other = getenv("TWO_MODELS_REFERENCE");
    int shift = other == NULL ? 1 : atoi(other);
    params_init(&l->model.params, (uint64_t)(cfg->train.seed + shift));
    return OK;
}

static const LearnerRow ROWS[] = {
    {"", false, TOKENS, objective_configure, objective_weights},
    {"second", false, TOKENS, second_configure, second_weights},
    {"reference", true, 0, second_configure, reference_weights},
};

// ---- losses ------------------------------------------------------------------------------------

static void gap_node(Tape *tp, const Node *node) {
    real *da = tape_grad(tp, node->in[0]), *db = tape_grad(tp, node->in[1]);
    if (tape_is_dry(tp)) return;
    for (int i = 0; i < node->out[0]->rows; i++) {
        real g = node->out[0]->grad[i], gap = node->saved[0][i];
        da[i] -= gap * g;
        db[i] += 2 * gap * g;
    }
}

// (b - (a + r) / 2)^2, (N,1) each; r is constant.
static Tensor *op_gap(Tape *tp, Tensor *a, Tensor *b, const Tensor *r) {
    Tensor *out = tape_tensor(tp, a->rows, 1);
    real *gap = tape_saved(tp, (size_t)a->rows);
    for (int i = 0; i < a->rows && !tape_is_dry(tp); i++) {
        gap[i] = b->data[i] - (a->data[i] + r->data[i]) / 2;
        out->data[i] = gap[i] * gap[i];
    }
    return tape_push(
        tp,
        &(Node){.backward = gap_node, .out = TENSORS(out), .in = TENSORS(a, b), .saved = {gap}});
}

static double gap_weight(const double *counters) {
    return GAP_WEIGHT / (1 + counters[GAPS]);
}

static void dump_rows(const Batch *b, const char *path) {
    FILE *out = fopen(path, "a");
    ASSERT(out != NULL);
    for (int i = 0; i < b->seq.B * b->seq.T; i++)
        fprintf(out, "%d %lld %d %d\n", i / b->seq.T, (long long)b->seq.pos[i], b->tokens[i],
                b->targets[i]);
    bool whole = fclose(out) == 0;
    ASSERT(whole);
}

static Tensor *two_loss(Tape *tp, Learner *learners, const Batch *b, const double *counters,
                        Tensor **parts) {
    Model *first = &learners[0].model, *second = &learners[1].model,
          *reference = &learners[2].model;
    const char *dump = getenv("TWO_MODELS_ROWS");
    if (dump != NULL && !tape_is_dry(tp)) dump_rows(b, dump);
    LogProbArgs plain = {.temperature = 1}, warm = {.temperature = TEMPERATURE};
    Tensor *entropy;
    bool was = tape_record(tp, false);
    Tensor *r = model_log_probs(tp, reference, b, plain, NULL);
    tape_record(tp, was);
    Tensor *gap = op_gap(tp, model_log_probs(tp, first, b, plain, NULL),
                         model_log_probs(tp, second, b, warm, &entropy), r);
    parts[LOSS] = model_loss(tp, first, b, NULL);
    parts[GAP] = op_loss_total(tp, gap, b->weights);
    parts[ENTROPY] = op_loss_total(tp, entropy, b->weights);
    Tensor *both = op_loss_sum(tp, parts[LOSS], 1, parts[GAP], gap_weight(counters));
    return op_loss_sum(tp, both, 1, parts[ENTROPY], ENTROPY_WEIGHT);
}

static void two_tally(const Batch *b, Tensor *const *parts, double *slots) {
    slots[LOSS] += tensor_item(parts[LOSS]);
    slots[TOKENS] += (double)b->valid;
    slots[GAP] += tensor_item(parts[GAP]);
    slots[ENTROPY] += tensor_item(parts[ENTROPY]);
}

static void two_advance(double *counters, const StepResult *r) {
    counters[GAPS] += r->slots[GAP] / r->slots[TOKENS];
    counters[STEPS]++;
}

static void two_metrics(JsonOut *w, const StepResult *r, const double *counters) {
    jsonout_number(w, "gap", r->slots[GAP] / r->slots[TOKENS]);
    jsonout_number(w, "entropy", r->slots[ENTROPY] / r->slots[TOKENS]);
    jsonout_number(w, "gap_weight", gap_weight(counters));
}

static const char *const NAMES[COUNTERS] = {"gaps", "steps"};
static const Objective TWO_MODELS = {.name = "two models",
                                     .learners = ROWS,
                                     .learner_count = 3,
                                     .slot_count = SLOTS,
                                     .tokens_slot = TOKENS,
                                     .loss = two_loss,
                                     .tally = two_tally,
                                     .counters = NAMES,
                                     .counter_count = COUNTERS,
                                     .advance = two_advance,
                                     .metrics = two_metrics};

// ---- program -----------------------------------------------------------------------------------

static Status run_plan(RunConfig *cfg, Config *c, int ranks) {
    Plan p;
    TRY(model_config_resolve(&cfg->model, c));
    TRY(plan_make(&p, &TWO_MODELS, cfg, ranks));
    printf("weights %lld\ngradients %lld\noptimizer %lld\nexchange %lld\nactivations %lld\n",
           (long long)p.arenas.weights, (long long)p.arenas.gradients,
           (long long)p.arenas.optimizer, (long long)p.arenas.exchange,
           (long long)p.arenas.activations);
    return OK;
}

static Status run_two(int argc, char **argv) {
    Arguments a;
    bool plan = argc > 2 && strcmp(argv[1], "plan") == 0;
    int ranks = plan ? atoi(argv[2]) : 0;
    signals_catch();
    TRY(parallel_begin(&argc, &argv));
    RunConfig *cfg = calloc(1, sizeof *cfg);
    ASSERT(cfg != NULL);
    Section sections[RUN_SECTIONS];
    run_config_sections(cfg, sections);
    Config *c = config_new(sections, RUN_SECTIONS);
    Status st = arguments_parse(&a, plan ? argc - 2 : argc, plan ? argv + 2 : argv, NULL, 0);
    if (st == OK) st = run_config_read(c, &a);
    st = parallel_agree_config(st, c);
    if (st == OK) st = plan ? run_plan(cfg, c, ranks) : train_run(&TWO_MODELS, cfg, c);
    config_free(c);
    free(cfg);
    return st;
}

int main(int argc, char **argv) {
    log_begin();
    libraries_prepare(argv);
    threads_choose_alone(1);
    Status st = run_two(argc, argv);
    if (st != OK && parallel_world_rank() == 0) log_error(st);
    parallel_end();
    return status_exit_code(st);
}
