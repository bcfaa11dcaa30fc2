// sterna mixers: the table of token mixers, and what a layer of each costs in a given model.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "model/mixers/mixers.h"
#include "parallel/mesh.h"
#include "train/commands.h"
#include "train/start.h"

enum { VOCAB = 4096 };  // any: costs do not depend on it

static const char *tokens_text = NULL, *ranks_text = "1";
static const Option OPTIONS[] = {
    {"tokens", "T", "tokens of the document so far (default: train.seq)", &tokens_text},
    {"ranks", "N", "ranks of the mesh (default 1)", &ranks_text},
};
enum { OPTION_COUNT = sizeof OPTIONS / sizeof OPTIONS[0] };

void help_mixers(void) {
    puts("usage: sterna mixers [CONFIG.yaml] [--tokens T] [--ranks N] [model.key=value ...] "
         "[parallel.key=value ...]\n\n"
         "Lists the letters of model.pattern: which tokens each mixer's tokens see, and what one "
         "layer of it\n"
         "costs a rank beside its matrices: forward operations for the last of T tokens, the state "
         "that\n"
         "generation keeps, and what the forward pass of a row sends over the sp axis, in how many "
         "rounds.\n");
    options_print(OPTIONS, OPTION_COUNT);
}

static void print_bytes(double bytes) {
    static const char *const UNITS[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int u = 0;
    for (; bytes >= 10240 && u < 4; u++) bytes /= 1024;
    print_result(" %7.0f %-3s", bytes, UNITS[u]);
}

// A model of one layer of this mixer.
static Status print_mixer(const MixerOps *mixer, const RunConfig *cfg, const Mesh *mesh, int T) {
    ModelConfig c = cfg->model;
    MixerCosts costs;
    Model m;
    c.preset[0] = '\0';
    c.layers = 1;
    memset(c.pattern, 0, sizeof c.pattern);
    c.pattern[0] = mixer->letter;
    snprintf(c.lrpe, sizeof c.lrpe, "none");
    Status st = model_config_resolve(&c, NULL);
    if (st == OK) st = model_open(&m, &c, mesh);
    print_result("%c  %-14s", mixer->letter, mixer->name);
    if (st != OK) {
        print_result("  does not fit: %s\n", err_message());
        err_clear();
        return OK;
    }
    mixer->costs(&costs, &m, &m.layers[0], T);
    print_result(" %12.0f", costs.flops);
    print_bytes(costs.state);
    print_bytes(costs.exchanged);
    print_result(" %6d  %s\n", costs.rounds, mixer->mixes);
    model_close(&m);
    return OK;
}

static Status read_all(RunConfig *cfg, Config *c, const Arguments *a) {
    if (a->word_count > 1)
        FAIL(E_USAGE, "`sterna mixers --help` shows how", "more than one configuration is given");
    if (a->word_count > 0) TRY(config_read_file(c, a->words[0]));
    for (int i = 0; i < a->setting_count; i++) TRY(config_set(c, a->settings[i], "command line"));
    TRY(start_resolve_model(cfg, c));
    if (cfg->model.vocab == 0) cfg->model.vocab = VOCAB;
    return OK;
}

static Status mixers_run(RunConfig *cfg, Config *c, const Arguments *a) {
    long ranks, T;
    Mesh mesh;
    TRY(option_number(&ranks, "ranks", ranks_text, 1, 1 << 20));
    TRY(read_all(cfg, c, a));
    T = cfg->train.seq;
    if (tokens_text != NULL) TRY(option_number(&T, "tokens", tokens_text, 1, 1 << 30));
    TRY(mesh_plan(&mesh, &cfg->parallel, (int)ranks, 0));
    print_result("width %d, heads %d of %d, key/value heads %d; %ld tokens; sp %d, tp %d\n\n",
                 cfg->model.width, cfg->model.heads, cfg->model.head_size, cfg->model.kv_heads, T,
                 mesh.sp, mesh.tp);
    print_result("   %-14s %12s %11s %11s %6s  %s\n", "mixer", "FLOPs/token", "state", "sent",
                 "rounds", "a token sees");
    for (const MixerOps *const *mixer = mixers(); *mixer != NULL; mixer++)
        TRY(print_mixer(*mixer, cfg, &mesh, (int)T));
    return OK;
}

Status cmd_mixers(int argc, char **argv) {
    Arguments a;
    TRY(arguments_parse(&a, argc, argv, OPTIONS, OPTION_COUNT));
    RunConfig *cfg = calloc(1, sizeof *cfg);
    ASSERT(cfg != NULL);
    Section sections[RUN_SECTIONS];
    run_config_sections(cfg, sections);
    Config *c = config_new(sections, RUN_SECTIONS);
    Status st = mixers_run(cfg, c, &a);
    config_free(c);
    free(cfg);
    return st;
}
