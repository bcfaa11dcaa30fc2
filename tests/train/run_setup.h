// A RunConfig of key=value words, resolved as a command does it.
#pragma once

#include <criterion/criterion.h>
#include <string.h>

#include "train/run.h"

static RunConfig run_setup(const char *settings) {
    RunConfig cfg = {.train = {.steps = 0}};
    Section sections[RUN_SECTIONS];
    char words[1024], *save = NULL;
    run_config_sections(&cfg, sections);
    Config *c = config_new(sections, RUN_SECTIONS);
    cr_assert_lt(strlen(settings), sizeof words);
    strcpy(words, settings);
    for (char *w = strtok_r(words, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save))
        cr_assert_eq(config_set(c, w, "test"), OK, "%s", err_message());
    cr_assert_eq(model_config_resolve(&cfg.model, c), OK, "%s", err_message());
    config_free(c);
    return cfg;
}
