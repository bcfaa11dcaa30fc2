// sterna plan: what a configuration costs, before anything is allocated.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "train/commands.h"
#include "train/run.h"

static const char *ranks_text = "1", *presets_flag, *preset_text, *vocab_text;
static const Option OPTIONS[] = {
    {"ranks", "R", "ranks in all (default 1); parallel.sp and parallel.tp share them out", &ranks_text},
    {"preset", "NAME", "plan a preset instead of a configuration file", &preset_text},
    {"vocab", "V", "vocabulary where neither file nor preset fixes it (default 32768)",
     &vocab_text},
    {"presets", NULL, "list the presets", &presets_flag},
};
enum { OPTION_COUNT = sizeof OPTIONS / sizeof OPTIONS[0], PLAN_VOCAB = 32768 };

void help_plan(void) {
    puts("usage: sterna plan [CONFIG.yaml | --preset NAME] [key=value ...] [options]\n\n"
         "Prints parameters, memory per rank by class and FLOPs. Allocates no tensor.\n");
    options_print(OPTIONS, OPTION_COUNT);
}

static void print_preset(const char *name, const char *text, void *user) {
    (void)user;
    printf("  %-18s %s\n", name, text);
}

static double gib(double bytes) {
    return bytes / 1073741824.0;
}

// Memory of activations and their gradients, measured by dry runs of the real model code. Ranks of
// the sp axis differ (chunks, halos): the largest counts.
static size_t plan_activations(Model *m, const TrainConfig *t, const Mesh *mesh, int rows) {
    size_t most = 0;
    Mesh each = *mesh;
    m->mesh = &each;
    for (each.sp_rank = 0; each.sp_rank < mesh->sp; each.sp_rank++) {
        Tape *tp = tape_new();
        run_measure_tape(tp, m, t, rows);
        tape_dry(tp, true);  // notes the last run's needs
        most = tape_bytes(tp) > most ? tape_bytes(tp) : most;
        tape_free(tp);
    }
    m->mesh = mesh;
    return most;
}

static void print_plan(Model *m, const RunConfig *cfg) {
    const TrainConfig *t = &cfg->train;
    const Mesh *mesh = m->mesh;
    double parameters = (double)model_parameters(m),
           stored = (double)m->params.total * sizeof(real);
    int64_t rows = t->batch_tokens / t->seq;
    int micro = run_micro_rows(t, mesh), replicas = mesh->dp * mesh->sp;
    size_t window, owned;
    reducer_plan(&m->params, replicas, (size_t)t->bucket_mb << 20, &window, &owned);
    double moments = 2.0 * sizeof(real) * (double)(mesh->zero ? owned : m->params.total);
    double exchange = (double)window;
    double activations = (double)plan_activations(m, t, mesh, micro);
    printf("%s\n", model_dim_summary(&m->cfg));
    printf("parameters        %.*fM\n", parameters < 1e9 ? 2 : 1, parameters / 1e6);
    printf("FLOPs a token     %.4g (6 x (non-embedding parameters + head))\n",
           model_flops_per_token(m));
    printf("mesh              dp %d x sp %d x tp %d = %d rank%s\n", mesh->dp, mesh->sp, mesh->tp,
           mesh->size, mesh->size == 1 ? "" : "s");
    printf("batch             %lld tokens = %lld sequences of %d; %d a micro-batch\n",
           (long long)t->batch_tokens, (long long)rows, t->seq, micro);
    printf("memory per rank, GiB\n");
    printf("  weights         %10.4f   (1/%d of the split ones)\n", gib(stored), mesh->tp);
    printf("  gradients       %10.4f\n", gib(stored));
    printf("  optimizer       %10.4f   (both moments, 1/%d of them)\n", gib(moments),
           mesh->zero ? replicas : 1);
    printf("  exchange        %10.4f\n", gib(exchange));
    printf("  activations     %10.4f   (and their gradients, one micro-batch)\n", gib(activations));
    printf("  total           %10.4f\n", gib(2 * stored + moments + exchange + activations));
}

static Status plan_run(RunConfig *cfg, Config *c, const Arguments *a) {
    long ranks, vocab = PLAN_VOCAB;
    TRY(option_number(&ranks, "ranks", ranks_text, 1, 1 << 20));
    if (vocab_text != NULL) TRY(option_number(&vocab, "vocab", vocab_text, 1, 1 << 24));
    if (a->word_count > 0) TRY(config_read_file(c, a->words[0]));
    if (preset_text != NULL) {
        char setting[TEXT_BYTES];
        snprintf(setting, sizeof setting, "model.preset=%s", preset_text);
        TRY(config_set(c, setting, "--preset"));
    }
    for (int i = 0; i < a->setting_count; i++) TRY(config_set(c, a->settings[i], "command line"));
    TRY(model_config_resolve(&cfg->model, c));
    if (cfg->model.vocab == 0) {
        cfg->model.vocab = (int)vocab;
        log_info("vocabulary not fixed: planning for %d", cfg->model.vocab);
    }
    if (cfg->train.minutes <= 0 && cfg->train.steps == 0)
        cfg->train.steps = 1;  // of no importance here
    TRY(run_config_check(cfg));
    Model m;
    Mesh mesh;
    TRY(mesh_plan(&mesh, &cfg->parallel, (int)ranks, 0));
    Status st = model_open(&m, &cfg->model, &mesh);
    if (st == OK) print_plan(&m, cfg);
    model_close(&m);
    return st;
}

Status cmd_plan(int argc, char **argv) {
    Arguments a;
    TRY(arguments_parse(&a, argc, argv, OPTIONS, OPTION_COUNT));
    if (presets_flag != NULL) {
        model_presets_list(print_preset, NULL);
        return OK;
    }
    RunConfig *cfg = calloc(1, sizeof *cfg);
    ASSERT(cfg != NULL);
    Section sections[RUN_SECTIONS];
    run_config_sections(cfg, sections);
    Config *c = config_new(sections, RUN_SECTIONS);
    Status st = plan_run(cfg, c, &a);
    config_free(c);
    free(cfg);
    return st;
}
