// A configuration of two small sections in a directory of its own, for the tests of reading and
// writing.
#pragma once

#include <stddef.h>
#include <string.h>

#include "base/config.h"
#include "temp.h"

typedef struct Model {
    int width, offset;
    bool tied;
    Text family, pattern;
} Model;

typedef struct Optim {
    double lr, eps;
    int64_t tokens;
    Text note;
} Optim;

// clang-format off
static const Field MODEL[] = {
    {"model.width", CFG_INT, offsetof(Model, width), 1, 65536, "256", NULL, "channels C", "channels", KEY_FIXED},
    {"model.offset", CFG_INT, offsetof(Model, offset), -2147483648.0, 2147483647, "0", NULL, "any int", "", KEY_FIXED},
    {"model.tied", CFG_BOOL, offsetof(Model, tied), 0, 0, "true", NULL, "shared embedding", "", KEY_FIXED},
    {"model.family", CFG_TEXT, offsetof(Model, family), 0, 0, "tnl", "tnl|llama", "kind of model", "", KEY_FIXED},
    {"model.pattern", CFG_TEXT, offsetof(Model, pattern), 0, 0, "", NULL, "mixers", "", KEY_FIXED},
};
static const Field OPTIM[] = {
    {"optim.lr", CFG_F64, offsetof(Optim, lr), 0, 10, "3e-4", NULL, "peak learning rate", "", KEY_FIXED},
    {"optim.adam.eps", CFG_F64, offsetof(Optim, eps), 0, 1, "1e-8", NULL, "epsilon", "", KEY_FIXED},
    {"optim.tokens", CFG_I64, offsetof(Optim, tokens), 0, 9223372036854775807.0, "1e9", NULL, "length of the run", "tokens", KEY_FIXED},
    {"note", CFG_TEXT, offsetof(Optim, note), 0, 0, "", NULL, "free text", "", KEY_FREE},
};
// clang-format on

typedef struct Setup {
    Model model;
    Optim optim;
    Section sections[2];
    Config *config;
    char dir[PATH_BYTES], path[PATH_BYTES];
} Setup;

static inline void setup_open(Setup *s) {
    s->sections[0] = (Section){MODEL, 5, &s->model};
    s->sections[1] = (Section){OPTIM, 4, &s->optim};
    s->config = config_new(s->sections, 2);
    temp_open(s->dir);
    path_join(s->path, s->dir, "run.yaml");
}

static inline void setup_close(Setup *s) {
    config_free(s->config);
    temp_close(s->dir);
}

static inline Status read_text(Setup *s, const char *yaml) {
    ASSERT_OK(file_write(s->path, yaml, strlen(yaml)));
    return config_read_file(s->config, s->path);
}

static inline Status set(Setup *s, const char *key_value) {
    return config_set(s->config, key_value, "test");
}
