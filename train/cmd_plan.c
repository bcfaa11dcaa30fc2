// sterna plan: what a configuration costs, before anything is allocated.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "parallel/mesh.h"
#include "tensor/threads.h"
#include "train/commands.h"
#include "train/plan.h"
#include "train/start.h"

static const char *ranks_text = "1", *presets_flag, *preset_text, *vocab_text, *memory_text,
                  *threads_option;
static const Option OPTIONS[] = {
    {"ranks", "R", "ranks in all (default 1); parallel.sp and parallel.tp share them out",
     &ranks_text},
    {"memory", "GIB",
     "memory of a rank (default: this machine's, shared by as many ranks as it has cores)",
     &memory_text},
    {"threads", "T",
     "threads of a rank (default: what a run takes: OMP_NUM_THREADS, or cores / ranks)",
     &threads_option},
    {"preset", "NAME", "plan a preset instead of a configuration file", &preset_text},
    {"vocab", "V", "vocabulary where neither file nor preset fixes it (default 32768)",
     &vocab_text},
    {"presets", NULL, "list the presets", &presets_flag},
};
enum { OPTION_COUNT = sizeof OPTIONS / sizeof OPTIONS[0], PLAN_VOCAB = 32768 };
static const double GIB = 1073741824.0;

void help_plan(void) {
    puts("usage: sterna plan [CONFIG.yaml | --preset NAME] [key=value ...] [options]\n\n"
         "Prints parameters, FLOPs and memory per rank by class, and, when that does not fit, "
         "which axis "
         "to enlarge.\nAllocates no tensor. Ends with code 0 whether it fits or not.\n");
    options_print(OPTIONS, OPTION_COUNT);
}

static void print_preset(const char *name, const char *text, void *user) {
    (void)user;
    printf("  %-18s %s\n", name, text);
}

static void print_class(const char *name, int64_t bytes, const char *note) {
    printf("  %-15s %10.4f %18lld%s%s\n", name, (double)bytes / GIB, (long long)bytes,
           note[0] != '\0' ? "   " : "", note);
}

static void print_memory(const Plan *p) {
    const Memory *a = &p->arenas;
    char split[48], divided[48];
    snprintf(split, sizeof split, "1/%d of the split ones", p->mesh.tp);
    snprintf(divided, sizeof divided, "both moments, 1/%d of them",
             p->mesh.zero ? p->mesh.dp * p->mesh.sp : 1);
    printf("memory per rank          GiB              bytes\n");
    print_class("weights", a->weights, split);
    print_class("gradients", a->gradients, "");
    print_class("optimizer", a->optimizer, divided);
    print_class("exchange", a->exchange, "gradients of other ranks");
    print_class("activations", a->activations, "and their gradients, one micro-batch");
    print_class("arenas", memory_total(a), "the sum, reserved by a run");
    print_class("resident", plan_resident(p), "with program, libraries and batch");
}

static void print_plan(const Plan *p, const RunConfig *cfg) {
    const TrainConfig *t = &cfg->train;
    const Mesh *mesh = &p->mesh;
    printf("%s\n", model_dim_summary(&cfg->model));
    printf("parameters        %.*fM\n", p->parameters < 1e9 ? 2 : 1, p->parameters / 1e6);
    printf("FLOPs a token     %.4g (6 x (non-embedding parameters + head))\n", p->flops_per_token);
    printf("mesh              dp %d x sp %d x tp %d = %d rank%s, %d thread%s each\n", mesh->dp,
           mesh->sp, mesh->tp, mesh->size, mesh->size == 1 ? "" : "s", threads_chosen(),
           threads_chosen() == 1 ? "" : "s");
    printf("batch             %lld tokens = %lld sequences of %d; %d a micro-batch\n",
           (long long)t->batch_tokens, (long long)(t->batch_tokens / t->seq), t->seq,
           p->micro_rows);
    print_memory(p);
}

// ---- does it fit -------------------------------------------------------------------------------

// Bytes that a rank may have, and where the figure comes from. A node is taken to run as many ranks
// as it has cores, and to be like this one.
static Status memory_limit(double *bytes, char *origin, size_t capacity, long ranks) {
    if (memory_text != NULL) {
        char *end;
        *bytes = GIB * strtod(memory_text, &end);
        snprintf(origin, capacity, "--memory");
        if (end != memory_text && *end == '\0' && *bytes > 0 && *bytes < 1e18) return OK;
        FAIL(E_USAGE, "GiB of a rank, such as 24 or 1.5", "--memory %s is no size", memory_text);
    }
    long cores = cores_of_machine(), here = ranks < cores ? ranks : cores;
    double all = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    *bytes = all / (double)here;
    snprintf(origin, capacity, "this machine's %.1f GiB, shared by %ld", all / GIB, here);
    return OK;
}

static void print_change(const char *before, const char *verb, const Search *s,
                         const Search *first) {
    char words[256];
    search_words(words, sizeof words, s, first);
    printf("%15s%s%s%s (%.2f GiB a rank, %d rank%s)\n", "", before, words, verb,
           (double)plan_resident(&s->plan) / GIB, s->ranks, s->ranks == 1 ? "" : "s");
}

// Recomputation needs no more ranks, but a third more time: told beside an axis.
static void print_recompute(const Search *first, const Search *found, int64_t limit) {
    Search s = *first;
    s.cfg.model.recompute = true;
    s.cfg.train.micro_rows = first->plan.micro_rows;
    if (first->cfg.model.recompute || found->cfg.model.recompute) return;
    if (plan_make(&s.plan, &LANGUAGE_MODEL, &s.cfg, s.ranks) != OK ||
        plan_resident(&s.plan) > limit)
        return;
    print_change("or ", " does", &s, first);
}

static Status print_verdict(const Plan *p, const RunConfig *cfg) {
    double bytes;
    char origin[96];
    TRY(memory_limit(&bytes, origin, sizeof origin, p->mesh.size));
    int64_t limit = (int64_t)bytes;
    if (plan_resident(p) <= limit) {
        printf("fits           %.1f GiB a rank (%s)\n", bytes / GIB, origin);
        return OK;
    }
    Search *s = malloc(2 * sizeof *s), *first = s + 1;
    ASSERT(s != NULL);
    *first = *s = (Search){.cfg = *cfg, .ranks = p->mesh.size, .plan = *p};
    printf("does not fit   %.1f GiB a rank (%s)\n", bytes / GIB, origin);
    if (search_fit(s, limit)) {
        print_change("", " does", s, first);
        print_recompute(first, s, limit);
    } else {
        print_change("nothing found that does, the nearest is ", "", s, first);
    }
    free(s);
    return OK;
}

// As many as a run of these ranks on this machine takes.
static Status set_threads(long ranks) {
    long threads;
    threads_choose_alone((int)ranks);
    if (threads_option == NULL) return OK;
    TRY(option_number(&threads, "threads", threads_option, 1, 4096));
    omp_set_num_threads((int)threads);
    return OK;
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
    TRY(start_resolve_model(cfg, c));
    if (cfg->model.vocab == 0) {
        cfg->model.vocab = (int)vocab;
        log_info("vocabulary not fixed: planning for %d", cfg->model.vocab);
    }
    if (cfg->train.minutes <= 0 && cfg->train.steps == 0)
        cfg->train.steps = 1;  // of no importance here
    TRY(run_config_check(cfg));
    TRY(set_threads(ranks));
    Plan p;
    TRY(plan_make(&p, &LANGUAGE_MODEL, cfg, (int)ranks));
    print_plan(&p, cfg);
    return print_verdict(&p, cfg);
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
