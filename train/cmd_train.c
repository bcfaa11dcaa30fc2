// sterna train: mpirun -n R sterna train CONFIG.yaml [key=value ...]
#include <stdio.h>
#include <stdlib.h>

#include "parallel/agree.h"
#include "parallel/world.h"
#include "train/commands.h"
#include "train/run.h"

void help_train(void) {
    puts("usage: mpirun -n RANKS sterna train CONFIG.yaml [key=value ...]\n\n"
         "Trains until train.steps, or as many steps as fit into train.minutes. The same command "
         "on an\n"
         "existing run directory resumes from its newest valid checkpoint. SIGUSR1, SIGTERM or "
         "SIGHUP saves\nand ends with 75.\n");
    RunConfig *cfg = calloc(1, sizeof *cfg);
    ASSERT(cfg != NULL);
    Section sections[RUN_SECTIONS];
    run_config_sections(cfg, sections);
    config_help(sections, RUN_SECTIONS, HELP_TEXT, stdout);
    free(cfg);
}

Status run_config_read(Config *c, const Arguments *a) {
    if (a->word_count != 1) {
        FAIL(E_USAGE, "sterna train CONFIG.yaml [key=value ...]",
             a->word_count == 0 ? "no configuration file given"
                                : "more than one configuration file");
    }
    TRY(config_read_file(c, a->words[0]));
    for (int i = 0; i < a->setting_count; i++) TRY(config_set(c, a->settings[i], "command line"));
    return OK;
}

Status cmd_train(int argc, char **argv) {
    Arguments a;
    signals_catch();  // a request may come at once
    TRY(parallel_begin(&argc, &argv));
    RunConfig *cfg = calloc(1, sizeof *cfg);
    ASSERT(cfg != NULL);
    Section sections[RUN_SECTIONS];
    run_config_sections(cfg, sections);
    Config *c = config_new(sections, RUN_SECTIONS);
    Status st = arguments_parse(&a, argc, argv, NULL, 0);
    if (st == OK) st = run_config_read(c, &a);
    st = parallel_agree_config(st, c);
    if (st == OK) st = train_run(&LANGUAGE_MODEL, cfg, c);
    config_free(c);
    free(cfg);
    return st;
}
